"""Scores against values computed by hand or taken from the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.evaluation.metrics import (
    NUPLAN_BOUNDS,
    comfort,
    driving_score,
    local_polynomial,
    mean_finite,
    wilson_interval,
)


def test_wilson_interval_matches_the_textbook_case() -> None:
    # Agresti and Coull 1998: 0 of 10 gives an upper bound of 0.278, 5 of 10 gives 0.237..0.763.
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    low, high = wilson_interval(5, 10)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))


@given(trials=st.integers(1, 500), share=st.floats(0.0, 1.0))
def test_wilson_interval_holds_the_estimate_and_stays_in_range(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == (pytest.approx(1.0 - high, abs=1e-12), pytest.approx(1.0 - low, abs=1e-12))


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_is_no_proportion(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {trials}"):
        wilson_interval(successes, trials)


def test_mean_ttc_ignores_episodes_without_a_threat_and_never_turns_them_into_zero() -> None:
    assert mean_finite([2.0, math.inf, 4.0]) == 3.0
    assert mean_finite([math.inf, math.inf]) == math.inf
    assert mean_finite([]) == math.inf


def test_driving_score_follows_leaderboard_2_1() -> None:
    assert driving_score(1.0, 0) == 100.0
    assert driving_score(1.0, 1) == pytest.approx(100.0 / 1.7)
    assert driving_score(0.5, 2) == pytest.approx(50.0 / 2.4)
    with pytest.raises(ValueError, match=r"1\.2"):
        driving_score(1.2, 0)


def test_local_polynomial_is_exact_for_its_own_degree_also_at_the_ends() -> None:
    time = 0.05 * np.arange(60)
    values = 1.0 - 2.0 * time + 3.0 * time**2
    assert local_polynomial(values, 0.05, 0.8, 0, 2) == pytest.approx(values, abs=1e-9)
    assert local_polynomial(values, 0.05, 1.5, 1, 2) == pytest.approx(-2.0 + 6.0 * time, abs=1e-9)
    assert local_polynomial(values, 0.05, 1.5, 2, 3) == pytest.approx(np.full(60, 6.0), abs=1e-6)


def test_local_polynomial_matches_scipy() -> None:
    signal = pytest.importorskip("scipy.signal")
    values = np.random.default_rng(0).normal(size=80)
    ours = local_polynomial(values, 0.1, 1.4, 1, 2)  # 15 samples
    theirs = signal.savgol_filter(values, 15, 2, deriv=1, delta=0.1)
    assert ours == pytest.approx(theirs, abs=1e-9)


def _circle(time: np.ndarray, speed: float, yaw_rate: float):  # type: ignore[no-untyped-def]
    return comfort(time, np.full(len(time), speed), yaw_rate * time, np.zeros(len(time)))


def test_comfort_of_a_steady_circle_is_its_lateral_acceleration() -> None:
    motion = _circle(0.05 * np.arange(100), 8.0, 0.5)
    assert motion.max_lateral_acceleration == pytest.approx(4.0, abs=1e-6)
    assert motion.max_yaw_rate == pytest.approx(0.5, abs=1e-9)  # rad/s, not deg/s
    assert motion.max_jerk == pytest.approx(0.0, abs=1e-6)
    assert motion.comfortable
    assert not _circle(0.05 * np.arange(100), 10.0, 0.5).comfortable  # 5.0 > 4.89 m/s2


def test_comfort_uses_the_stamps_and_not_an_assumed_period() -> None:
    slow, fast = (_circle(dt * np.arange(100), 8.0, 0.4) for dt in (0.1, 0.05))
    assert slow.max_yaw_rate == pytest.approx(fast.max_yaw_rate, abs=1e-9)
    time = 0.05 * np.arange(100)
    ramp = comfort(time, np.zeros(100), np.zeros(100), 3.0 * time - 7.5)
    assert ramp.max_longitudinal_jerk == pytest.approx(3.0, abs=1e-6)


def test_comfort_bridges_a_missing_frame() -> None:
    time = np.delete(0.05 * np.arange(100), 40)
    assert _circle(time, 8.0, 0.5).max_lateral_acceleration == pytest.approx(4.0, abs=1e-6)


def test_hard_braking_is_not_comfortable_and_names_the_bound() -> None:
    time = 0.05 * np.arange(100)
    motion = comfort(time, np.zeros(100), np.zeros(100), np.where(time > 2.0, -6.0, 0.0))
    broken = [name for name, holds in motion.within(NUPLAN_BOUNDS).items() if not holds]
    assert "min_longitudinal_acceleration" in broken
    assert "max_longitudinal_jerk" in broken


@pytest.mark.parametrize("time", [np.array([0.0]), np.array([0.0, 0.1, 0.1]), np.array([0.2, 0.1, 0.0])])
def test_comfort_refuses_stamps_that_do_not_increase(time: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frames|stamps"):
        comfort(time, np.zeros(len(time)), np.zeros(len(time)), np.zeros(len(time)))


@pytest.mark.parametrize(("completion", "collisions"), [(-0.01, 0), (1.01, 0), (math.nan, 0), (1.0, -1)])
def test_driving_score_refuses_what_is_no_score(completion: float, collisions: int) -> None:
    with pytest.raises(ValueError, match=r"needs? "):
        driving_score(completion, collisions)


@given(completion=st.floats(0.0, 1.0), collisions=st.integers(0, 20))
def test_driving_score_is_the_formula_and_falls_with_every_collision(completion: float, collisions: int) -> None:
    score = driving_score(completion, collisions)
    assert score == pytest.approx(100.0 * completion / (1.0 + 0.7 * collisions), abs=1e-9)
    assert 0.0 <= driving_score(completion, collisions + 1) <= score <= 100.0


TIME = 0.05 * np.arange(120)

GOLDEN = {
    # Constant speed v on a yaw of w t: rate w, lateral acceleration v w, nothing else.
    "steady turn": ((6.0 + 0.0 * TIME, 0.3 * TIME, 0.0 * TIME), {"max_yaw_rate": 0.3, "max_lateral_acceleration": 1.8}),
    # Yaw a t^2 / 2 at standstill: rate a t, yaw acceleration a.
    "winding up": ((0.0 * TIME, 0.1 * TIME**2, 0.0 * TIME), {"max_yaw_acceleration": 0.2, "max_yaw_rate": 1.19}),
    # Acceleration j t straight ahead: both jerks are j, the largest acceleration j T.
    "easing in": (
        (0.0 * TIME, 0.0 * TIME, 0.4 * TIME),
        {"max_longitudinal_jerk": 0.4, "max_jerk": 0.4, "max_longitudinal_acceleration": 2.38},
    ),
    "braking": (
        (0.0 * TIME, 0.0 * TIME, -3.0 + 0.0 * TIME),
        {"min_longitudinal_acceleration": -3.0, "max_longitudinal_acceleration": -3.0},
    ),
}
"""Motions that are polynomials of the filters' degree, so that every extreme is known in closed form."""


@pytest.mark.parametrize("name", GOLDEN)
def test_comfort_equals_the_closed_form(name: str) -> None:
    (speed, yaw, acceleration), expected = GOLDEN[name]
    found = comfort(TIME, speed, yaw, acceleration)
    named = {key: getattr(found, key) for key in expected}
    assert named == pytest.approx(expected, abs=1e-6)
    silent = {"max_yaw_rate", "max_lateral_acceleration", "max_yaw_acceleration", "max_longitudinal_jerk", "max_jerk"}
    for key in silent - set(expected):
        assert getattr(found, key) == pytest.approx(0.0, abs=1e-6), key


@given(turn=st.floats(-3.0, 3.0), later=st.floats(0.0, 1e4))
def test_comfort_knows_neither_frame_nor_epoch_nor_hand(turn: float, later: float) -> None:
    speed, yaw, acceleration = 5.0 + np.sin(TIME), 0.4 * np.sin(0.8 * TIME), np.cos(TIME)
    here = comfort(TIME, speed, yaw, acceleration)
    for other in (yaw + turn, -yaw, yaw + 2.0 * math.pi):
        there = comfort(TIME + later, speed, (other + math.pi) % (2.0 * math.pi) - math.pi, acceleration)
        for key, holds in here.within().items():
            assert getattr(there, key) == pytest.approx(getattr(here, key), abs=1e-4), key
            assert there.within()[key] == holds


@pytest.mark.parametrize("series", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_comfort_refuses_values_that_are_not_finite(series: int, value: float) -> None:
    columns = [np.zeros(len(TIME)) for _ in range(3)]
    columns[series][7] = value
    with pytest.raises(ValueError, match="finite"):
        comfort(TIME, *columns)
