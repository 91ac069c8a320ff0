"""Small scenes made by hand."""

from __future__ import annotations

import numpy as np

from adawm_planner.data_types import EgoState, Objects, Scene, VehicleInfo
from adawm_planner.observation.route import route_from_points

VEHICLE = VehicleInfo(max_steer=0.61, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)


def objects(*rows: tuple[float, float, float, float, float]) -> Objects:
    """Cars from rows of x, y [m], yaw [rad], vx, vy [m/s]."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    size = np.ones(len(rows))
    return Objects(np.arange(1, len(rows) + 1), *table, 0.0 * size, 4.5 * size, 1.8 * size)


def scene(ego: EgoState | None = None, others: Objects | None = None) -> Scene:
    """A straight road along x without a map, the ego at 20 m."""
    route = route_from_points(np.arange(0.0, 121.0), np.zeros(121))
    ego = ego or EgoState(20.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0)
    return Scene(1.0, ego, others if others is not None else objects(), route, None, VEHICLE)
