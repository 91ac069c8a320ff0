"""Time to collision and overlap in closed form, and what they must not depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adawm_planner.data_types import EgoState
from adawm_planner.simulator.collision import HORIZON_S, first_overlap, time_to_collision
from tests.observation.scenes import objects
from tests.observation.test_motions import ANGLE, METRES, Motion

LENGTH, WIDTH = 4.7, 1.85
TOUCH = 0.5 * (LENGTH + 4.5)
"""Distance of two centres at which bumper meets bumper [m]."""

PLACE, VELOCITY = st.floats(-60.0, 60.0), st.floats(-15.0, 15.0)
SPEED = st.floats(0.0, 15.0)
Row = tuple[float, float, float, float, float]


def ego(yaw: float = 0.0, speed: float = 0.0) -> EgoState:
    return EgoState(0.0, 0.0, yaw, speed, 0.0, 0.0, 0.0)


def ttc(row: Row, speed: float = 0.0, yaw: float = 0.0) -> float:
    return time_to_collision(ego(yaw, speed), LENGTH, WIDTH, objects(row))


def within_horizon(expected: float) -> Any:
    """What is found where this is expected [s]; near the horizon either."""
    if abs(expected - HORIZON_S) < 1e-5:
        return ANY
    return pytest.approx(expected, rel=1e-6) if expected < HORIZON_S else math.inf


def overlap_at(time: float, row: Row, speed: float, yaw: float) -> bool:
    """Whether the boxes overlap after so long [s], by the test that ends an episode."""
    x, y, other_yaw, vx, vy = row
    along = speed * time
    moved = replace(ego(yaw, speed), x=along * math.cos(yaw), y=along * math.sin(yaw))
    return first_overlap(moved, LENGTH, WIDTH, objects((x + vx * time, y + vy * time, other_yaw, vx, vy))) is not None


@given(st.floats(TOUCH + 0.1, 200.0), st.floats(0.5, 30.0), ANGLE)
def test_bumper_to_bumper_takes_the_gap_over_the_closing_speed(distance: float, closing: float, yaw: float) -> None:
    x, y, vx, vy = (value for size in (distance, -closing) for value in (size * math.cos(yaw), size * math.sin(yaw)))
    assert ttc((x, y, yaw, vx, vy), 0.0, yaw) == within_horizon((distance - TOUCH) / closing)


@given(st.floats(1.9, 50.0), st.floats(0.1, 5.0))
def test_side_by_side_takes_the_gap_over_the_closing_speed(distance: float, closing: float) -> None:
    gap = distance - 0.5 * (WIDTH + 1.8)
    assert ttc((0.0, distance, 0.0, 0.0, -closing)) == within_horizon(gap / closing)


@given(st.floats(0.0, 1.82), st.floats(20.0, 100.0), st.floats(1.0, 20.0))
def test_an_offset_within_the_widths_changes_nothing_and_beyond_them_all(y: float, x: float, speed: float) -> None:
    assert ttc((x, y, 0.0, 0.0, 0.0), speed) == within_horizon((x - TOUCH) / speed)
    assert ttc((x, 1.83, 0.0, 0.0, 0.0), speed) == math.inf


@dataclass(frozen=True)
class Conflict:
    """An ego and another car that is aimed at it, or a little past it."""

    speed: float  # m/s, of the ego
    yaw: float  # rad, of the ego
    heading: float  # rad, of the other car, wherever it moves to
    bearing: float  # rad, map, of the other car
    gap: float  # m, between the centres
    aside: float  # m, by which the other's centre passes the ego's
    closing: float  # m/s, relative

    @property
    def row(self) -> Row:
        """The other car, as `objects` takes it."""
        away = self.bearing + math.pi + math.asin(self.aside / self.gap)  # where the relative motion points
        vx = self.speed * math.cos(self.yaw) + self.closing * math.cos(away)
        vy = self.speed * math.sin(self.yaw) + self.closing * math.sin(away)
        return self.gap * math.cos(self.bearing), self.gap * math.sin(self.bearing), self.heading, vx, vy

    @property
    def found(self) -> float:
        """What is tested."""
        return ttc(self.row, self.speed, self.yaw)


CONFLICTS = st.builds(
    Conflict,
    speed=SPEED,
    yaw=ANGLE,
    heading=ANGLE,
    bearing=ANGLE,
    gap=st.floats(8.0, 80.0),
    aside=st.floats(-6.0, 6.0),
    closing=st.floats(0.5, 25.0),
)


@given(CONFLICTS)
def test_it_is_the_moment_from_which_the_boxes_overlap(conflict: Conflict) -> None:
    """By the same test that ends an episode, on boxes that were moved; a graze of millimetres may be on either side."""
    place, found = (conflict.row, conflict.speed, conflict.yaw), conflict.found
    step = 0.02 / conflict.closing  # 2 cm
    if math.isfinite(found):
        before = np.arange(0.0, found - 0.05 * step, step)
        assert not any(overlap_at(time, *place) for time in before)
        slack = 0.05 * step
        inside = (found + share * slack for share in (1.0, 0.1, 0.01))
        assert any(overlap_at(time, *place) for time in inside) or _grazes(conflict)
    else:
        last = min(2.0 * conflict.gap / conflict.closing, HORIZON_S)
        assert not any(overlap_at(time, *place) for time in np.arange(0.0, last, step))


def _grazes(conflict: Conflict) -> bool:
    """Whether the boxes, each a millimetre narrower and shorter, would miss."""
    x, y, heading, vx, vy = conflict.row
    others = objects((x, y, heading, vx, vy))
    smaller = replace(others, length=others.length - 1e-3, width=others.width - 1e-3)
    missed = time_to_collision(ego(conflict.yaw, conflict.speed), LENGTH - 1e-3, WIDTH - 1e-3, smaller)
    return missed == math.inf


@given(CONFLICTS, ANGLE, METRES, METRES)
def test_neither_frame_nor_hand_matters(conflict: Conflict, turn: float, dx: float, dy: float) -> None:
    assume(not _grazes(conflict))
    here, others, motion = ego(conflict.yaw, conflict.speed), objects(conflict.row), Motion(turn, dx, dy)
    moved = time_to_collision(motion.ego(here), LENGTH, WIDTH, motion.objects(others))
    mirror = replace(others, y=-others.y, yaw=-others.yaw, vy=-others.vy)
    assert moved == pytest.approx(conflict.found, rel=1e-6)
    mirrored = time_to_collision(replace(here, yaw=-here.yaw), LENGTH, WIDTH, mirror)
    assert mirrored == pytest.approx(conflict.found, rel=1e-6)


@given(CONFLICTS)
def test_cars_that_part_are_no_threat(conflict: Conflict) -> None:
    assert replace(conflict, closing=-conflict.closing).found == math.inf


@given(st.floats(-1.7, 1.7), st.floats(-1.7, 1.7), ANGLE, VELOCITY, VELOCITY, SPEED)
def test_who_overlaps_has_no_time_left(x: float, y: float, yaw: float, vx: float, vy: float, speed: float) -> None:
    assert first_overlap(ego(), LENGTH, WIDTH, objects((x, y, yaw, vx, vy))) is not None
    assert ttc((x, y, yaw, vx, vy), speed) == 0.0


@given(CONFLICTS, st.floats(1.5, 4.0))
def test_everything_faster_by_a_factor_comes_sooner_by_it(conflict: Conflict, factor: float) -> None:
    x, y, yaw, vx, vy = conflict.row
    fast = ttc((x, y, yaw, factor * vx, factor * vy), factor * conflict.speed, conflict.yaw)
    assert fast == pytest.approx(conflict.found / factor, rel=1e-6) or _grazes(conflict) or fast > HORIZON_S / factor


@given(st.lists(st.tuples(PLACE, PLACE, st.just(0.0), VELOCITY, VELOCITY), min_size=1, max_size=5), SPEED)
def test_of_several_the_soonest_counts(rows: list[tuple[float, float, float, float, float]], speed: float) -> None:
    assert time_to_collision(ego(0.0, speed), LENGTH, WIDTH, objects(*rows)) == min(ttc(row, speed) for row in rows)


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
