"""Small worlds for the gate's tests: a nominal vehicle at the origin on a straight road along x."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from adawm_planner.data_types import Command, EgoState, Objects, Route, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.safety.gate import Heard
from adawm_planner.safety.inputs import Late, Proposal, Reading
from adawm_planner.safety.verdict import Rule

VEHICLE = VehicleInfo(max_steer=0.61, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)
ROUTE: Route = route_from_points(np.arange(-50.0, 200.0), np.zeros(250))
THROTTLE = Command(throttle=0.25)
LENGTH, WIDTH = 4.5, 1.8


def ego(speed: float = 8.0, **other: float) -> EgoState:
    """Drive along x; other fields by name."""
    return replace(EgoState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0), **other)


def objects(*rows: tuple[float, float, float, float], turning: float = 0.0) -> Objects:
    """Cars given by x, y [m], heading [rad] and speed along it [m/s], all turning alike [rad/s]; ids are 7, 8, ..."""
    x, y, yaw, speed = np.array(rows, dtype=np.float64).reshape(len(rows), 4).T
    ones = np.ones(len(rows))
    ids = np.arange(7, 7 + len(rows))
    return Objects(
        ids, x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), turning * ones, LENGTH * ones, WIDTH * ones
    )


def reading(**given: Any) -> Reading:
    """Return a reading of an empty road at 8 m/s, but for the fields given."""
    return Reading(**{"ego": ego(), "objects": objects(), "vehicle": VEHICLE, "route": ROUTE} | given)


def heard(command: Command | None = THROTTLE, **given: Any) -> Heard:
    """Return what is heard at a frame; `Heard`'s own fields by name, the rest is the reading's."""
    own = {name: given.pop(name) for name in ("elapsed_s", "overridden", "release", "proposal") if name in given}
    proposal = own.pop("proposal", None if command is None else Proposal(command))
    return Heard(reading(**given), proposal, own.pop("elapsed_s", FRAME_S), **own)


BREACHES: dict[Rule, Heard] = {
    Rule.PROPOSAL_MISSING: heard(proposal=Proposal(THROTTLE, age_s=1.0)),
    Rule.PROPOSAL_NOT_FINITE: heard(Command(throttle=math.nan)),
    Rule.PROPOSAL_REPEATED: heard(proposal=Proposal(THROTTLE, frames=9)),
    Rule.PROPOSAL_REVERSE: heard(Command(throttle=0.25, reverse=True)),
    Rule.COMMAND_RANGE: heard(Command(throttle=-0.5)),
    Rule.ACCELERATION: heard(Command(throttle=1.0)),
    Rule.JERK: heard(Command(brake=1.0)),
    Rule.STEER_RATE: heard(Command(throttle=0.25, steer=0.2)),
    Rule.LATERAL_ACCELERATION: heard(Command(throttle=0.25, steer=0.1), ego=ego(19.0)),
    Rule.SPEED: heard(ego=ego(21.0)),
    Rule.OVERSPEED: heard(ego=ego(23.0)),
    Rule.INPUT_STALE: heard(late=(Late("objects", 0.4, 0.1),)),
    Rule.INPUT_INVALID: heard(ego=ego(x=math.nan)),
    Rule.RSS_SAME_DIRECTION: heard(objects=objects((12.0, 0.0, 0.0, 6.0)), ego=ego(10.0)),
    Rule.RSS_OPPOSITE_DIRECTION: heard(objects=objects((28.0, 0.0, math.pi, 10.0)), ego=ego(10.0)),
    Rule.BRAKING_DISTANCE: heard(objects=objects((8.0, 0.0, 0.0, 0.0))),
    Rule.ROUTE_MISSING: heard(route=None),
    Rule.ROUTE_DEPARTURE: heard(ego=ego(y=4.0)),
    Rule.ROUTE_HEADING: heard(ego=ego(yaw=2.0)),
}
"""One frame that breaks each rule."""
