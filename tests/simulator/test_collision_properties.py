"""Time to collision and overlap in closed form, and what they must not depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adawm_planner.data_types import EgoState
from adawm_planner.simulator.collision import first_overlap, time_to_collision
from tests.observation.scenes import objects
from tests.observation.test_motions import ANGLE, METRES, Motion

LENGTH, WIDTH = 4.7, 1.85
CLEARANCE = 0.3 * (LENGTH + 4.5)
"""Distance of two centres that counts as a collision: 0.6 of the mean length, as `time_to_collision` says [m]."""

PLACE, VELOCITY = st.floats(-60.0, 60.0), st.floats(-15.0, 15.0)
SPEED = st.floats(0.0, 15.0)


def ego(yaw: float = 0.0, speed: float = 0.0) -> EgoState:
    return EgoState(0.0, 0.0, yaw, speed, 0.0, 0.0, 0.0)


def ttc(row: tuple[float, float, float, float, float], speed: float = 0.0, yaw: float = 0.0) -> float:
    return time_to_collision(ego(yaw, speed), LENGTH, objects(row))


@given(st.floats(CLEARANCE + 0.1, 200.0), st.floats(0.5, 30.0), ANGLE)
def test_a_pair_that_closes_head_on_takes_distance_over_closing_speed(gap: float, closing: float, angle: float) -> None:
    x, y = gap * math.cos(angle), gap * math.sin(angle)
    row = (x, y, 0.0, -closing * math.cos(angle), -closing * math.sin(angle))
    assert ttc(row) == pytest.approx((gap - CLEARANCE) / closing, rel=1e-6)


@given(st.floats(0.0, 0.99), st.floats(20.0, 100.0), st.floats(1.0, 20.0))
def test_an_offset_pass_meets_the_clearance_circle_where_geometry_says(share: float, x: float, speed: float) -> None:
    y = share * CLEARANCE
    reach = math.sqrt(CLEARANCE**2 - y**2)  # half a chord of the circle
    assert ttc((x, y, 0.0, 0.0, 0.0), speed) == pytest.approx((x - reach) / speed, rel=1e-6)
    assert ttc((x, 1.01 * CLEARANCE, 0.0, 0.0, 0.0), speed) == math.inf


@settings(max_examples=60)
@given(PLACE, PLACE, VELOCITY, VELOCITY, SPEED, ANGLE)
def test_it_is_the_first_moment_of_the_simulated_conflict(
    x: float, y: float, vx: float, vy: float, speed: float, yaw: float
) -> None:
    found = ttc((x, y, 0.0, vx, vy), speed, yaw)
    time = np.linspace(0.0, 60.0, 60_001)
    rx = x + (vx - speed * math.cos(yaw)) * time
    ry = y + (vy - speed * math.sin(yaw)) * time
    distance = np.hypot(rx, ry)
    assume(abs(distance.min() - CLEARANCE) > 0.01)  # a grid cannot tell a touch from a miss
    inside = np.nonzero(distance <= CLEARANCE)[0]
    if distance[0] <= CLEARANCE:
        assert found in (0.0, math.inf)  # infinite for a pair that parts
    elif inside.size:
        assert found == pytest.approx(time[inside[0]], abs=2e-3)
    else:
        assert found > 60.0


@settings(max_examples=60)
@given(PLACE, PLACE, VELOCITY, VELOCITY, SPEED, ANGLE, METRES, METRES)
def test_neither_frame_nor_hand_matters(
    x: float, y: float, vx: float, vy: float, speed: float, turn: float, dx: float, dy: float
) -> None:
    here, others, motion = ego(0.3, speed), objects((x, y, 0.5, vx, vy)), Motion(turn, dx, dy)
    found = time_to_collision(here, LENGTH, others)
    moved = time_to_collision(motion.ego(here), LENGTH, motion.objects(others))
    flipped = time_to_collision(
        replace(here, yaw=-here.yaw), LENGTH, replace(others, y=-others.y, yaw=-others.yaw, vy=-others.vy)
    )
    assume(math.isinf(found) == math.isinf(moved))  # a grazing pass is decided by rounding
    assert moved == pytest.approx(found, rel=1e-4, abs=1e-4)
    assert flipped == pytest.approx(found, rel=1e-9)


@given(PLACE, PLACE, VELOCITY, VELOCITY, st.floats(1.5, 4.0))
def test_everything_faster_by_a_factor_comes_sooner_by_it(
    x: float, y: float, vx: float, vy: float, factor: float
) -> None:
    assume(math.hypot(vx, vy) > 0.1)
    slow, fast = ttc((x, y, 0.0, vx, vy)), ttc((x, y, 0.0, factor * vx, factor * vy))
    assert fast == pytest.approx(slow / factor, rel=1e-6)


@given(st.lists(st.tuples(PLACE, PLACE, st.just(0.0), VELOCITY, VELOCITY), min_size=1, max_size=5), SPEED)
def test_of_several_the_soonest_counts(rows: list[tuple[float, float, float, float, float]], speed: float) -> None:
    assert time_to_collision(ego(0.0, speed), LENGTH, objects(*rows)) == min(ttc(row, speed) for row in rows)


@given(st.floats(-8.0, 8.0), st.floats(-8.0, 8.0), ANGLE, ANGLE)
def test_overlap_is_symmetric(x: float, y: float, ego_yaw: float, yaw: float) -> None:
    """Two boxes of one size: who is called the ego does not matter."""
    a = first_overlap(ego(ego_yaw), 4.5, 1.8, objects((x, y, yaw, 0.0, 0.0)))
    b = first_overlap(ego(yaw), 4.5, 1.8, objects((-x, -y, ego_yaw, 0.0, 0.0)))
    assert a == b


@given(st.floats(-8.0, 8.0), st.floats(-8.0, 8.0), ANGLE)
def test_overlap_lies_between_the_inner_and_the_outer_circles(x: float, y: float, yaw: float) -> None:
    distance = math.hypot(x, y)
    hit = first_overlap(ego(), LENGTH, WIDTH, objects((x, y, yaw, 0.0, 0.0))) is not None
    if distance < 0.5 * (WIDTH + 1.8) - 1e-9:
        assert hit
    if distance > 0.5 * (math.hypot(LENGTH, WIDTH) + math.hypot(4.5, 1.8)) + 1e-9:
        assert not hit
