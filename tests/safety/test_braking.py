"""The braking-distance check against closed-form cases: brakes in time, and not for what does not need it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adawm_planner.config.gate import PathLimits
from adawm_planner.data_types import Command, EgoState, Objects
from adawm_planner.dims import FRAME_S
from adawm_planner.safety import braking
from adawm_planner.safety.braking import FINE_S, Foresight, judge_braking
from adawm_planner.safety.own_path import others_along, own_path
from adawm_planner.safety.verdict import Rule
from adawm_planner.simulator.collision import first_overlap
from adawm_planner.simulator.tasks import load_vehicle
from adawm_planner.simulator.vehicle import EgoVehicle
from tests.safety.scenes import LENGTH, VEHICLE, ego, objects

LIMITS = PathLimits()
PI = math.pi
BODIES = 0.5 * (VEHICLE.length + LENGTH)


def judge(me: EgoState, around: Objects, limits: PathLimits = LIMITS) -> Foresight:
    path = own_path(me, VEHICLE)
    return judge_braking(me.speed, path, VEHICLE, others_along(path, me, VEHICLE, around), around.id, limits, 8.0)


def stopping(speed: float) -> float:
    return speed * LIMITS.delay_s + speed**2 / (2.0 * LIMITS.brake_mps2)


@pytest.mark.parametrize("speed", [2.0, 8.0, 50.0 / 3.6])
def test_a_standing_obstacle_is_braked_for_at_the_stopping_distance(speed: float) -> None:
    # The future is looked at every 0.02 s: the last look before standstill misses 0.002 m at most.
    contact = BODIES + LIMITS.margin_m + stopping(speed)
    assert judge(ego(speed), objects((contact + 0.01, 0.0, 0.0, 0.0))).verdict is None
    found = judge(ego(speed), objects((contact - 0.01, 0.0, 0.0, 0.0))).verdict
    assert found is not None and found.rule is Rule.BRAKING_DISTANCE
    assert found.deceleration == 8.0 and found.about == "object 7"
    assert found.limit == pytest.approx(stopping(speed))
    assert found.measured == pytest.approx(stopping(speed), abs=0.02 * speed)


def test_time_to_collision_is_the_way_over_the_speed() -> None:
    limits = replace(LIMITS, margin_m=0.0)
    far = judge(ego(10.0), objects((BODIES + 19.99, 0.0, 0.0, 0.0)), limits)
    assert far.verdict is None and far.time_to_collision_s == pytest.approx(2.0)
    assert far.met.tolist() == [True]
    both = judge(ego(10.0), objects((BODIES + 19.99, 0.0, 0.0, 0.0), (BODIES + 14.99, 0.0, 0.0, 0.0)), limits)
    assert both.time_to_collision_s == pytest.approx(1.5)
    for nothing in (
        judge(ego(10.0), objects((BODIES + 41.0, 0.0, 0.0, 0.0)), limits),
        judge(ego(0.0), objects((BODIES + 0.1, 0.0, 0.0, 0.0)), limits),
        judge(ego(-1.0), objects((BODIES - 0.1, 0.0, 0.0, 0.0)), limits),
        judge(ego(10.0), objects(), limits),
    ):
        assert nothing.verdict is None and math.isinf(nothing.time_to_collision_s)
        assert not nothing.met.any()
    assert len(judge(ego(10.0), objects((900.0, 0.0, 0.0, 0.0))).met) == 1


def test_who_is_met_is_told_for_each_one() -> None:
    around = objects((400.0, 0.0, 0.0, 0.0), (15.0, 0.0, 0.0, 0.0), (15.0, 9.0, 0.0, 0.0))
    assert judge(ego(10.0), around).met.tolist() == [False, True, False]


def test_a_slower_vehicle_ahead_is_braked_for_later_than_a_standing_one() -> None:
    at = BODIES + 4.0
    assert judge(ego(8.0), objects((at, 0.0, 0.0, 0.0))).verdict is not None
    assert judge(ego(8.0), objects((at, 0.0, 0.0, 5.0))).verdict is None
    assert judge(ego(8.0), objects((at, 0.0, 0.0, 8.0))).time_to_collision_s == math.inf


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_crossing_car_that_will_be_there_is_braked_for_and_one_that_will_be_gone_is_not(side: float) -> None:
    # At 8 m/s the front needs 0.5 s for 4 m; the car comes from the side at 8 m/s.
    in_the_way = objects((BODIES + 4.0, side * 5.0, -side * PI / 2.0, 8.0))
    gone = objects((BODIES + 4.0, -side * 1.0, -side * PI / 2.0, 14.0))
    later = objects((BODIES + 4.0, side * 40.0, -side * PI / 2.0, 8.0))
    assert judge(ego(8.0), in_the_way).verdict is not None
    assert judge(ego(8.0), gone).verdict is None
    assert judge(ego(8.0), later).verdict is None


def test_who_turns_into_his_own_lane_is_not_braked_for() -> None:
    # Straight on he would come to the ego's lane; he turns to the right by the 0.45 rad that he lacks.
    mouth = (8.6, 4.7, 0.45 - PI, 8.0)
    assert judge(ego(2.3), objects(mouth)).met.all()
    for speed in (0.0, 2.3, 8.0):
        turning = judge(ego(speed), objects(mouth, turning=-0.9))
        assert turning.verdict is None and not turning.met.any()


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_who_turns_into_the_own_path_is_braked_for(side: float) -> None:
    beside = (BODIES + 1.5, side * 3.0, 0.0, 4.0)
    assert judge(ego(8.0), objects(beside)).verdict is None
    assert judge(ego(8.0), objects(beside, turning=side * 0.9)).verdict is None
    assert judge(ego(8.0), objects(beside, turning=-side * 0.9)).verdict is not None


@pytest.mark.parametrize("turning", [-1.1, -0.4, 0.0, 0.4, 1.1])
@pytest.mark.parametrize("lasting", [0.5, 1.0, 10.0])
def test_others_go_on_along_arcs_that_straighten(turning: float, lasting: float) -> None:
    """He is met when his arc, gone in small steps, brings his rear bumper to where the ego's front is by then."""
    x, y, heading, step = 0.0, 0.0, 0.0, 1e-4
    for k in range(14_000):
        x, y = x + step * 4.0 * math.cos(heading), y + step * 4.0 * math.sin(heading)
        heading += step * turning * math.exp(-k * step / lasting)
    cos, sin, contact = math.cos(heading), math.sin(heading), BODIES + 5.0 * 1.4 - 0.01
    start = (contact - cos * x - sin * y, sin * x - cos * y, -heading, 4.0)
    limits = replace(LIMITS, margin_m=0.0, turning_s=lasting)
    found = judge(ego(5.0), objects(start, turning=turning), limits)
    assert found.met.all() and found.time_to_collision_s <= 1.4 + 1e-9
    assert found.time_to_collision_s == pytest.approx(1.4, abs=1e-6 + 0.7 * abs(turning))


def test_no_turn_is_believed_that_tyres_do_not_hold() -> None:
    near = (BODIES + 1.5, 3.0, 0.0, 4.0)
    most = judge(ego(8.0), objects(near, turning=-LIMITS.turning_mps2 / 4.0))
    assert most.verdict is not None
    for degrees in (-50.0, -1e6):
        assert judge(ego(8.0), objects(near, turning=degrees)) == most
    straight = replace(LIMITS, turning_mps2=0.0)
    assert judge(ego(8.0), objects(near, turning=-50.0), straight).verdict is None
    standing = (BODIES + 4.0, 0.0, 0.0, 0.0)
    assert judge(ego(8.0), objects(standing, turning=9.0)).verdict is not None


def test_who_drives_into_the_rear_is_not_braked_for() -> None:
    assert judge(ego(5.0), objects((-BODIES - 1.0, 0.0, 0.0, 14.0))).verdict is None
    assert judge(ego(5.0), objects((-1.5, 3.0, -PI / 2.0, 6.0))).verdict is None


@pytest.mark.parametrize("length", [4.5, 8.0, 12.0, 18.0])
@pytest.mark.parametrize("yaw", [0.1, 0.55, 0.9, 1.4, 2.2, 3.0])
@pytest.mark.parametrize("nose", [-0.8, 0.0, 0.8])
def test_a_long_body_across_the_way_is_stopped_for_wherever_its_centre_is(
    length: float, yaw: float, nose: float
) -> None:
    """One that stands with its nose in the way, from the right, and reaches back beside it."""
    vehicle = EgoVehicle(load_vehicle("nominal"))
    vehicle.reset(0.0, 0.0, 0.0, 10.0)
    x, y = 45.0 - 0.5 * length * math.cos(yaw), nose - 0.5 * length * math.sin(yaw)
    bus = replace(objects((x, y, yaw, 0.0)), length=np.array([length]), width=np.array([2.5]))
    braking = False
    while vehicle.state.speed > 0.0:
        braking = braking or judge(vehicle.state, bus).verdict is not None
        vehicle.tick(Command(brake=1.0) if braking else Command(throttle=0.1))
        assert first_overlap(vehicle.state, VEHICLE.length, VEHICLE.width, bus) is None


def test_who_comes_from_behind_with_more_than_the_front_is_not_braked_for() -> None:
    """A bus that drifts into the whole side, its centre behind: to brake keeps the vehicle beside it for longer."""
    bus = replace(objects((-1.0, 3.0, -0.1, 5.0)), length=np.array([12.0]), width=np.array([2.5]))
    assert judge(ego(5.0), bus).verdict is None


def test_who_hits_only_a_standing_vehicle_is_not_braked_for_longer() -> None:
    # Braked from 1 m/s the vehicle stands after 0.4 s; the car crosses its path 3 s later.
    crossing = objects((BODIES, 16.0, -PI / 2.0, 6.0))
    assert judge(ego(1.0), crossing).verdict is None


def test_the_path_bends_as_the_vehicle_does() -> None:
    bend = ego(6.0, yaw_rate=0.6)  # radius 10 m, to the left
    on_circle = objects((10.0 * math.sin(0.7), 10.0 * (1.0 - math.cos(0.7)), 0.7, 0.0))
    ahead = objects((12.0, 0.0, 0.0, 0.0))
    assert judge(bend, on_circle).verdict is not None
    assert judge(bend, ahead).verdict is None
    assert judge(ego(6.0, yaw_rate=-0.6), on_circle).verdict is None


def test_the_nearest_danger_is_named() -> None:
    around = objects((900.0, 0.0, 0.0, 0.0), (BODIES + 3.5, 0.0, 0.0, 0.0), (BODIES + 1.5, 0.0, 0.0, 0.0))
    found = judge(ego(8.0), around).verdict
    assert found is not None and found.about == "object 9"


def test_distance_beside_is_kept_where_asked_for() -> None:
    beside = objects((BODIES + 2.0, 2.0, 0.0, 0.0))
    assert judge(ego(8.0), beside).verdict is None
    assert judge(ego(8.0), beside, replace(LIMITS, side_m=0.2)).verdict is not None


def test_the_frame_of_the_map_does_not_matter() -> None:
    turned = ego(8.0, x=40.0, y=-7.0, yaw=2.0)
    at = BODIES + 4.0
    there = objects((40.0 + at * math.cos(2.0), -7.0 + at * math.sin(2.0), 2.0, 0.0))
    here, found = judge(ego(8.0), objects((at, 0.0, 0.0, 0.0))), judge(turned, there)
    assert found.verdict == here.verdict and found.time_to_collision_s == here.time_to_collision_s


@settings(deadline=None, max_examples=60)
@given(st.floats(1.0, 15.0), st.floats(0.5, 40.0))
def test_braking_at_the_first_warning_always_stops_in_time(speed: float, gap: float) -> None:
    """Drive at a standing obstacle: brakes that answer one frame before the delay is over touch nothing.

    The frame is what the first warning may be late, since the gate looks once per frame.
    """
    answers = round(LIMITS.delay_s / FRAME_S) - 1
    way, v = 0.0, speed
    if judge(ego(v), objects((BODIES + gap, 0.0, 0.0, 0.0))).verdict is not None:
        return  # too near from the start: braking could not have helped, or just
    warned: int | None = None
    for k in range(2000):
        if warned is None and judge(ego(v), objects((BODIES + gap - way, 0.0, 0.0, 0.0))).verdict is not None:
            warned = k
        braking = warned is not None and k >= warned + answers
        slower = max(v - FRAME_S * LIMITS.brake_mps2, 0.0) if braking else v
        way, v = way + 0.5 * (v + slower) * FRAME_S, slower
        if v == 0.0:
            break
    assert v == 0.0 and way <= gap


def test_the_horizon_is_the_last_look() -> None:
    limits = replace(LIMITS, margin_m=0.0)
    assert judge(ego(10.0), objects((BODIES + 39.9, 0.0, 0.0, 0.0)), limits).met.any()
    assert not judge(ego(10.0), objects((BODIES + 40.1, 0.0, 0.0, 0.0)), limits).met.any()


@pytest.mark.parametrize("steer", [-1.0, -0.7, -0.4, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("aside", [-0.8, 0.0, 0.8])
def test_who_stands_where_a_turning_vehicle_goes_is_not_hit(steer: float, aside: float) -> None:
    vehicle = turning(steer, 5.0)
    path = copy.deepcopy(vehicle)
    for _ in range(30):
        path.tick(Command(throttle=0.1, steer=steer))
    there = path.state
    x, y = there.x - aside * math.sin(there.yaw), there.y + aside * math.cos(there.yaw)
    someone = replace(objects((x, y, 0.0, 0.0)), length=np.array([0.5]), width=np.array([0.5]))
    braking = False
    for _ in range(100):
        braking = braking or judge(vehicle.state, someone).verdict is not None
        vehicle.tick(Command(brake=1.0, steer=steer) if braking else Command(throttle=0.1, steer=steer))
        assert first_overlap(vehicle.state, VEHICLE.length, VEHICLE.width, someone) is None
    assert braking and vehicle.state.speed == 0.0


def turning(steer: float, speed: float) -> EgoVehicle:
    """A vehicle that has turned for as long as its steering needs."""
    vehicle = EgoVehicle(load_vehicle("nominal"))
    vehicle.reset(0.0, 0.0, 0.3, speed)
    for _ in range(20):
        vehicle.tick(Command(throttle=0.1, steer=steer))
    return vehicle


def test_a_car_that_only_braking_would_meet_is_not_braked_for_whoever_else_is_there() -> None:
    # Going on, the vehicle is past x = 8.3 m before the car comes by; braking, it would stand in front of it.
    behind = (7.3, -22.4, 0.5 * PI, 14.0)
    alone = judge(ego(8.0), objects(behind))
    both = judge(ego(8.0), objects(behind, (BODIES + 20.0, 0.0, 0.0, 0.0)))
    assert (alone.verdict, both.verdict) == (None, None)
    assert both.met.tolist() == [False, True]
    assert both.time_to_collision_s == pytest.approx(2.48)


def test_margins_in_front_and_beside_widen_the_reach() -> None:
    near = objects((BODIES + 30.4, 0.0, 0.0, 0.0))
    assert judge(ego(10.0), near, replace(LIMITS, margin_m=1.0)).met.any()
    # Only the widest reach includes one that is met with its corner at the very end of the horizon.
    edge = objects((30.0 + 2.35 + 5.0 + 2.2, 0.0, 0.0, 0.0))
    assert judge(ego(10.0), edge, replace(LIMITS, margin_m=5.0)).met.any()


def _rectangle(x: float, y: float, yaw: float, length: float, width: float) -> Any:
    return (x, y), (length, width), math.degrees(yaw)


def _overlap(one: Any, other: Any) -> bool:
    return bool(cv2.rotatedRectangleIntersection(one, other)[0] != cv2.INTERSECT_NONE)


def test_who_is_met_is_who_a_polygon_library_finds_on_the_way() -> None:
    """Random bends and traffic with the shipped margins, against OpenCV's rectangles every 5 ms.

    Left out is what both come to in less than half the time between two looks.
    """
    rng, found = np.random.default_rng(4), 0
    limits = replace(LIMITS, horizon_s=1.5)
    for _ in range(400):
        me = ego(float(rng.uniform(2.0, 12.0)), yaw_rate=float(rng.uniform(-0.6, 0.6)))
        k = me.yaw_rate / me.speed
        at = (float(rng.uniform(-4.0, 16.0)), float(rng.uniform(-8.0, 8.0)))
        yaw, v = float(rng.uniform(-PI, PI)), float(rng.uniform(0.0, 10.0))
        answers = []
        slack_m = 0.02 + FINE_S * (me.speed + v)
        for slack in (-slack_m, slack_m):
            met = False
            for t in np.arange(0.0, 1.5025, 0.005):
                s = me.speed * t
                x, y = math.sin(k * s) / k, (1.0 - math.cos(k * s)) / k
                own = _rectangle(x, y, k * s, VEHICLE.length + 0.6 + slack, VEHICLE.width + slack)
                there = (at[0] + v * math.cos(yaw) * t, at[1] + v * math.sin(yaw) * t)
                met = met or _overlap(own, _rectangle(*there, yaw, LENGTH, 1.8))
            answers.append(met)
        if answers[0] is answers[1]:
            assert judge(me, objects((*at, yaw, v)), limits).met[0] == answers[0]
            found += answers[0]
    assert 60 < found < 340


def test_a_corner_that_is_crossed_in_less_than_a_tenth_of_a_second_is_seen() -> None:
    """The front meets the side of a fast car 1.318 to 1.395 s from now; 1.3 and 1.4 s show none of it."""
    found = judge(ego(16.96), objects((25.60, -16.36, 0.5 * PI, 14.0)), replace(LIMITS, margin_m=0.0))
    assert found.met.all() and found.time_to_collision_s == pytest.approx(1.32)


def test_the_first_look_leaves_out_nobody_whom_the_second_would_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bends and turning traffic, against the second look at all within reach."""
    rng, found = np.random.default_rng(6), 0
    for _ in range(300):
        me = ego(float(rng.uniform(0.05, 20.0)), yaw_rate=float(rng.uniform(-0.6, 0.6)))
        place, yaw = rng.uniform(-40.0, 40.0, (12, 2)), rng.uniform(-PI, PI, 12)
        rows = [
            (*each, angle, speed) for each, angle, speed in zip(place, yaw, rng.uniform(0.0, 20.0, 12), strict=True)
        ]
        around = objects(*rows, turning=float(rng.uniform(-1.5, 1.5)))
        one = judge(me, around)
        with monkeypatch.context() as patched:
            patched.setattr(braking, "_can_be_met", lambda speed, path, *rest: braking._within_reach(speed, *rest))
            other = judge(me, around)
        assert (one.verdict, one.time_to_collision_s, one.met.tolist()) == (
            other.verdict,
            other.time_to_collision_s,
            other.met.tolist(),
        )
        found += int(one.met.sum())
    assert found > 100


def test_of_sixty_four_one_is_enough() -> None:
    rows = [(200.0 + 3.0 * i, 30.0, 0.0, 5.0) for i in range(63)]
    found = judge(ego(8.0), objects(*rows, (BODIES + 3.0, 0.0, 0.0, 0.0))).verdict
    assert found is not None and found.about == "object 70"
    assert np.count_nonzero(judge(ego(8.0), objects(*rows)).met) == 0
