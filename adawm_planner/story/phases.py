"""What has happened so far in, the next phase out: when each part of the story ends, and why. Pure.

nominal -> shifted -> adapting -> recovered -> rolled_back -> (end)
               \\-> (end)  \\-> rolled_back

Counts of episodes end every phase at the latest, so a story never goes on for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from adawm_planner.config.story import StoryConfig
from adawm_planner.evaluation.metrics import wilson_interval


class Phase(Enum):
    """Part of the story; values are stable, for the document."""

    NOMINAL = "nominal"  # as the base model was trained
    SHIFTED = "shifted"  # other vehicle or task, nothing done about it yet
    ADAPTING = "adapting"  # an adapter that was made since drives
    RECOVERED = "recovered"  # fresh episodes after success had recovered
    ROLLED_BACK = "rolled_back"  # the base model again, by the operator, and pinned


@dataclass(frozen=True)
class Tally:
    """Successes of a number of episodes."""

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of successes, 0 where there is no episode."""
        return self.successes / self.episodes if self.episodes else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; (0, 1) where there is no episode."""
        return wilson_interval(self.successes, self.episodes) if self.episodes else (0.0, 1.0)


def tally(successes: Sequence[bool]) -> Tally:
    """Count."""
    return Tally(sum(successes), len(successes))


@dataclass(frozen=True)
class Facts:
    """All that the next phase depends on."""

    phase: Phase
    successes: dict[Phase, tuple[bool, ...]]  # one per episode of each phase, in order
    adapted: bool  # an adapter drives that did not at the shift

    def of(self, phase: Phase) -> tuple[bool, ...]:
        """Outcomes of one phase."""
        return self.successes.get(phase, ())


@dataclass(frozen=True)
class Turn:
    """The end of a phase."""

    after: Phase | None  # None: the story is over
    reason: str  # why, in one line


def next_turn(facts: Facts, config: StoryConfig) -> Turn | None:
    """Tell whether the phase is over.

    Returns:
        None while it goes on.
    """
    done = len(facts.of(facts.phase))
    match facts.phase:
        case Phase.NOMINAL:
            over = done >= config.nominal_episodes
            return Turn(Phase.SHIFTED, f"{done} episodes driven") if over else None
        case Phase.SHIFTED:
            return _after_shift(facts, done, config)
        case Phase.ADAPTING:
            return _after_adapting(facts, done, config)
        case Phase.RECOVERED:
            over = done >= config.recovered_episodes
            return Turn(Phase.ROLLED_BACK, f"{done} fresh episodes driven") if over else None
        case Phase.ROLLED_BACK:
            return Turn(None, f"{done} episodes driven") if done >= config.rolled_back_episodes else None


def has_fallen(before: Tally, during: Tally) -> bool:
    """Whether success fell: the 95 % intervals do not overlap."""
    return during.interval[1] < before.interval[0]


def has_recovered(before: Tally, during: Tally, newest: Tally, config: StoryConfig) -> bool:
    """Whether success is back.

    Args:
        before: in the nominal phase.
        during: after the shift, before any adapter.
        newest: the newest `config.window` episodes with adapters; fewer are never enough.
        config: share to be regained.

    Returns:
        True when success had fallen, the interval of `newest` lies above that of `during`, and the share of the loss
        that was asked for is regained.
    """
    if newest.episodes < config.window or not has_fallen(before, during):
        return False
    asked = during.rate + config.regained * (before.rate - during.rate)
    return newest.interval[0] > during.interval[1] and newest.rate >= asked - 1e-9


def _after_shift(facts: Facts, done: int, config: StoryConfig) -> Turn | None:
    # One episode at least, so that there is a rate to compare with.
    if facts.adapted and done > 0:
        return Turn(Phase.ADAPTING, f"an adapter drives after {done} episodes")
    if done >= config.shifted_limit:
        return Turn(None, f"no adapter drove within {done} episodes (limit {config.shifted_limit}): not recovered")
    return None


def _after_adapting(facts: Facts, done: int, config: StoryConfig) -> Turn | None:
    before, during = tally(facts.of(Phase.NOMINAL)), tally(facts.of(Phase.SHIFTED))
    newest = tally(facts.of(Phase.ADAPTING)[-config.window :])
    if has_recovered(before, during, newest, config):
        return Turn(Phase.RECOVERED, f"{newest.successes} of the newest {newest.episodes} episodes succeeded")
    if done < config.adapting_limit:
        return None
    if not has_fallen(before, during):
        return Turn(Phase.ROLLED_BACK, "the shift did not lower success significantly: there was nothing to recover")
    return Turn(
        Phase.ROLLED_BACK,
        f"not recovered within {done} episodes (limit {config.adapting_limit}): {newest.successes} of the newest "
        f"{newest.episodes} succeeded",
    )
