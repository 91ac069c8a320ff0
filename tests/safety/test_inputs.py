"""What the gate makes of missing, old and impossible inputs, of proposals, and of the route."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command, EgoState, VehicleInfo
from adawm_planner.observation.route import route_from_points
from adawm_planner.safety.inputs import Late, Proposal, judge_inputs, judge_proposal, judge_route
from adawm_planner.safety.verdict import Rule, Verdict
from tests.safety.scenes import ROUTE, VEHICLE, ego, objects, reading

CONFIG = GateConfig()
HARD, SOFT = CONFIG.stop.emergency_mps2, CONFIG.stop.comfortable_mps2
NAN, INF = math.nan, math.inf


def judged(**given: Any) -> list[Verdict]:
    return judge_inputs(reading(**given), CONFIG.stop)


def proposed(command: Command, **given: Any) -> list[Verdict]:
    return judge_proposal(Proposal(command, **given), CONFIG.watch, CONFIG.stop)


def test_whole_and_fresh_inputs_are_fine() -> None:
    assert judged() == []
    assert judged(objects=objects((5.0, 0.0, 0.0, 0.0))) == []
    assert judged(route=None) == []


@pytest.mark.parametrize(("name", "topic"), [("ego", "odometry"), ("objects", "objects"), ("vehicle", "vehicle_info")])
def test_what_never_came_is_infinitely_old(name: str, topic: str) -> None:
    assert judged(**{name: None}) == [Verdict(Rule.INPUT_STALE, INF, 0.0, HARD, topic)]


def test_what_is_late_is_named_with_its_age_and_its_limit() -> None:
    late = (Late("objects", 0.16, 0.1), Late("odometry", INF, 0.25))
    assert judged(late=late) == [
        Verdict(Rule.INPUT_STALE, 0.16, 0.1, HARD, "objects"),
        Verdict(Rule.INPUT_STALE, INF, 0.25, HARD, "odometry"),
    ]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", [each.name for each in fields(EgoState)])
def test_every_value_of_the_ego_must_be_finite(name: str, value: float) -> None:
    (verdict,) = judged(ego=replace(ego(), **{name: value}))
    assert verdict == Verdict(Rule.INPUT_INVALID, 1.0, 0.0, HARD, f"odometry: {name} is {value}")


@pytest.mark.parametrize("name", [each.name for each in fields(VehicleInfo)])
def test_every_value_of_the_vehicle_must_be_finite_and_positive(name: str) -> None:
    (verdict,) = judged(vehicle=replace(VEHICLE, **{name: NAN}))
    assert verdict.about == f"vehicle_info: {name} is nan"
    for value in (0.0, -1.0):
        (verdict,) = judged(vehicle=replace(VEHICLE, **{name: value}))
        assert verdict.about == f"vehicle_info: {name} is {value:g}, must be above 0"
    assert judged(vehicle=replace(VEHICLE, **{name: 0.5})) == []


@pytest.mark.parametrize("name", ["x", "y", "yaw", "vx", "vy", "yaw_rate", "length", "width"])
def test_every_value_of_every_object_must_be_finite(name: str) -> None:
    two = objects((9.0, 0.0, 0.0, 0.0), (30.0, 4.0, 0.0, 0.0))
    for value in (NAN, INF):
        broken = replace(two, **{name: np.array([1.0, value])})
        (verdict,) = judged(objects=broken)
        assert verdict == Verdict(
            Rule.INPUT_INVALID, 1.0, 0.0, HARD, "objects: object 8 has a value that is not finite"
        )


@pytest.mark.parametrize("name", ["length", "width"])
@pytest.mark.parametrize("size", [0.0, -1.0])
def test_every_object_must_have_a_size(name: str, size: float) -> None:
    two = objects((9.0, 0.0, 0.0, 0.0), (30.0, 4.0, 0.0, 0.0))
    (verdict,) = judged(objects=replace(two, **{name: np.array([0.5, size])}))
    assert verdict.about == "objects: object 8 has no size"


def test_what_the_reader_found_wrong_comes_first_and_all_is_counted() -> None:
    (verdict,) = judged(faults=("objects: frame_id is 'odom'",), ego=replace(ego(), x=NAN, y=NAN))
    assert (verdict.measured, verdict.limit, verdict.about) == (3.0, 0.0, "objects: frame_id is 'odom'")


def test_a_fresh_proposal_is_fine() -> None:
    assert proposed(Command(throttle=0.4)) == []
    assert proposed(Command(), age_s=0.2, frames=3) == []


def test_a_proposal_that_is_missing_or_too_old() -> None:
    assert judge_proposal(None, CONFIG.watch, CONFIG.stop) == [Verdict(Rule.PROPOSAL_MISSING, INF, 0.2, SOFT)]
    assert proposed(Command(), age_s=0.21) == [Verdict(Rule.PROPOSAL_MISSING, 0.21, 0.2, SOFT)]
    assert proposed(Command(), frames=4) == [Verdict(Rule.PROPOSAL_REPEATED, 4, 3.0, SOFT)]
    (verdict,) = proposed(Command(), age_s=NAN)
    assert verdict.rule is Rule.PROPOSAL_MISSING


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["throttle", "brake", "steer"])
def test_a_proposal_must_be_finite(name: str, value: float) -> None:
    assert proposed(Command(**{name: value})) == [Verdict(Rule.PROPOSAL_NOT_FINITE, 1, 0.0, SOFT)]


def test_a_proposal_must_go_forwards() -> None:
    assert proposed(Command(reverse=True)) == [Verdict(Rule.PROPOSAL_REVERSE, 1.0, 0.0, SOFT)]
    both = proposed(Command(throttle=NAN, brake=NAN, reverse=True))
    assert [verdict.rule for verdict in both] == [Rule.PROPOSAL_NOT_FINITE, Rule.PROPOSAL_REVERSE]
    assert both[0].measured == 2


def routed(me: EgoState, **given: Any) -> list[Verdict]:
    return judge_route(me, given.get("route", ROUTE), given.get("near"), CONFIG.watch, CONFIG.stop)


def test_on_the_route_nothing_is_wrong() -> None:
    assert routed(ego(y=2.5)) == routed(ego(y=-2.5)) == routed(ego(yaw=1.19)) == routed(ego(yaw=-1.19)) == []
    assert routed(ego(yaw=2.0 * math.pi)) == []
    upwards = route_from_points(np.zeros(100), np.arange(-50.0, 50.0))
    assert routed(ego(yaw=0.5 * math.pi), route=upwards) == []


def test_a_crossing_of_the_own_route_is_driven_straight_over() -> None:
    """A figure of eight: where its ways cross at right angles, the latest place tells which of them is driven."""
    angle = np.linspace(0.0, 2.0 * math.pi, 400)
    eight = route_from_points(60.0 * np.sin(angle), 30.0 * np.sin(2.0 * angle))
    k = int(np.argmin(np.hypot(eight.x[150:250], eight.y[150:250]))) + 150
    me = replace(ego(yaw=float(eight.yaw[k])), x=float(eight.x[k]), y=float(eight.y[k]))
    assert routed(me, route=eight, near=k - 1) == []
    assert routed(me, route=eight)[0].rule is Rule.ROUTE_HEADING, "who enters there is taken to be on the first pass"


def test_a_route_that_begins_with_a_step_to_the_next_lane_has_the_heading_of_the_road() -> None:
    x, y = np.array([0.0, -0.5, *np.arange(0.5, 60.0)]), np.array([0.0, *[3.5] * 61])
    assert routed(ego(), route=route_from_points(x, y)) == []


def test_off_the_route() -> None:
    assert routed(ego(y=-2.6)) == [Verdict(Rule.ROUTE_DEPARTURE, pytest.approx(2.6), 2.5, SOFT)]
    assert routed(ego(y=2.6))[0].measured == pytest.approx(2.6)
    assert routed(ego(yaw=-1.3)) == [Verdict(Rule.ROUTE_HEADING, pytest.approx(1.3), 1.2, SOFT)]
    assert routed(ego(), route=None) == [Verdict(Rule.ROUTE_MISSING, 0.0, 1.0, SOFT)]
    assert len(routed(ego(y=5.0, yaw=3.0))) == 2


def test_past_its_end_is_off_the_route_too() -> None:
    end = float(ROUTE.x[-1])
    assert routed(ego(x=end + 2.4)) == []
    assert routed(ego(x=end + 2.6)) == [Verdict(Rule.ROUTE_DEPARTURE, pytest.approx(2.6), 2.5, SOFT)]
    assert routed(ego(x=float(ROUTE.x[0]) - 9.0)) == []  # on the way to where it begins
