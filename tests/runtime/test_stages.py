"""Histograms of stages: quantiles within their accuracy, cuts without gaps, and the time between two snapshots."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.runtime.latency import PlannerTimes, TimedEngine
from adawm_planner.runtime.stages import ACCURACY, BUCKETS, LEAST_S, Durations, Histogram, Stages, levels
from tests.runtime.fake_engine import FakeEngine

EMPTY = Durations({}, 0.0, 0.0)


def histogram(values: list[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_those_of_the_samples_within_the_accuracy(seed: int) -> None:
    samples = np.sort(np.random.default_rng(seed).lognormal(math.log(2e-3), 1.5, 5000))
    found = histogram(samples.tolist()).durations()
    assert found.count == 5000
    assert found.mean_s == pytest.approx(samples.mean(), rel=1e-9) and found.max_s == samples[-1]
    for share in (0.0, 0.01, 0.5, 0.99, 0.999, 1.0):
        exact = samples[max(math.ceil(share * 5000), 1) - 1]
        assert abs(found.quantiles(share)[0] / exact - 1.0) <= ACCURACY * (1.0 + 1e-9), share


def test_what_is_too_short_or_too_long_has_a_place_too() -> None:
    found = histogram([0.0, LEAST_S, 1e-9, 1e6]).durations()
    assert dict(found.counts) == {0: 3, BUCKETS - 1: 1}
    assert found.quantiles(0.5) == (LEAST_S,) and found.max_s == 1e6
    assert histogram([1e-7]).durations().quantiles(0.5) == (1e-7,), "never above the maximum"


def test_nothing_measured_is_zero() -> None:
    assert Histogram().durations() == EMPTY
    assert (EMPTY.count, EMPTY.mean_s, EMPTY.quantiles(0.5, 0.9)) == (0, 0.0, (0.0, 0.0))
    assert levels(EMPTY) == {"p50": 0.0, "p99": 0.0, "p99.9": 0.0, "max": 0.0}
    assert EMPTY.since(EMPTY) == EMPTY


def test_the_difference_of_two_snapshots_is_the_time_between_them() -> None:
    first, second = [0.5, 1e-3, 2e-3], [3e-3, 1e-3, 4e-3]
    kept = histogram(first)
    before = kept.durations()
    for value in second:
        kept.add(value)
    found, alone = kept.durations().since(before), histogram(second).durations()
    assert found.counts == alone.counts and found.sum_s == pytest.approx(alone.sum_s)
    assert abs(found.max_s / 4e-3 - 1.0) <= ACCURACY, "the longest of all was before"
    kept.add(0.7)
    assert kept.durations().since(before).max_s == 0.7


@pytest.mark.parametrize("later", [EMPTY, Durations({3: 1}, 1e-6, 1e-6), Durations({4: 9}, 1e-5, 1e-6)])
def test_a_node_that_began_anew_is_noticed(later: Durations) -> None:
    with pytest.raises(ValueError, match="started or configured anew"):
        later.since(Durations({3: 2}, 2e-6, 1e-6))


def test_stages_last_from_cut_to_cut() -> None:
    clock = iter([0.0, 1.0, 1.25, 3.25, 10.0, 10.5])
    stages = Stages(("a", "b"), lambda: next(clock))
    stages.begin()
    assert stages.cut("a") == 0.25 and stages.cut("b") == 2.0
    stages.begin()
    stages.cut("a")
    stages.add("b", 1.0)
    found = stages.durations()
    assert (found["a"].count, found["a"].sum_s) == (2, 0.75)
    assert (found["b"].count, found["b"].sum_s, found["b"].max_s) == (2, 3.0, 2.0)


def test_an_engine_is_timed_with_what_led_to_its_step() -> None:
    clock = iter([0.0, 1.0, 1.5, 1.75])
    times = PlannerTimes(stages=Stages(("observation", "inference"), lambda: next(clock)))
    engine = TimedEngine(FakeEngine(), times)
    times.stages.begin()
    engine.step(engine.initial(), None, True)  # type: ignore[arg-type]
    found = times.stages.durations()
    assert (found["observation"].sum_s, found["inference"].sum_s) == (0.5, 0.25)
    assert times.inference.newest == 0.25
