"""Past decisions in, the recurrent state that an engine would have now out.

An engine that starts to drive in the middle of an episode has not seen its beginning. It is run over the newest past
observations with the actions that were really taken, as if the episode had begun there: any time in the background,
and over the last one or two at the flip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from adawm_planner.data_types import Carry, PolicyOutput
from adawm_planner.runtime.drive_step import Decision, one_hot
from adawm_planner.runtime.engine import Engine

KEPT = 32
"""Decisions that are remembered, 6.4 s; about 170 kB."""

MOST_AT_FLIP = 2
"""Decisions that may be filtered between two ticks; each takes as long as a decision of the engine."""


@dataclass(frozen=True)
class History:
    """The newest decisions of the running episode. Immutable: another thread may keep one."""

    episode: int = 0  # counts episodes that had a decision
    count: int = 0  # decisions of this episode, remembered or not
    steps: tuple[Decision, ...] = ()  # the newest KEPT, the oldest first

    def add(self, decision: Decision) -> History:
        """The history after one more decision."""
        if decision.first:
            return History(self.episode + 1, 1, (decision,))
        return History(self.episode, self.count + 1, (*self.steps, decision)[-KEPT:])


@dataclass(frozen=True)
class Warm:
    """An engine that is ready to drive from a position on."""

    engine: Engine
    carry: Carry  # after decision `count`, with the action that was taken
    episode: int
    count: int


def rewarm(engine: Engine, history: History) -> Warm:
    """Run an engine over a history from its oldest decision on."""
    carry = _filter(engine, engine.initial(), history.steps, first=True)
    return Warm(engine, carry, history.episode, history.count)


def advance(warm: Warm, history: History, most: int = KEPT) -> Warm | None:
    """Bring a warm engine up to the newest decision.

    Args:
        warm: as it was left.
        history: of now.
        most: decisions that may be filtered for it.

    Returns:
        The engine at the newest decision; None when more than `most` are missing.
    """
    anew = warm.episode != history.episode
    missing = history.count if anew else history.count - warm.count
    if missing > min(most, len(history.steps)):
        return None
    steps = history.steps[len(history.steps) - missing :]
    carry = _filter(warm.engine, warm.engine.initial() if anew else warm.carry, steps, first=anew)
    return Warm(warm.engine, carry, history.episode, history.count)


def follow(warm: Warm, history: History) -> tuple[Warm, PolicyOutput] | None:
    """Let a warm engine decide on the newest observation of a history, whatever it was given before.

    Returns:
        The engine after that decision, with the action that was really taken, and its own output; None when it has
        seen the observation already.
    """
    if (warm.episode, warm.count) >= (history.episode, history.count):
        return None
    newest = history.steps[-1]
    before = History(history.episode, history.count - 1, history.steps[:-1])
    there = advance(warm, before) or rewarm(warm.engine, before)
    after, output = warm.engine.step(there.carry, newest.observation, newest.first)
    carry = replace(after, action=one_hot(newest.action.index))
    return Warm(warm.engine, carry, history.episode, history.count), output


def _filter(engine: Engine, carry: Carry, steps: Iterable[Decision], first: bool) -> Carry:
    for step in steps:
        after, _ = engine.step(carry, step.observation, first)
        carry, first = replace(after, action=one_hot(step.action.index)), False
    return carry
