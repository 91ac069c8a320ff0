"""The way between odometry's places against the integral of its speed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.data_types import Objects
from adawm_planner.runtime.frame_inputs import FrameInputs, ObjectsInput, OdometryInput, StatusInput
from adawm_planner.runtime.odometry_way import WayCheck

NOBODY = Objects(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(8)))


def _frame(
    k: int, x: float, y: float, speed: float, lateral: float = 0.0, yaw: float = 0.0, yaw_rate: float = 0.0
) -> FrameInputs:
    stamp = k * 50_000_000
    odometry = OdometryInput(stamp, "map", x, y, yaw, 1.0, speed, lateral, 0.0, yaw_rate)
    return FrameInputs(
        stamp, 0.0, odometry, StatusInput(stamp, "map", speed, 0.0, 0.0), ObjectsInput(stamp, "map", NOBODY)
    )


@pytest.mark.parametrize("acceleration", [-8.0, 0.0, 4.0])
def test_a_vehicle_that_moves_as_it_says_is_believed(acceleration: float) -> None:
    check = WayCheck(0.01, 0.01)
    for k in range(30):
        t = 0.05 * k
        assert check.add(_frame(k, 14.0 * t + 0.5 * acceleration * t * t, 0.0, 14.0 + acceleration * t)) == ""


def bend(k: int, lateral: float = 0.0, yaw_rate_unit: float = 1.0) -> FrameInputs:
    """A left bend at 8 m/s with a radius of 10 m, for ever; `lateral` turns the velocity out of the body's x axis."""
    angle = 8.0 * 0.05 * k / 10.0
    place = 10.0 * math.sin(angle), 10.0 * (1.0 - math.cos(angle))
    yaw = math.remainder(angle - math.atan2(lateral, 8.0), math.tau)
    return _frame(k, *place, math.sqrt(64.0 - lateral**2), lateral, yaw, 0.8 * yaw_rate_unit)


def test_a_bend_at_the_limit_of_grip_is_believed_all_the_way_round() -> None:
    check = WayCheck(0.01, 0.01)
    assert not any(check.add(bend(k)) for k in range(400))


def test_a_vehicle_that_slides_is_believed() -> None:
    check = WayCheck(0.1, 0.01)
    assert not any(check.add(bend(k, lateral=0.8)) for k in range(60))


def test_a_place_that_is_stuck_is_told_once_the_way_is_over_the_limit() -> None:
    check = WayCheck(1.0, 0.2)
    lines = [check.add(_frame(k, 0.0, 0.0, 10.0)) for k in range(4)]
    assert lines[:3] == ["", "", ""]
    assert lines[3].startswith(
        "odometry: its place moved by (0.00, 0.00) m in 0.15 s and its velocity says (1.50, 0.00) m, at most 1 m apart"
    )


@pytest.mark.parametrize("yaw", [math.pi, 0.5 * math.pi])
def test_a_twist_in_the_axes_of_the_map_is_told(yaw: float) -> None:
    """It has the true length; heading west it would say that the vehicle reverses, north that it stands."""
    check, along = WayCheck(1.0, 0.2), (math.cos(yaw), math.sin(yaw))
    lines = [
        check.add(_frame(k, 0.7 * k * along[0], 0.7 * k * along[1], 14 * along[0], 14 * along[1], yaw))
        for k in range(4)
    ]
    assert any("is the twist in the vehicle's axes" in line for line in lines)


@pytest.mark.parametrize("unit", [math.degrees(1.0), -1.0, 0.0])
def test_a_yaw_rate_in_degrees_or_to_the_wrong_side_is_told(unit: float) -> None:
    check = WayCheck(1.0, 0.2)
    lines = [check.add(bend(k, yaw_rate_unit=unit)) for k in range(20)]
    assert any("is the rate in rad/s and positive to the left" in line for line in lines)


def test_a_place_that_creeps_while_the_vehicle_stands_is_told_within_a_second_or_never() -> None:
    check = WayCheck(1.0, 0.2)
    assert any(check.add(_frame(k, 0.06 * k, 0.0, 0.0)) for k in range(30))
    check.restart()
    assert not any(check.add(_frame(k, 0.04 * k, 0.0, 0.0)) for k in range(60))


def test_a_vehicle_that_is_placed_elsewhere_begins_anew() -> None:
    check = WayCheck(1.0, 0.2)
    assert check.add(_frame(0, 0.0, 0.0, 0.0)) == ""
    check.restart()
    assert check.add(_frame(1, 80.0, 0.0, 0.0)) == ""
