"""Small worlds for the gate's tests: a nominal vehicle at the origin on a straight road along x."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adawm_planner.data_types import Command, EgoState, Objects, Route, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.safety.gate import Heard
from adawm_planner.safety.inputs import Proposal, Reading

VEHICLE = VehicleInfo(max_steer=0.61, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)
ROUTE: Route = route_from_points(np.arange(-50.0, 200.0), np.zeros(250))
THROTTLE = Command(throttle=0.25)
LENGTH, WIDTH = 4.5, 1.8


def ego(speed: float = 8.0, **other: float) -> EgoState:
    """Drive along x; other fields by name."""
    return replace(EgoState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0), **other)


def objects(*rows: tuple[float, float, float, float]) -> Objects:
    """Cars given by x, y [m], heading [rad] and speed along it [m/s]; their ids are 7, 8, ..."""
    x, y, yaw, speed = np.array(rows, dtype=np.float64).reshape(len(rows), 4).T
    ones = np.ones(len(rows))
    ids = np.arange(7, 7 + len(rows))
    return Objects(ids, x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), LENGTH * ones, WIDTH * ones)


def reading(**given: Any) -> Reading:
    """Return a reading of an empty road at 8 m/s, but for the fields given."""
    return Reading(**{"ego": ego(), "objects": objects(), "vehicle": VEHICLE, "route": ROUTE} | given)


def heard(command: Command | None = THROTTLE, **given: Any) -> Heard:
    """Return what is heard at a frame; `Heard`'s own fields by name, the rest is the reading's."""
    own = {name: given.pop(name) for name in ("elapsed_s", "overridden", "release", "proposal") if name in given}
    proposal = own.pop("proposal", None if command is None else Proposal(command))
    return Heard(reading(**given), proposal, own.pop("elapsed_s", FRAME_S), **own)
