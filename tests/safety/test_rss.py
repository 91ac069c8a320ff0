"""Responsibility-Sensitive Safety: closed-form values, and what must hold for all values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.safety.rss import (
    safe_distance_lateral,
    safe_distance_opposite_direction,
    safe_distance_same_direction,
    stopping_distance,
)

HUMAN = (1.0, 3.5, 4.0, 8.0)
"""ad-rss-lib's response time, acceleration, least and hardest braking."""

SPEED = st.floats(0.0, 60.0)


@pytest.mark.parametrize(
    ("kmh", "response_s", "expected"),
    [(30, 1.0, 23.2), (50, 1.0, 41.4), (80, 1.0, 75.8), (30, 0.3, 9.3), (50, 0.3, 20.2), (80, 0.3, 43.7)],
)
def test_following_at_the_same_speed_gives_the_published_distances(
    kmh: float, response_s: float, expected: float
) -> None:
    v = kmh / 3.6
    after = v + 3.5 * response_s
    by_hand = v * response_s + 3.5 * response_s**2 / 2.0 + after**2 / 8.0 - v**2 / 16.0
    distance = float(safe_distance_same_direction(v, v, response_s, *HUMAN[1:]))
    assert distance == pytest.approx(by_hand, abs=1e-9)
    assert distance == pytest.approx(expected, abs=0.05)


def test_side_by_side_at_rest_gives_the_published_distance() -> None:
    assert float(safe_distance_lateral(0.0, 0.0, 1.0, 2.0, 0.2, 0.8, 0.1)) == pytest.approx(0.725, abs=1e-6)


def test_lateral_distance_counts_each_ones_own_response_and_speed() -> None:
    # own: 1 * 0.5 + 0.1 * 0.25 + 1.1 ** 2 / 1.6; other: moving away at 0.5, stops within 0.4 ** 2 / 1.6 the same way
    nearer = 0.5 + 0.025 + 1.21 / 1.6
    farther = -0.5 * 0.5 + 0.025 - 0.4**2 / 1.6
    assert float(safe_distance_lateral(1.0, -0.5, 0.5, 0.5, 0.2, 0.8, 0.1)) == pytest.approx(nearer + farther + 0.1)
    assert float(safe_distance_lateral(-3.0, -3.0, 1.0, 2.0, 0.2, 0.8, 0.1)) == 0.0


def test_oncoming_needs_both_stopping_distances() -> None:
    v, w = 10.0, 6.0
    mine = v * 0.3 + 0.5 * 2.0 * 0.09 + (v + 0.6) ** 2 / 8.0
    theirs = w * 1.5 + 0.5 * 2.0 * 2.25 + (w + 3.0) ** 2 / 6.0
    assert float(safe_distance_opposite_direction(v, w, 0.3, 1.5, 2.0, 4.0, 3.0)) == pytest.approx(mine + theirs)


def test_stopping_distance_is_what_a_simulated_vehicle_needs() -> None:
    speed, travelled, dt = 12.0, 0.0, 1e-4
    for k in range(200_000):
        acceleration = 1.5 if k * dt < 0.5 else -5.0
        travelled += speed * dt
        speed = max(speed + acceleration * dt, 0.0)
    assert speed == 0.0
    assert float(stopping_distance(12.0, 0.5, 1.5, 5.0)) == pytest.approx(travelled, abs=0.01)


@given(SPEED, SPEED, SPEED, st.floats(0.05, 2.0))
def test_a_faster_rear_needs_more_and_a_faster_front_less(rear: float, front: float, more: float, rho: float) -> None:
    rest = (rho, *HUMAN[1:])
    distance = float(safe_distance_same_direction(rear, front, *rest))
    assert distance >= 0.0
    assert float(safe_distance_same_direction(rear + more, front, *rest)) >= distance
    assert float(safe_distance_same_direction(rear, front + more, *rest)) <= distance


@given(SPEED, SPEED, st.floats(0.05, 2.0))
def test_at_the_safe_distance_a_full_stop_of_both_ends_without_touch(rear: float, front: float, rho: float) -> None:
    gap = float(safe_distance_same_direction(rear, front, rho, *HUMAN[1:]))
    rear_stop = float(stopping_distance(rear, rho, 3.5, 4.0))
    front_stop = front**2 / 16.0
    assert gap + front_stop - rear_stop >= -1e-9


@given(SPEED, SPEED, st.floats(0.05, 2.0), st.floats(0.05, 2.0))
def test_oncoming_is_symmetric_and_never_less_than_following_a_standing_one(
    own: float, other: float, rho: float, other_rho: float
) -> None:
    there = float(safe_distance_opposite_direction(own, other, rho, other_rho, 3.5, 4.0, 4.0))
    back = float(safe_distance_opposite_direction(other, own, other_rho, rho, 3.5, 4.0, 4.0))
    assert there == pytest.approx(back)
    assert there >= float(safe_distance_same_direction(own, 0.0, rho, *HUMAN[1:])) - 1e-9


@given(st.floats(-5.0, 5.0), st.floats(-5.0, 5.0), st.floats(0.0, 3.0))
def test_moving_nearer_never_needs_less_room(own: float, other: float, more: float) -> None:
    rest = (0.3, 0.5, 0.2, 0.8, 0.1)
    assert float(safe_distance_lateral(own + more, other, *rest)) >= float(safe_distance_lateral(own, other, *rest))


def test_arrays_give_what_scalars_give() -> None:
    speeds = np.array([0.0, 3.0, 14.0])
    together = safe_distance_same_direction(10.0, speeds, *HUMAN)
    assert np.allclose(together, [float(safe_distance_same_direction(10.0, v, *HUMAN)) for v in speeds])
