"""Every kind of input that cannot be trusted is found and named."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from adawm_planner.runtime.frame_inputs import FrameAssembler
from adawm_planner.runtime.input_monitor import FAULTS, Fault, InputLimits, InputMonitor, fault_table
from tests.runtime.inputs import TOPICS, VEHICLE, frame, odometry, others, status, straight_route

LIMITS = InputLimits()
MONITOR = InputMonitor(LIMITS, TOPICS)
CAR = (20.0, 0.0, 0.0, 5.0, 0.0, 4.5, 1.8)


def faults_of(**changes: Any) -> tuple[Fault, ...]:
    return MONITOR.check_frame(frame(2, **changes), straight_route(), VEHICLE, frame(1))


def test_every_rule_in_the_code_is_in_the_table_and_the_docs_hold_it() -> None:
    package = Path(__file__).resolve().parents[2] / "adawm_planner"
    code = "".join((package / "runtime" / f"{name}.py").read_text() for name in ("input_monitor", "planner_loop"))
    assert set(re.findall(r'[fF]ault\("(\w+)"', code)) == set(FAULTS)
    page = (package.parent / "docs" / "planner_node.md").read_text(encoding="utf-8")
    assert fault_table() in page
    for name, row in FAULTS.items():
        assert Fault(name, "/topic", 0.5, 0.25, "5 m, limit 2 m").line() == (
            f"{name}: /topic (age 0.500 s, limit 0.250 s): 5 m, limit 2 m; {row.action}"
        )


def test_quiet_drive_has_no_fault() -> None:
    assert faults_of() == ()
    assert faults_of(objects=others(2, CAR)) == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["x", "y", "yaw", "quaternion_norm", "speed", "lateral_speed", "vertical_speed", "yaw_rate"]
)
def test_odometry_that_is_not_finite(name: str, value: float) -> None:
    (fault,) = faults_of(odometry=odometry(2, **{name: value}))
    assert fault.rule == "not_finite" and fault.topic == TOPICS["odometry"] and name in fault.text


@pytest.mark.parametrize("name", ["speed", "acceleration_x", "acceleration_y"])
def test_status_that_is_not_finite(name: str) -> None:
    (fault,) = faults_of(status=status(2, **{name: math.nan}))
    assert fault.rule == "not_finite" and fault.topic == TOPICS["vehicle_status"] and name in fault.text


@pytest.mark.parametrize("column", range(7))
def test_object_that_is_not_finite_is_named_by_id(column: int) -> None:
    bad = tuple(math.nan if i == column else value for i, value in enumerate(CAR))
    (fault,) = faults_of(objects=others(2, CAR, bad))
    assert fault.rule == "not_finite" and fault.topic == TOPICS["objects"] and "object 11" in fault.text


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_object_without_size(size: float) -> None:
    (fault,) = faults_of(objects=others(2, (*CAR[:6], size)))
    assert fault.topic == TOPICS["objects"] and "must be larger than 0" in fault.text


@pytest.mark.parametrize("part", ["odometry", "objects", "status"])
def test_wrong_frame(part: str) -> None:
    made = {"odometry": odometry(2, frame_id="odom"), "objects": others(2, frame_id="odom")}
    (fault,) = faults_of(**{part: made.get(part, status(2, frame_id="odom"))})
    assert fault.rule == "wrong_frame" and "'odom'" in fault.text and "'map'" in fault.text


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"odometry": odometry(2, y=10.5)}, "waypoints"),
        ({"odometry": odometry(2, quaternion_norm=0.0)}, "odometry"),
        ({"odometry": odometry(2, speed=80.0), "status": status(2, speed=80.0)}, "odometry"),
        ({"status": status(2, speed=0.0)}, "vehicle_status"),
    ],
)
def test_contradiction_names_topic_and_limit(changes: dict[str, Any], topic: str) -> None:
    (fault,) = faults_of(**changes)
    assert fault.rule == "contradictory" and fault.topic == TOPICS[topic] and "limit" in fault.text


@pytest.mark.parametrize(("y", "found"), [(9.9, 0), (10.1, 1)])
def test_route_distance_limit_is_exact(y: float, found: int) -> None:
    assert len(faults_of(odometry=odometry(2, y=y))) == found


def test_far_beyond_the_routes_end_is_off_the_route() -> None:
    far = MONITOR.check_frame(frame(2, odometry=odometry(2, x=115.0)), straight_route(), VEHICLE, None)
    assert [fault.rule for fault in far] == ["contradictory"]


def test_missing_route_and_vehicle_are_both_named() -> None:
    found = MONITOR.check_frame(frame(2), None, None, None)
    assert [fault.topic for fault in found] == [TOPICS["vehicle_info"], TOPICS["waypoints"]]
    assert all(fault.rule == "input_missing" and math.isinf(fault.age_s) for fault in found)
    assert "never received" in found[0].line()


def test_without_route_and_vehicle_the_frame_is_judged_all_the_same() -> None:
    previous = frame(1)
    late = frame(
        9, odometry=odometry(9, x=previous.odometry.x + 1.0, quaternion_norm=0.0), status=status(9, speed=14.0)
    )
    found = MONITOR.check_frame(late, None, None, previous)
    assert [(fault.rule, fault.topic) for fault in found] == [
        ("contradictory", TOPICS["odometry"]),
        ("contradictory", TOPICS["vehicle_status"]),
        ("frame_gap", TOPICS["odometry"]),
        ("input_missing", TOPICS["vehicle_info"]),
        ("input_missing", TOPICS["waypoints"]),
    ]


def test_gap_in_simulated_time() -> None:
    previous = frame(1)
    late = frame(9, odometry=odometry(9, x=previous.odometry.x + 1.0))
    (fault,) = MONITOR.check_frame(late, straight_route(), VEHICLE, previous)
    assert fault.rule == "frame_gap" and "0.400" in fault.text
    near = frame(7, odometry=odometry(7, x=previous.odometry.x + 1.0))
    assert MONITOR.check_frame(near, straight_route(), VEHICLE, previous) == ()


def test_objects_that_cannot_be_used_are_a_fault_with_the_reason() -> None:
    refused = frame(2, objects=replace(others(2), problem="1001 objects, at most 1000 are taken"))
    (fault,) = MONITOR.check_frame(refused, straight_route(), VEHICLE, frame(1))
    assert (fault.rule, fault.topic) == ("not_finite", TOPICS["objects"]) and "1001 objects" in fault.text


def test_jump_and_clock_restart_are_new_episodes() -> None:
    assert MONITOR.is_new_episode(frame(1), None)
    assert not MONITOR.is_new_episode(frame(2), frame(1))
    assert MONITOR.is_new_episode(frame(2, odometry=odometry(2, y=2.3)), frame(1))
    assert MONITOR.is_new_episode(frame(1), frame(2))
    assert not MONITOR.is_new_episode(frame(2, odometry=odometry(2, x=math.nan)), frame(1)), "a fault, no jump"


@pytest.mark.parametrize(("jump_m", "speed"), [(0.5, 12.0), (0.5, -12.0), (2.0, 41.0), (2.0, 69.0)])
def test_the_way_of_a_fast_vehicle_is_no_jump(jump_m: float, speed: float) -> None:
    monitor = InputMonitor(InputLimits(jump_m=jump_m), TOPICS)
    fast = frame(1, odometry=odometry(1, x=0.0, speed=speed))
    way = 0.05 * speed
    assert not monitor.is_new_episode(frame(2, odometry=odometry(2, x=way)), fast)
    beyond = math.copysign(abs(way) + jump_m + 0.05, way)
    assert monitor.is_new_episode(frame(2, odometry=odometry(2, x=beyond)), fast)


def test_the_way_of_lost_frames_is_no_jump() -> None:
    fast = frame(1, odometry=odometry(1, x=0.0, speed=14.0))
    assert not MONITOR.is_new_episode(frame(5, odometry=odometry(5, x=2.8)), fast)
    assert MONITOR.is_new_episode(frame(5, odometry=odometry(5, x=5.0)), fast)
    broken = frame(1, odometry=odometry(1, x=0.0, speed=float("nan")))
    assert MONITOR.is_new_episode(frame(5, odometry=odometry(5, x=2.8)), broken)


def test_incomplete_frame_names_each_missing_part() -> None:
    assembler = FrameAssembler()
    for part in (odometry(1), others(1), status(1)):
        assembler.add(part, 1.0)
    assembler.add(odometry(2), 1.05)
    pending = assembler.oldest_pending()
    assert pending is not None
    found = MONITOR.incomplete(pending, 0.101, LIMITS.incomplete_s, assembler.received_s, 1.151)
    assert [fault.topic for fault in found] == [TOPICS["objects"], TOPICS["vehicle_status"]]
    assert found[0].age_s == pytest.approx(0.151) and found[0].limit_s == LIMITS.incomplete_s


def test_stale_names_topic_age_and_limit() -> None:
    (fault,) = MONITOR.stale(LIMITS.stale_s, {"odometry": 1.0, "objects": 1.3, "vehicle_status": 1.3}, 1.4)
    assert (fault.rule, fault.topic, fault.limit_s) == ("input_stale", TOPICS["odometry"], 0.25)
    assert fault.age_s == pytest.approx(0.4)
    assert fault.line().startswith("input_stale: /carla/ego_vehicle/odometry (age 0.400 s, limit 0.250 s)")


@pytest.mark.parametrize("name", [entry.name for entry in fields(InputLimits) if entry.name != "map_frame"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_limits_refuse_nonsense(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        InputLimits(**{name: value})


@pytest.mark.parametrize(
    ("period_ns", "found"), [(50_000_000, 0), (60_000_000, 0), (100_000_000, 1), (20_000_000, 1), (66_000_000, 1)]
)
def test_frame_period_has_to_be_the_models(period_ns: int, found: int) -> None:
    stamps = [k * period_ns for k in range(20)]
    assert len(MONITOR.check_period(stamps)) == found
    assert MONITOR.check_period(stamps[:19]) == (), "too few to tell"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [(5, 1e6, "1e+06 m by"), (6, 201.0, "at most 200 m"), (3, 151.0, "moves at"), (4, -1e300, "at most 150 m/s")],
)
def test_object_beyond_all_measure_is_named(column: int, value: float, words: str) -> None:
    bad = tuple(value if i == column else one for i, one in enumerate(CAR))
    (fault,) = faults_of(objects=others(2, CAR, bad))
    assert fault.topic == TOPICS["objects"] and "object 11" in fault.text and words in fault.text


@pytest.mark.parametrize("name", ["speed", "lateral_speed", "vertical_speed", "x", "y", "quaternion_norm"])
def test_a_finite_value_that_overflows_when_squared_is_a_fault_too(name: str) -> None:
    faults = faults_of(odometry=odometry(2, **{name: 1e200}))
    assert faults and {fault.rule for fault in faults} == {"contradictory"}


def test_a_jump_is_told_with_its_size_and_limit() -> None:
    far = frame(2, odometry=odometry(2, x=90.0))
    before = frame(1)
    way = 90.0 - before.odometry.x
    assert f"jumped {way:.1f} m in 0.050 s" in MONITOR.jump(far, before) and "limit 2 m" in MONITOR.jump(far, before)
    assert MONITOR.jump(before, frame(5)).startswith("the clock jumped 0.200 s back; ")
