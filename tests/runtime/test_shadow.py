"""What is counted beside the live one, and which limit refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adawm_planner.adapters.refusal import Reason
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import Action, EgoState, Observation, PolicyOutput, Scene
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.runtime.drive_step import Decision
from adawm_planner.runtime.swap.shadow import ShadowCounts, too_close, verdict
from tests.runtime.inputs import VEHICLE, objects, straight_route

FASTEST = int(np.argmax(ACCELERATION_BINS))
SLOWEST = int(np.argmin(ACCELERATION_BINS))
EGO = EgoState(10.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0)
CONFIG = SwapConfig(shadow_decisions=4, shadow_disagreement=0.5, shadow_variation=0.5)


def one(index: int, chance: float = 1.0) -> np.ndarray:
    probabilities = np.full(ACTION_COUNT, (1.0 - chance) / (ACTION_COUNT - 1), np.float32)
    probabilities[index] = chance
    return probabilities


def live(index: int) -> Decision:
    seen = Observation(np.zeros(BEV_SHAPE, np.uint8), np.zeros(STATE_SIZE, np.float32))
    return Decision(seen, Action(index, ACCELERATION_BINS[index], one(index)), 0.0, False)


def scene(*rows: tuple[float, ...]) -> Scene:
    return Scene(1.0, EGO, objects(*rows), straight_route(), None, VEHICLE)


def test_the_safe_distance_is_that_of_the_formula() -> None:
    # Response 0.2 s at 10 m/s and 0 m/s2, then 4 m/s2: 2 + 12.5 m against a standing car of 4 m length.
    needed = 2.0 + 12.5 + 0.5 * (VEHICLE.length + 4.0)
    assert too_close(scene((10.0 + needed - 0.01, 0.0, 0.0, 0.0, 0.0, 4.0, 1.8)), 0.0)
    assert not too_close(scene((10.0 + needed + 0.01, 0.0, 0.0, 0.0, 0.0, 4.0, 1.8)), 0.0)
    assert not too_close(scene((10.0 + needed - 0.01, 0.0, 0.0, 10.0, 0.0, 4.0, 1.8)), 0.0), "it drives as fast"
    assert not too_close(scene((10.0 + needed - 0.01, 3.5, 0.0, 0.0, 0.0, 4.0, 1.8)), 0.0), "in the next lane"
    assert not too_close(scene((2.0, 0.0, 0.0, 0.0, 0.0, 4.0, 1.8)), 0.0), "behind"


def test_counts() -> None:
    close = scene((29.0, 0.0, 0.0, 0.0, 0.0, 4.0, 1.8))
    counts = ShadowCounts().add(live(SLOWEST), PolicyOutput(one(FASTEST, 0.6), 0.0), close)
    assert counts.decisions == counts.disagreements == 1
    assert counts.variation == pytest.approx(0.9, abs=0.05)
    excused = counts.add(live(FASTEST), PolicyOutput(one(FASTEST), 0.0), close)
    assert excused.violations == counts.violations, "the live one does the same"
    for broken in (PolicyOutput(one(0) * np.nan, 0.0), PolicyOutput(one(0), float("inf"))):
        assert ShadowCounts().add(live(0), broken, None).not_finite == 1


def test_a_candidate_that_closes_up_is_a_violation() -> None:
    slow, fast = ACCELERATION_BINS[SLOWEST], ACCELERATION_BINS[FASTEST]
    found = [
        x
        for x in np.arange(20.0, 40.0, 0.05)
        if too_close(scene((x, 0, 0, 0, 0, 4.0, 1.8)), fast) and not too_close(scene((x, 0, 0, 0, 0, 4.0, 1.8)), slow)
    ]
    near = scene((float(found[0]), 0.0, 0.0, 0.0, 0.0, 4.0, 1.8))
    counts = ShadowCounts().add(live(SLOWEST), PolicyOutput(one(FASTEST), 0.0), near)
    assert counts.violations == 1
    refusal = verdict(counts, CONFIG)
    assert refusal is not None and refusal.reason is Reason.SHADOW and "following distances" in refusal.rule
    assert verdict(counts, replace(CONFIG, shadow_violations=1)) is None


@pytest.mark.parametrize(
    "counts, word",
    [
        (ShadowCounts(1, not_finite=1), "finite"),
        (ShadowCounts(4, disagreements=3), "agree"),
        (ShadowCounts(4, variation=2.1), "distributions"),
    ],
)
def test_each_limit_refuses(counts: ShadowCounts, word: str) -> None:
    refusal = verdict(counts, CONFIG)
    assert refusal is not None and word in refusal.rule
    at_limit = ShadowCounts(4, disagreements=2, variation=2.0)
    assert verdict(at_limit, CONFIG) is None


def test_shares_are_judged_at_the_end_only() -> None:
    assert verdict(ShadowCounts(3, disagreements=3, variation=3.0), CONFIG) is None
