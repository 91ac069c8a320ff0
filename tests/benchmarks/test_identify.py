"""Which cause a trial names, and how trials are counted, on pools whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from adawm_planner.adaptation.mismatch import pair_of
from adawm_planner.adaptation.scores import DIRECT, Baseline, Sample, Scales, Tally
from adawm_planner.adaptation.select_part import Part
from adawm_planner.config.adaptation import load_adaptation
from benchmarks import identify as identification
from benchmarks.identify import CAUSES, Judge, Judgement, Pool, false_repairs, over_conditions, verdict

CONFIG = load_adaptation()
NOISE = np.tile([-0.1, 0.1], 12)
FAR = 3.0 + NOISE
"""Thirty deviations above the baseline."""


def judge() -> Judge:
    samples = {name: Sample(0.0, 0.1, 100) for name in DIRECT}
    return Judge(Baseline("", {}, Tally(0, 100), samples, Scales(1.0, 1.0)), CONFIG)


def pool(cause: str, *far: str, outcome: str = "success") -> Pool:
    """24 episodes in which these scores are far above the baseline; `cause_task` is asked anew for every trial."""
    values = {name: FAR if name in far else NOISE for name in DIRECT}
    task = values.pop("cause_task")
    measure: Any = SimpleNamespace(visited=SimpleNamespace(episodes=24), cause_task=lambda samples, chosen: task)
    return Pool(cause, ("t", cause), (outcome,) * 24, values, measure)


@pytest.mark.parametrize(
    ("far", "named"),
    [
        ((), "none"),
        (("cause_vehicle",), "vehicle"),
        (("cause_task",), "task"),
        (("cause_vehicle", "cause_task"), "both"),
    ],
)
def test_what_is_far_above_its_baseline_is_named(far: tuple[str, ...], named: str) -> None:
    trials = list(judge().direct(pool("both", *far), 12, 5))
    assert [each.named for each in trials] == [named] * 2, "24 episodes are two disjoint trials of 12"


def test_what_is_far_below_is_nothing() -> None:
    one = pool("none")
    below = Pool(one.cause, one.condition, one.outcomes, {**one.values, "cause_vehicle": -FAR}, one.measure)
    assert {each.named for each in judge().direct(below, 12, 2)} == {"none"}


def test_the_part_follows_the_deciding_evidence() -> None:
    dynamics, policy = pair_of(CONFIG)
    parts = [
        next(judge().direct(pool("both", *far, outcome=outcome), 12, 1)).part
        for outcome in ("success", "collision")
        for far in ((), (dynamics,), (policy,))
    ]
    well, badly = parts[:3], parts[3:]
    assert well == [Part.NOTHING, Part.DYNAMICS, Part.NOTHING]
    assert badly == [Part.POLICY, Part.DYNAMICS, Part.POLICY]
    assert (pool("both").success, pool("both", outcome="collision").success) == (1.0, 0.0)


def test_trials_are_counted_by_what_was_planted_and_what_was_named() -> None:
    pools = [pool("none"), pool("vehicle", "cause_vehicle"), pool("task", "cause_vehicle"), pool("both", "cause_task")]
    found = verdict([each for one in pools for each in judge().direct(one, 12, 2)])
    assert found["confusion"] == {
        "none": {"none": 2},
        "vehicle": {"vehicle": 2},
        "task": {"vehicle": 2},
        "both": {"task": 2},
    }
    assert {cause: each["share"] for cause, each in found["identified"].items()} == {
        "none": 1.0,
        "vehicle": 1.0,
        "task": 0.0,
        "both": 0.0,
    }
    assert (found["identified_planted"]["share"], found["identified_planted"]["trials"]) == (pytest.approx(1 / 3), 6)
    assert found["nothing_is_wrong"]["share"] == 1.0


def test_trials_that_end_alike_are_one_observation() -> None:
    alike = [
        Judgement(cause, cause if k % 2 else "none", Part.NOTHING, (f"task{k}", cause))
        for cause in CAUSES[1:]
        for k in range(4)
        for _ in range(12)
    ]
    low, high = over_conditions(alike)
    assert 0.5 - low == pytest.approx(1.96 * 0.5 / 12**0.5, abs=0.05), "twelve conditions, not 144 trials"
    assert high - 0.5 == pytest.approx(0.5 - low, abs=0.05)
    assert over_conditions([each for each in alike if each.named != "none"]) == [1.0, 1.0]


def test_a_run_errs_more_often_than_one_look() -> None:
    dynamics, _ = pair_of(CONFIG)
    assert set(false_repairs(pool("none", dynamics), judge(), 12, 5)["share_by_round"]) == {1.0}
    shares = false_repairs(pool("none"), judge(), 12, 100)["share_by_round"]
    assert shares == sorted(shares) and shares[0] < shares[-1] < 0.1


def test_sizes_are_judged_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification, "load_agent", lambda folder: pytest.fail("loaded"))
    for sizes in ("a,b", "4,1", ""):
        result = CliRunner().invoke(identification.identify, ["--sizes", sizes])
        assert result.exit_code == 2 and f"Invalid value for '--sizes': '{sizes}' must be" in result.output
