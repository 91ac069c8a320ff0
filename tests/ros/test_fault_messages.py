"""The campaign's messages: sound ones make a frame that nobody complains of, spoilt ones are wrong in one thing."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from rclpy.serialization import serialize_message

from adawm_planner.data_types import Command, EgoState
from adawm_planner.faults.table import CLOCK, PROPOSALS, STREAMS, WORLD, Fault, find
from adawm_planner.ros import convert
from adawm_planner.ros.fault_messages import edit_of, frame_messages, route_message, vehicle_message
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE, FrameInputs
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.simulator.tasks import load_vehicle

EGO = EgoState(50.0, 0.5, 0.01, 10.0, 0.1, 0.02, 1.0)
STAMP_NS = 100_050_000_000


def _messages() -> dict[str, Any]:
    return frame_messages(3, STAMP_NS, EGO, 110.0, 10.0)


def _edited(fault: Fault, topic: str) -> Any:
    others = {
        ROUTE: route_message,
        VEHICLE: lambda: vehicle_message(load_vehicle("nominal").info),
        PROPOSALS: lambda: convert.control_message(Command(throttle=0.5), STAMP_NS),
    }
    sound = others[topic]() if topic in others else _messages()[topic]
    before = repr(sound)
    changed = edit_of(fault, topic)(sound)
    assert repr(sound) == before  # a frozen topic sends the sound one again
    return changed


def test_a_sound_frame_is_one() -> None:
    found = _messages()
    assert tuple(found) == STREAMS
    parts = (convert.odometry_input(found[ODOMETRY]), convert.status_input(found[STATUS]))
    frame = FrameInputs(STAMP_NS, 0.0, *parts, convert.objects_input(serialize_message(found[OBJECTS])))
    vehicle = convert.vehicle_info(vehicle_message(load_vehicle("nominal").info), 4.7, 1.85)
    topics = {name: name for name in (ODOMETRY, OBJECTS, STATUS, ROUTE, "vehicle_info")}
    route = convert.route_from_path(serialize_message(route_message()))
    assert InputMonitor(InputLimits(), topics).check_frame(frame, route, vehicle, None) == ()
    ego = frame.ego()
    assert (ego.x, ego.y, ego.speed, ego.yaw_rate) == (50.0, 0.5, 10.0, 0.02)
    assert ego.acceleration == pytest.approx(1.0)
    assert vehicle == load_vehicle("nominal").info
    assert not found[WORLD].synchronous_mode and convert.stamp_to_ns(found[CLOCK].clock) == STAMP_NS


def test_wrong_values_and_places() -> None:
    assert math.isnan(_edited(find("odometry_nan"), ODOMETRY).pose.pose.position.y)
    assert math.isnan(_edited(find("vehicle_status_nan"), STATUS).velocity)
    assert math.isnan(_edited(find("objects_nan"), OBJECTS).objects[0].pose.position.x)
    assert _edited(find("odometry_place"), ODOMETRY).pose.pose.position.y == 50.5
    assert _edited(find("objects_place"), OBJECTS).objects[0].pose.position.x == 58.0
    assert _edited(find("vehicle_status_place"), STATUS).velocity == pytest.approx(20.0, abs=0.01)
    assert _edited(find("objects_wrong_frame"), OBJECTS).header.frame_id == "base_link"
    assert {pose.pose.position.y for pose in _edited(find("waypoints_place"), ROUTE).poses} == {50.0}


@pytest.mark.parametrize("topic", [ODOMETRY, OBJECTS, STATUS])
@pytest.mark.parametrize(("name", "seconds"), [("everything_time_forward", 10), ("everything_time_backward", -10)])
def test_stamps_are_shifted(name: str, seconds: int, topic: str) -> None:
    shifted = _edited(find(name), topic)
    assert convert.stamp_to_ns(shifted.header.stamp) - STAMP_NS == seconds * 1_000_000_000
    assert convert.stamp_to_ns(_edited(find(name), CLOCK).clock) - STAMP_NS == seconds * 1_000_000_000


def test_a_description_that_no_vehicle_has_is_refused() -> None:
    for name, problem in (("vehicle_info_nan", "wheelbase is nan"), ("vehicle_info_place", "wheelbase is 10")):
        with pytest.raises(ValueError, match=problem):
            convert.vehicle_info(_edited(find(name), VEHICLE), 4.7, 1.85)


def test_proposals_without_a_number_of_another_frame_and_time() -> None:
    assert math.isnan(_edited(find("proposal_nan"), PROPOSALS).throttle)
    assert _edited(find("proposal_wrong_frame"), PROPOSALS).header.frame_id == "base_link"
    behind = _edited(find("proposal_time_backward"), PROPOSALS)
    assert convert.stamp_to_ns(behind.header.stamp) == STAMP_NS - 10_000_000_000 and behind.throttle == 0.5


def test_a_route_that_is_stamped_otherwise_is_the_same_route() -> None:
    for name, seconds in (("waypoints_time_forward", 10), ("waypoints_time_backward", -10)):
        shifted = _edited(find(name), ROUTE)
        assert shifted.header.stamp.sec == seconds and shifted.poses == route_message().poses


@pytest.mark.parametrize("name", ["world_status_paused", "everything_paused"])
def test_a_world_that_says_it_is_paused(name: str) -> None:
    assert convert.world_clock(_edited(find(name), WORLD)).paused


def test_a_stuck_place_stays_and_the_stamp_goes_on() -> None:
    edit = edit_of(find("odometry_stuck"), ODOMETRY)
    first = edit(_messages()[ODOMETRY])
    later = edit(frame_messages(4, 2 * STAMP_NS, EgoState(60.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0), 110.0, 10.0)[ODOMETRY])
    assert (later.pose.pose.position.x, later.twist.twist.linear.x) == (first.pose.pose.position.x, 12.0)
    assert convert.stamp_to_ns(later.header.stamp) == 2 * STAMP_NS


def test_what_has_no_value_to_spoil_is_refused() -> None:
    with pytest.raises(ValueError, match="clock has no value to spoil with nan"):
        edit_of(find("odometry_nan"), CLOCK)(_messages()[CLOCK])
