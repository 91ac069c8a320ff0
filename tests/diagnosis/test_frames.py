"""Frames, agreement and handedness on a circle whose every rate is known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.diagnosis.check import Check
from adawm_planner.diagnosis.frames import Header, Heard, Motion, Status, Transform, judge_frames

ROLE = "ego_vehicle"
SPEED, RADIUS, STEP_S = 6.0, 15.0, 0.05
HEADERS = (
    Header("/carla/ego_vehicle/odometry", "map", ROLE),
    Header("/carla/ego_vehicle/vehicle_status", "map"),
    Header("/carla/ego_vehicle/imu", f"{ROLE}/imu"),
)


def circle(left: bool = True, start_yaw: float = 0.9, count: int = 40) -> Heard:
    """A car on a circle: yaw rate v / R, the pose its integral, steer against the turn's sign."""
    sign = 1.0 if left else -1.0
    rate = sign * SPEED / RADIUS
    odometry, status, imu, transforms = [], [], [], []
    for k in range(count):
        t = k * STEP_S
        yaw = start_yaw + rate * t
        x = (SPEED / rate) * (math.sin(yaw) - math.sin(start_yaw))
        y = -(SPEED / rate) * (math.cos(yaw) - math.cos(start_yaw))
        odometry.append(Motion(t, x, y, yaw, SPEED, 0.0, rate))
        status.append(Status(t, yaw, -sign * 0.3, SPEED))
        imu.append((t, rate))
        transforms.append(Transform("map", ROLE, t, x, y, yaw))
    transforms.append(Transform(ROLE, f"{ROLE}/imu", 0.0, 2.0, 0.0, 0.0))
    return Heard(ROLE, HEADERS, odometry, status, imu, transforms)


def found(heard: Heard) -> list[tuple[str, str]]:
    return [(one.name, one.subject) for one in judge_frames(heard) if not one.ok]


def only(heard: Heard) -> Check:
    (one,) = [one for one in judge_frames(heard) if not one.ok]
    return one


@given(left=st.booleans(), start_yaw=st.floats(-math.pi, math.pi))
def test_a_right_handed_car_is_fine_whichever_way_it_turns(left: bool, start_yaw: float) -> None:
    heard = circle(left, start_yaw)
    assert found(heard) == []
    assert sum("agreement +1.00" in one.found for one in judge_frames(heard)) == 3


@given(left=st.booleans())
def test_every_mirrored_sign_is_found_alone(left: bool) -> None:
    heard = circle(left)
    imu = replace(heard, imu=[(t, -rate) for t, rate in heard.imu])
    assert only(imu).name == "imu_mirrored" and "agreement -1.00" in only(imu).found
    steer = replace(heard, status=[replace(one, steer=-one.steer) for one in heard.status])
    assert only(steer).name == "steer_mirrored"


def test_a_pose_in_carlas_left_handed_axes_is_found() -> None:
    heard = circle()
    mirrored = [replace(one, y=-one.y, yaw=-one.yaw) for one in heard.odometry]
    names = {name for name, _ in found(replace(heard, odometry=mirrored))}
    assert {"yaw_mirrored", "pose_differs", "heading_differs"} <= names
    rates_too = [replace(one, yaw_rate=-one.yaw_rate) for one in mirrored]
    names = {name for name, _ in found(replace(heard, odometry=rates_too))}
    assert {"imu_mirrored", "steer_mirrored", "pose_differs"} <= names and "yaw_mirrored" not in names


def test_a_twist_in_map_axes_is_found_and_recognised() -> None:
    heard = circle()
    in_map = [replace(one, vx=SPEED * math.cos(one.yaw), vy=SPEED * math.sin(one.yaw)) for one in heard.odometry]
    one = only(replace(heard, odometry=in_map))
    assert one.name == "twist_in_map_axes" and "when read in map axes" in one.found


def test_a_twist_that_is_not_filled_is_found_and_no_curve_is_asked_for() -> None:
    heard = circle()
    empty = replace(heard, odometry=[replace(one, vx=0.0, vy=0.0, yaw_rate=0.0) for one in heard.odometry])
    checks = judge_frames(empty)
    assert [one.name for one in checks] == ["twist_not_filled", "twist_not_filled"]
    assert "linear twist is 0 at 6.0 m/s" in checks[0].found and "turns by 0.40 rad/s" in checks[1].found
    still = replace(heard, odometry=[replace(one, yaw_rate=0.0) for one in heard.odometry])
    assert only(still).name == "twist_not_filled" and "angular" in only(still).found


def test_a_twist_too_small_to_be_driven_is_found() -> None:
    heard = circle()
    slow = replace(heard, odometry=[replace(one, vx=0.1 * one.vx) for one in heard.odometry])
    assert only(slow).name == "twist_in_map_axes" and "5.4 m/s off" in only(slow).found


def test_a_car_that_stands_with_a_pose_that_trembles_or_is_placed_anew_has_no_empty_twist() -> None:
    stands = [Motion(k * STEP_S, 0.2 * (k % 2), 0.0, 0.02 * (k % 2), 0.0, 0.0, 0.0) for k in range(40)]
    assert found(Heard(ROLE, odometry=stands)) == []
    placed = [Motion(k * STEP_S, 50.0 * (k > 20), 0.0, 0.0, 0.0, 0.0, 0.0) for k in range(40)]
    assert found(Heard(ROLE, odometry=placed)) == []


def test_degrees_are_found() -> None:
    heard = circle()
    one = only(replace(heard, imu=[(t, math.degrees(rate)) for t, rate in heard.imu]))
    assert one.name == "yaw_rate_unit" and "57.3" in one.found


def test_tf_and_odometry_must_place_the_ego_alike() -> None:
    heard = circle()
    moved = [replace(one, x=one.x + 2.0) if one.child == ROLE else one for one in heard.transforms]
    one = only(replace(heard, transforms=moved))
    assert one.name == "pose_differs" and "2.00 m" in one.found


def test_header_frames_are_those_of_the_interface() -> None:
    heard = circle()
    headers = (*HEADERS[:1], Header("/carla/ego_vehicle/vehicle_status", "odom"), *HEADERS[2:])
    assert ("frame_differs", "/carla/ego_vehicle/vehicle_status") in found(replace(heard, headers=headers))
    child = (replace(HEADERS[0], child="base_link"), *HEADERS[1:])
    assert ("frame_differs", "/carla/ego_vehicle/odometry") in found(replace(heard, headers=child))


def test_a_frame_that_tf_does_not_know_is_a_warning() -> None:
    heard = circle()
    lonely = replace(heard, transforms=[one for one in heard.transforms if one.child == ROLE])
    one = only(lonely)
    assert (one.name, one.subject, one.level) == ("frame_not_in_tf", f"{ROLE}/imu", "warning")


@pytest.mark.parametrize("count", [0, 5])
def test_a_sign_that_cannot_be_judged_is_not_called_right(count: int) -> None:
    checks = judge_frames(replace(circle(count=count), headers=()))
    assert all(one.ok for one in checks)
    assert not any("agreement" in one.found for one in checks)
    assert sum("not judged" in one.found for one in checks) == (3 if count else 0)


def test_a_jump_in_time_or_place_is_no_motion() -> None:
    heard = circle()
    later = [replace(one, stamp_s=one.stamp_s + 100.0, x=one.x + 500.0) for one in heard.odometry]
    assert found(replace(heard, odometry=[*heard.odometry, *later], transforms=[*heard.transforms])) == []
