"""Engines out to the driving thread, word of what it drives with in; and who waits for that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from adawm_planner.adapters.verify import VerifiedAdapter
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.good import GoodAdapters
from adawm_planner.runtime.warm import History, Warm, follow, rewarm

_log = logging.getLogger(__name__)


class Flips:
    """At most one engine at a time is ready to be taken. `ready` may be read in the driving thread."""

    def __init__(self, good: GoodAdapters, history: Callable[[], History]) -> None:
        """Start from what drives.

        Args:
            good: what drives from the start, and is gone back to.
            history: tells the newest decisions.
        """
        self._good, self._history = good, history
        self._numbers = 0
        self._waiting: list[m.Answered] = []  # operators who wait for an earlier adapter to drive
        self.ready: m.Ready | None = None
        self.driving = good.adapters
        self.trouble = _trouble(good.late.values())  # why the planner cannot go back; empty: it can, or need not
        self.swaps, self.swap_ms = 0, 0.0  # how many flips there were, and how long the newest took [ms]

    def order(self, warm: Warm, adapters: Sequence[VerifiedAdapter], forward: bool) -> None:
        """Have the driving thread take an engine; arguments as `Ready`'s fields."""
        self._numbers += 1
        self.ready = m.Ready(self._numbers, warm, tuple(adapters), forward)

    def withdraw(self) -> None:
        """Take back what is ready; it may have been taken just now, `flipped` then tells."""
        self.ready = None

    def go_back(self, trying: bool) -> None:
        """Where the planner drives with what is neither good nor tried, have it go back.

        To read or to make an engine may fail for a moment: then each later event tries again, and the report says so
        until it is done.

        Args:
            trying: a bundle that is tried drives, or is about to.
        """
        if not trying:
            self._good.reload(self._good.late)
        why = list(self._good.late.values())
        if not trying and self.ready is None and (self._waiting or self.astray):
            try:
                self.order(rewarm(self._good.engine(), self._history()), self._good.adapters, forward=False)
            except Exception as error:
                if not self.trouble:
                    _log.exception("the last good adapters cannot drive again yet")
                why.append(str(error) or type(error).__name__)
        self.trouble = _trouble(why)

    @property
    def astray(self) -> bool:
        """Whether others than the good adapters drive."""
        return {each.digest for each in self.driving} != self._good.digests

    def follow(self, history: History) -> None:
        """Keep the recurrent state of what is ready up to the newest decision."""
        ready = self.ready
        if ready is not None and (moved := follow(ready.warm, history)) is not None:
            self.ready = replace(ready, warm=moved[0])

    def flipped(self, event: m.Flipped) -> bool:
        """Note what drives; tell whether it is what was asked for, and was not withdrawn just when it was taken."""
        self.driving = event.ready.adapters
        self.swaps, self.swap_ms = self.swaps + 1, 1e3 * event.seconds
        if self.ready is None or self.ready.number != event.ready.number:
            return False
        self.ready = None
        return True

    def missed(self, event: m.Missed) -> None:
        """Re-warm what was too far behind to be taken."""
        ready = self.ready
        if ready is None or ready.number != event.ready.number:
            return
        self.ready = None  # on the way back it is ordered anew, as often as that takes
        if ready.forward:
            self.ready = replace(ready, warm=rewarm(ready.warm.engine, self._history()))

    def answer_later(self, answer: m.Answered) -> None:
        """Have an operator wait for an earlier adapter to drive; at least one flip back follows."""
        self._waiting.append(answer)

    def answer_all(self, reply: m.Reply) -> None:
        """Tell the operators who wait; one who cannot be told keeps no other from hearing it."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            try:
                answer(reply)
            except Exception:
                _log.exception("an operator could not be told: %s", reply.message)


def _trouble(why: Iterable[str]) -> str:
    found = "; ".join(why)
    return f"the last good adapters cannot drive again yet, it is tried again ({found})" if found else ""
