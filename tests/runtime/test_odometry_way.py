"""The way between odometry's places against the integral of its speed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.data_types import Objects
from adawm_planner.runtime.frame_inputs import FrameInputs, ObjectsInput, OdometryInput, StatusInput
from adawm_planner.runtime.odometry_way import WayCheck

NOBODY = Objects(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(7)))


def _frame(k: int, x: float, y: float, speed: float) -> FrameInputs:
    stamp = k * 50_000_000
    odometry = OdometryInput(stamp, "map", x, y, 0.0, 1.0, speed, 0.0, 0.0, 0.0)
    return FrameInputs(
        stamp, 0.0, odometry, StatusInput(stamp, "map", speed, 0.0, 0.0), ObjectsInput(stamp, "map", NOBODY)
    )


@pytest.mark.parametrize("acceleration", [-8.0, 0.0, 4.0])
def test_a_vehicle_that_moves_as_it_says_is_believed(acceleration: float) -> None:
    check = WayCheck(0.01)
    for k in range(30):
        t = 0.05 * k
        assert check.add(_frame(k, 14.0 * t + 0.5 * acceleration * t * t, 0.0, 14.0 + acceleration * t)) == ""


def test_a_bend_at_the_limit_of_grip_is_believed() -> None:
    check, speed, radius = WayCheck(1.0), 8.0, 10.0
    for k in range(60):
        angle = speed * 0.05 * k / radius
        assert check.add(_frame(k, radius * math.sin(angle), radius * (1.0 - math.cos(angle)), speed)) == ""


def test_a_place_that_is_stuck_is_told_once_the_way_is_over_the_limit() -> None:
    check = WayCheck(1.0)
    lines = [check.add(_frame(k, 0.0, 0.0, 10.0)) for k in range(4)]
    assert lines[:3] == ["", "", ""]
    assert lines[3] == ("odometry: its place moved 0.00 m in 0.15 s and its speed says 1.50 m, at most 1 m apart")


def test_a_place_that_creeps_while_the_vehicle_stands_is_told_within_a_second_or_never() -> None:
    check = WayCheck(1.0)
    assert any(check.add(_frame(k, 0.06 * k, 0.0, 0.0)) for k in range(30))
    check.restart()
    assert not any(check.add(_frame(k, 0.04 * k, 0.0, 0.0)) for k in range(60))


def test_a_vehicle_that_is_placed_elsewhere_begins_anew() -> None:
    check = WayCheck(1.0)
    assert check.add(_frame(0, 0.0, 0.0, 0.0)) == ""
    check.restart()
    assert check.add(_frame(1, 80.0, 0.0, 0.0)) == ""
