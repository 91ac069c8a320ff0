"""Responsibility-Sensitive Safety on whole scenes: dangerous only where both distances are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adawm_planner.config.gate import RssLimits
from adawm_planner.data_types import EgoState, Objects
from adawm_planner.safety.following import judge_following
from adawm_planner.safety.own_path import others_along, own_path
from adawm_planner.safety.rss import safe_distance_opposite_direction, safe_distance_same_direction
from adawm_planner.safety.verdict import Rule, Verdict
from tests.safety.scenes import LENGTH, VEHICLE, WIDTH, ego, objects

LIMITS = RssLimits()
PI = math.pi
BODIES = 0.5 * (VEHICLE.length + LENGTH)
BESIDE = 0.5 * (VEHICLE.width + WIDTH)


def judge(me: EgoState, around: Objects, limits: RssLimits = LIMITS, met: bool = True) -> list[Verdict]:
    others = others_along(own_path(me, VEHICLE), me, VEHICLE, around)
    return judge_following(me.speed, others, np.full(len(around), met), around.id, limits)


def safe(rear: float, front: float) -> float:
    return float(safe_distance_same_direction(rear, front, 0.2, 0.0, 6.0, 8.0))


@pytest.mark.parametrize(("rear", "front"), [(8.0, 8.0), (14.0, 5.0), (10.0, 0.0)])
def test_following_is_dangerous_below_the_safe_distance_only(rear: float, front: float) -> None:
    needed = safe(rear, front)
    assert needed > 1.0
    assert judge(ego(rear), objects((BODIES + needed + 0.01, 0.0, 0.0, front))) == []
    (verdict,) = judge(ego(rear), objects((BODIES + needed - 0.01, 0.0, 0.0, front)))
    gap, limit = pytest.approx(needed - 0.01), pytest.approx(needed)
    assert verdict == Verdict(Rule.RSS_SAME_DIRECTION, gap, limit, LIMITS.brake_min_mps2, "object 7")


def test_human_parameters_give_the_published_distance() -> None:
    human = RssLimits(response_s=1.0, acceleration_mps2=3.5, brake_min_mps2=4.0)
    v = 50.0 / 3.6
    assert judge(ego(v), objects((BODIES + 41.39, 0.0, 0.0, v)), human) == []
    (verdict,) = judge(ego(v), objects((BODIES + 41.0, 0.0, 0.0, v)), human)
    assert verdict.limit == pytest.approx(41.38, abs=0.01)


def test_who_lacks_most_is_named() -> None:
    near, nearer = BODIES + safe(8.0, 8.0) - 0.2, BODIES + safe(8.0, 0.0) - 2.0
    (verdict,) = judge(ego(8.0), objects((near, 0.0, 0.0, 8.0), (nearer, 0.0, 0.0, 0.0)))
    assert verdict.about == "object 8"


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_beside_the_path_nothing_is_dangerous(side: float) -> None:
    # 0.2 s at 0.2 m/s2, then 0.04 m/s stopped with 0.8 m/s2, of both; and the margin
    lateral = 2.0 * (0.5 * 0.2 * 0.04 + 0.04**2 / 1.6) + 0.1
    assert judge(ego(8.0), objects((6.0, side * (BESIDE + lateral + 0.001), 0.0, 0.0))) == []
    assert judge(ego(8.0), objects((6.0, side * (BESIDE + lateral - 0.001), 0.0, 0.0)))


def test_behind_and_far_around_the_bend_nothing_is_dangerous() -> None:
    assert judge(ego(8.0), objects((-6.0, 0.0, 0.0, 12.0))) == []
    assert judge(ego(8.0), objects((BODIES - 0.1, 0.0, 0.0, 0.0))) == []
    bend = ego(8.0, yaw_rate=0.4)  # curvature 0.05: 0.2 rad are 4 m
    at = own_path(bend, VEHICLE).at(np.array([8.0]))
    assert judge(bend, objects((float(at[0][0]), float(at[1][0]), 0.4, 0.0))) == []
    wide = replace(LIMITS, turned_rad=0.5)
    assert judge(bend, objects((float(at[0][0]), float(at[1][0]), 0.4, 0.0)), wide)


def test_crossing_traffic_is_not_followed() -> None:
    for angle in (0.6, PI / 2.0, PI - 0.6, -0.6, 0.6 - PI):
        assert judge(ego(8.0), objects((7.0, 0.0, angle, 0.0))) == []
    for angle in (0.4, -0.4, PI - 0.4, 0.4 - PI):
        assert len(judge(ego(8.0), objects((7.0, 0.0, angle, 0.0)))) == 1


def test_oncoming_is_dangerous_below_the_sum_of_both_ways_and_only_if_met() -> None:
    apart = float(safe_distance_opposite_direction(8.0, 6.0, 0.2, 0.2, 0.0, 6.0, 3.0))
    closer = objects((BODIES + apart - 0.01, 0.0, PI, 6.0))
    assert judge(ego(8.0), objects((BODIES + apart + 0.01, 0.0, PI, 6.0))) == []
    gap, limit = pytest.approx(apart - 0.01), pytest.approx(apart)
    (verdict,) = judge(ego(8.0), closer)
    assert verdict == Verdict(Rule.RSS_OPPOSITE_DIRECTION, gap, limit, LIMITS.brake_min_mps2, "object 7")
    assert judge(ego(8.0), closer, met=False) == []


def test_a_vehicle_just_ahead_of_the_bumper_is_ahead() -> None:
    assert len(judge(ego(8.0), objects((BODIES + 0.5, 0.0, 0.0, 0.0)))) == 1


def test_a_parked_vehicle_that_faces_the_own_one_does_not_come_nearer() -> None:
    apart = float(safe_distance_opposite_direction(8.0, 0.0, 0.2, 0.2, 0.0, 6.0, 3.0))
    assert judge(ego(8.0), objects((BODIES + apart + 0.01, 0.0, PI, 0.0))) == []


def test_who_drives_away_or_rolls_back_has_no_negative_speed() -> None:
    away = replace(objects((BODIES + 6.0, 0.0, PI, 0.0)), vx=np.array([5.0]))
    parked = objects((BODIES + 6.0, 0.0, PI, 0.0))
    assert judge(ego(8.0), away) == judge(ego(8.0), parked)
    rolling = replace(objects((BODIES + 6.0, 0.0, 0.0, 0.0)), vx=np.array([-2.0]))
    assert judge(ego(8.0), rolling) == judge(ego(8.0), objects((BODIES + 6.0, 0.0, 0.0, 0.0)))
    assert judge(ego(-3.0), objects((BODIES + 0.1, 0.0, 0.0, 0.0))) == []


def test_nobody_there() -> None:
    assert judge(ego(8.0), objects()) == []
