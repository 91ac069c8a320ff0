"""Inputs of a quiet straight drive, for tests to spoil one value of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adawm_planner.data_types import Objects, Route, VehicleInfo
from adawm_planner.observation.route import route_from_points
from adawm_planner.runtime.frame_inputs import FrameInputs, ObjectsInput, OdometryInput, StatusInput

FRAME_NS = 50_000_000
TOPICS = {
    name: f"/carla/ego_vehicle/{name}"
    for name in ("odometry", "objects", "vehicle_status", "waypoints", "vehicle_info", "world_info")
}
VEHICLE = VehicleInfo(max_steer=0.6, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)
SPEED = 5.0


def straight_route(length: int = 100) -> Route:
    """A route along x."""
    x = np.arange(float(length + 1))
    return route_from_points(x, np.zeros_like(x))


def objects(*rows: tuple[float, ...]) -> Objects:
    """Objects from rows of x, y, yaw, vx, vy, length, width; none of them turns."""
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 7).T
    return Objects(np.arange(len(rows), dtype=np.int64) + 10, *columns[:5], np.zeros(len(rows)), *columns[5:])


def odometry(k: int, **changes: Any) -> OdometryInput:
    """Frame k of a drive along x at SPEED."""
    x = 1.0 + SPEED * 0.05 * k
    return replace(OdometryInput(k * FRAME_NS, "map", x, 0.0, 0.0, 1.0, SPEED, 0.0, 0.0, 0.0), **changes)


def status(k: int, **changes: Any) -> StatusInput:
    """The vehicle status that goes with `odometry`."""
    return replace(StatusInput(k * FRAME_NS, "map", SPEED, 0.0, 0.0), **changes)


def others(k: int, *rows: tuple[float, ...], frame_id: str = "map") -> ObjectsInput:
    """Other vehicles at frame k."""
    return ObjectsInput(k * FRAME_NS, frame_id, objects(*rows))


def frame(k: int, **changes: Any) -> FrameInputs:
    """A whole frame; `changes` replace parts."""
    return replace(FrameInputs(k * FRAME_NS, 0.05 * k, odometry(k), status(k), others(k)), **changes)
