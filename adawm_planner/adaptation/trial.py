"""What a run's students drove in, the one that drives best out; `harness` ends a run with it.

One repair can throw a policy far about, so the newest student need not be the best, and nobody has driven with it yet.
A round's rollouts are too few to tell which is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adawm_planner.adaptation.scores import Tally

Drive = Callable[[int, int, int], Tally]
"""The student after this round drives `count` of the trial's episodes from number `first` on."""


@dataclass(frozen=True)
class Tried:
    """A student, by the round that made it, and how its episodes ended."""

    round: int
    rollouts: Tally  # in its run, with half of the actions sampled
    trial: Tally = Tally(0, 0)

    @property
    def success(self) -> float:
        """Share of all its episodes that did not fail; 0 of none."""
        episodes = self.rollouts.episodes + self.trial.episodes
        return 1.0 - (self.rollouts.failed + self.trial.failed) / episodes if episodes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Episodes, and how many of them succeeded."""
        parts = {"rollouts": self.rollouts, "trial": self.trial}
        counts = {
            name: {"episodes": each.episodes, "successes": each.episodes - each.failed} for name, each in parts.items()
        }
        return {"round": self.round, **counts}

    @property
    def rank(self) -> tuple[float, int]:
        """Of equals the newest is the best."""
        return self.success, self.round


def students_of(rounds: Sequence[Mapping[str, Any]]) -> list[Tried]:
    """Every student of a run with its rollouts, from the rounds' records, oldest first.

    A student drives from the round after it was made on, until another repair.
    """
    found: list[Tried] = []
    for each in rounds:
        if found:
            before, count = found[-1].rollouts, each["episodes"]
            failed = count - round(each["rollout_success"] * count)
            found[-1] = replace(found[-1], rollouts=Tally(before.failed + failed, before.episodes + count))
        if each["updated"]:
            found.append(Tried(each["round"], Tally(0, 0)))
    return found


def sequential_halving(students: Sequence[Tried], budget: int, drive: Drive) -> list[Tried]:
    """Drive in phases; after each the worse half leaves. Return all students with their episodes, the best one last.

    Each phase gets the same share of the episodes, so the fewer are left, the more each of them drives. All that are
    left drive the same episodes (Karnin, Koren and Somekh 2013, "Almost optimal exploration in multi-armed bandits",
    here with the episodes of earlier phases and the rollouts counted as well).

    Args:
        students: at least two.
        budget: most episodes of all together, unless a single one of each phase is more.
        drive: how one of them drives.
    """
    left, out, first = list(students), list[Tried](), 0
    phases = math.ceil(math.log2(len(left)))
    for _ in range(phases):
        count = max(1, budget // (phases * len(left)))
        left = [_driven(each, drive(each.round, first, count)) for each in left]
        first += count
        left.sort(key=lambda each: each.rank)
        out += left[: len(left) // 2]
        left = left[len(left) // 2 :]
    return out + left


def _driven(student: Tried, tally: Tally) -> Tried:
    before = student.trial
    return replace(student, trial=Tally(before.failed + tally.failed, before.episodes + tally.episodes))
