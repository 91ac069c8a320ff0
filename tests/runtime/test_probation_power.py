"""What probation finds with the shipped limits, and what it does not: the tables of docs/adapters.md are made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.runtime.swap.probation import EpisodeOutcome, Probation, Record

CONFIG = SwapConfig()
RUNS = 1000
DOCS = Path(__file__).parents[2] / "docs" / "adapters.md"
PAIRS = ((0.9, 0.9), (0.9, 0.6), (0.9, 0.4), (0.9, 0.2), (1.0, 0.8), (1.0, 0.6), (0.5, 0.5), (0.5, 0.2), (0.5, 0.0))
"""Success rate of what drove before, and of the adapter."""


def drive(record: Record, rate: float, rng: np.random.Generator, episodes: int) -> Record:
    for _ in range(episodes):
        record = record.add(episode(rate, rng), CONFIG)
    return record


def episode(rate: float, rng: np.random.Generator) -> EpisodeOutcome:
    success = bool(rng.random() < rate)
    return EpisodeOutcome(("a",), True, success, "goal" if success else "collision", 3.0)


def judge(record: Record, rate: float, rng: np.random.Generator) -> tuple[bool, Probation]:
    """Whether an adapter is committed, and its probation."""
    test = Probation(record.bound(CONFIG), record.floor(CONFIG))
    while True:
        test = test.add(episode(rate, rng))
        if test.is_worse(CONFIG):
            return False, test
        if test.is_over(CONFIG):
            return True, test


def power() -> list[str]:
    """Rows of the first table: a full record of what drove, then one adapter."""
    rows = []
    for before, rate in PAIRS:
        rng = np.random.default_rng(0)
        ends = [judge(drive(Record(), before, rng, 2 * CONFIG.record_episodes), rate, rng) for _ in range(RUNS)]
        committed = sum(good for good, _ in ends) / RUNS
        length = np.median([test.episodes for _, test in ends])
        rows.append(f"| {before:.1f} | {rate:.1f} | {100.0 * committed:.0f} % | {length:.0f} |")
    return rows


def ratchet(loss: float, steps: int = 5) -> str:
    """Row of the second table: each adapter is worse than the one before by as much, with a full record between."""
    rng, reached = np.random.default_rng(0), np.zeros(steps)
    for _ in range(RUNS):
        rate, record = 0.9, drive(Record(), 0.9, rng, 2 * CONFIG.record_episodes)
        for step in range(steps):
            rate -= loss
            if not judge(record, rate, rng)[0]:
                break
            reached[step] += 1
            record = drive(record, rate, rng, 2 * CONFIG.record_episodes)
    return f"| {loss:.2f} | " + " | ".join(f"{100.0 * each / RUNS:.0f} %" for each in reached) + " |"


@pytest.mark.parametrize("rows", [power, lambda: [ratchet(0.05), ratchet(0.15)]], ids=["power", "ratchet"])
def test_the_tables_in_the_docs_are_what_is_simulated(rows: Callable[[], list[str]]) -> None:
    found = DOCS.read_text(encoding="utf-8").splitlines()
    missing = [row for row in rows() if row not in found]
    assert not missing, "docs/adapters.md must have:\n" + "\n".join(missing)


def test_the_highest_rate_that_is_ever_asked_for_and_when_one_that_always_fails_is_found() -> None:
    record = drive(Record(), 1.0, np.random.default_rng(0), 2 * CONFIG.record_episodes)
    assert record.bound(CONFIG) == pytest.approx(0.78, abs=0.005)
    for bound, episodes in ((record.bound(CONFIG), 3), (Record().bound(CONFIG), 4)):
        test = Probation(bound)
        while not test.is_worse(CONFIG):
            test = test.add(EpisodeOutcome(("a",), True, False, "collision", 0.0))
        assert test.episodes == episodes
