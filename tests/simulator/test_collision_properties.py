"""Time to collision and overlap in closed form, and what they must not depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
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


@dataclass(frozen=True)
class Conflict:
    """An ego and another car whose relative motion meets the clearance circle at a known time."""

    speed: float  # m/s, of the ego
    yaw: float  # rad, of the ego
    bearing: float  # rad, map, of the other car
    gap: float  # m
    share: float  # of the clearance by which the other passes to one side; beyond 1 it misses
    closing: float  # m/s, relative

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        """The other car, as `objects` takes it."""
        aside = math.asin(self.share * CLEARANCE / self.gap)
        away = self.bearing + math.pi + aside  # where the relative motion points
        vx = self.speed * math.cos(self.yaw) + self.closing * math.cos(away)
        vy = self.speed * math.sin(self.yaw) + self.closing * math.sin(away)
        return self.gap * math.cos(self.bearing), self.gap * math.sin(self.bearing), 0.5, vx, vy

    @property
    def time(self) -> float:
        """The side of a right triangle less half a chord of the circle, over the relative speed [s]."""
        if abs(self.share) > 1.0:
            return math.inf
        reach = math.sqrt(self.gap**2 - (self.share * CLEARANCE) ** 2)
        return (reach - CLEARANCE * math.sqrt(1.0 - self.share**2)) / self.closing


CONFLICTS = st.builds(
    Conflict,
    speed=SPEED,
    yaw=ANGLE,
    bearing=ANGLE,
    gap=st.floats(CLEARANCE + 1.0, 80.0),
    share=st.floats(-0.95, 0.95) | st.floats(1.05, 1.3),
    closing=st.floats(0.5, 25.0),
)


@given(CONFLICTS)
def test_two_moving_cars_meet_when_the_triangle_says(conflict: Conflict) -> None:
    assert ttc(conflict.row, conflict.speed, conflict.yaw) == pytest.approx(conflict.time, rel=1e-6)


@given(CONFLICTS)
def test_it_is_the_first_moment_of_the_simulated_conflict(conflict: Conflict) -> None:
    found = ttc(conflict.row, conflict.speed, conflict.yaw)
    time = np.linspace(0.0, 1.5 * conflict.gap / conflict.closing, 20_001)
    x, y, _, vx, vy = conflict.row
    ahead = conflict.speed * time
    distance = np.hypot(x + vx * time - ahead * math.cos(conflict.yaw), y + vy * time - ahead * math.sin(conflict.yaw))
    inside = np.nonzero(distance <= CLEARANCE)[0]
    expected = time[inside[0]] if inside.size else math.inf
    assert found == pytest.approx(expected, abs=2.0 * time[1])


@given(CONFLICTS, ANGLE, METRES, METRES)
def test_neither_frame_nor_hand_matters(conflict: Conflict, turn: float, dx: float, dy: float) -> None:
    here, others, motion = ego(conflict.yaw, conflict.speed), objects(conflict.row), Motion(turn, dx, dy)
    found = time_to_collision(here, LENGTH, others)
    moved = time_to_collision(motion.ego(here), LENGTH, motion.objects(others))
    mirror = replace(others, y=-others.y, yaw=-others.yaw, vy=-others.vy)
    assert moved == pytest.approx(found, rel=1e-6)
    assert time_to_collision(replace(here, yaw=-here.yaw), LENGTH, mirror) == pytest.approx(found, rel=1e-9)


@given(CONFLICTS)
def test_cars_that_part_are_no_threat_however_near(conflict: Conflict) -> None:
    x, y, yaw, vx, vy = conflict.row
    leaving = replace(conflict, closing=-conflict.closing).row
    assert ttc(leaving, conflict.speed, conflict.yaw) == math.inf
    near = 0.5 * CLEARANCE / conflict.gap
    assert ttc((near * x, near * y, yaw, vx, vy), conflict.speed, conflict.yaw) in (0.0, math.inf)


@given(CONFLICTS, st.floats(1.5, 4.0))
def test_everything_faster_by_a_factor_comes_sooner_by_it(conflict: Conflict, factor: float) -> None:
    x, y, yaw, vx, vy = conflict.row
    fast = ttc((x, y, yaw, factor * vx, factor * vy), factor * conflict.speed, conflict.yaw)
    assert fast == pytest.approx(conflict.time / factor, rel=1e-6)


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
