"""Box overlap and time to collision against closed-form cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.data_types import EgoState
from adawm_planner.simulator.collision import first_overlap, time_to_collision
from tests.observation.scenes import objects

LENGTH, WIDTH = 4.7, 1.85


def ego(yaw: float = 0.0, speed: float = 0.0) -> EgoState:
    return EgoState(0.0, 0.0, yaw, speed, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("x", "y", "yaw", "hit"),
    [
        (4.5, 0.0, 0.0, True),  # 4.6 m is where bumpers touch
        (4.7, 0.0, 0.0, False),
        (0.0, 1.80, 0.0, True),  # 1.825 m is where sides touch
        (0.0, 1.85, 0.0, False),
        (3.2, 0.0, math.pi / 2, True),  # half a length and half a width
        (3.3, 0.0, math.pi / 2, False),
        (3.8, 2.8, math.pi / 4, False),  # a circle or axis-aligned box would call this a hit
    ],
)
def test_overlap(x: float, y: float, yaw: float, hit: bool) -> None:
    found = first_overlap(ego(), LENGTH, WIDTH, objects((x, y, yaw, 0.0, 0.0)))
    assert found == (1 if hit else None)


def test_overlap_does_not_depend_on_the_frame() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, yaw, turn = rng.uniform(-4, 4), rng.uniform(-4, 4), rng.uniform(-3, 3), rng.uniform(-3, 3)
        cos, sin = math.cos(turn), math.sin(turn)
        here = first_overlap(ego(), LENGTH, WIDTH, objects((x, y, yaw, 0, 0)))
        there = first_overlap(
            ego(turn), LENGTH, WIDTH, objects((x * cos - y * sin, x * sin + y * cos, yaw + turn, 0, 0))
        )
        assert here == there


def test_the_nearest_of_two_is_named() -> None:
    assert first_overlap(ego(), LENGTH, WIDTH, objects((3.0, 0, 0, 0, 0), (1.0, 0, 0, 0, 0))) == 2


def test_nobody_there_means_no_threat() -> None:
    assert first_overlap(ego(), LENGTH, WIDTH, objects()) is None
    assert time_to_collision(ego(), LENGTH, WIDTH, objects()) == math.inf


def test_time_to_a_standing_car_ahead() -> None:
    found = time_to_collision(ego(speed=10.0), LENGTH, WIDTH, objects((50.0, 0, 0, 0, 0)))
    assert found == pytest.approx((50.0 - 0.5 * (LENGTH + 4.5)) / 10.0)


@pytest.mark.parametrize(
    "other",
    [
        (50.0, 0.0, 0.0, 12.0, 0.0),  # ahead and faster
        (-50.0, 0.0, 0.0, 0.0, 0.0),  # behind and standing
        (0.0, 50.0, 0.0, 10.0, 0.0),  # beside, same velocity
        (50.0, 40.0, 0.0, 0.0, 0.0),  # passed at a distance
        (50.0, 1.9, 0.0, 0.0, 0.0),  # passed without touching
    ],
)
def test_nothing_closes(other: tuple[float, float, float, float, float]) -> None:
    assert time_to_collision(ego(speed=10.0), LENGTH, WIDTH, objects(other)) == math.inf


def test_crossing_paths_that_meet() -> None:
    ttc = time_to_collision(ego(speed=10.0), LENGTH, WIDTH, objects((30.0, 30.0, -math.pi / 2, 0.0, -10.0)))
    assert ttc == pytest.approx((30.0 - 0.5 * (WIDTH + 4.5)) / 10.0)  # the ego's nose is in its way by then


def test_a_corner_that_would_be_hit_is_a_conflict_and_one_that_is_passed_is_none() -> None:
    """The centres pass by 1.8 m: only bodies tell the two apart."""
    found = time_to_collision(ego(speed=5.0), LENGTH, WIDTH, objects((4.8, -1.8, 0.0, 0.0, 0.0)))
    assert found == pytest.approx((4.8 - 0.5 * (LENGTH + 4.5)) / 5.0)
    assert time_to_collision(ego(speed=5.0), LENGTH, WIDTH, objects((4.8, -1.88, 0.0, 0.0, 0.0))) == math.inf
