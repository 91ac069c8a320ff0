"""Two evaluations of the same seeds in, how far their outcomes agree out.

Pairs by seed, because unpaired rates of 200 episodes hide differences below 5 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Outcome per seed of two runs, over the seeds both have."""

    seeds: int  # in both runs
    same: int  # with the same outcome
    differing: tuple[tuple[int, str, str], ...]  # seed, first outcome, second outcome
    only_first_succeeds: int
    only_second_succeeds: int

    @property
    def agreement(self) -> float:
        """Share of the common seeds with the same outcome, 0..1."""
        return self.same / self.seeds

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test (Psychometrika 12, 1947) that both succeed equally often."""
        return exact_mcnemar(self.only_first_succeeds, self.only_second_succeeds)

    def to_json(self) -> dict[str, Any]:
        """This comparison as plain JSON values."""
        return {
            "seeds": self.seeds,
            "same_outcome": self.same,
            "agreement": self.agreement,
            "only_first_succeeds": self.only_first_succeeds,
            "only_second_succeeds": self.only_second_succeeds,
            "mcnemar_p": self.p_value,
            "differing": [{"seed": seed, "first": a, "second": b} for seed, a, b in self.differing],
        }


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of pairs that differ: in how many of them only the first, only the second succeeds."""
    changed, fewer = only_first + only_second, min(only_first, only_second)
    # In integers, which no number of seeds overflows: Python rounds their quotient, and only that.
    return min(2 * sum(math.comb(changed, k) for k in range(fewer + 1)) / (1 << changed), 1.0)


def compare(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
    """Compare two "adawm.evaluation/1" documents seed by seed.

    Raises:
        ValueError: another task or vehicle, or no seed in common.
    """
    for name in ("task", "vehicle"):
        if first[name] != second[name]:
            raise ValueError(f"cannot pair {name} {first[name]!r} with {second[name]!r}")
    a, b = _outcomes(first), _outcomes(second)
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ValueError("the two runs have no seed in common")
    differing = tuple((seed, a[seed], b[seed]) for seed in common if a[seed] != b[seed])
    return Comparison(
        seeds=len(common),
        same=len(common) - len(differing),
        differing=differing,
        only_first_succeeds=sum(one == "success" for _, one, _ in differing),
        only_second_succeeds=sum(other == "success" for _, _, other in differing),
    )


def _outcomes(document: dict[str, Any]) -> dict[int, str]:
    return {episode["seed"]: episode["outcome"] for episode in document["detail"]}


def matching(document: dict[str, Any], candidates: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The candidate with the same task and vehicle (and driver, where several have), None if there is none."""
    same = [each for each in candidates if all(each[name] == document[name] for name in ("task", "vehicle"))]
    return next((each for each in same if each["driver"] == document["driver"]), same[0] if same else None)
