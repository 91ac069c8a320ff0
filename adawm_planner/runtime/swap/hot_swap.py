"""Bundles, decisions and operators' wishes in, engines that are ready to drive out.

`HotSwap.handle` is the whole of it: one event at a time, in a thread that does not drive (thread.py), so that
verifying, loading, probing and re-warming cost no tick. The driving thread sees `ready` and `report`, immutable values
behind one pointer each. Each piece of state has one owner:

- intake.py: the bundles that wait for their turn
- trial.py: the one that is tried, and its stage, in the order of state.py
- good.py: what is gone back to
- records.py: how the episodes of what is good ended, across restarts
- flips.py: what drives, and what is to
- ledger.py: what was refused, and what is over
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from adawm_planner.adapters.refusal import Refusal, Refused
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import Context
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.runtime.engine import AdaptableEngine
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.flips import Flips
from adawm_planner.runtime.swap.good import GoodAdapters
from adawm_planner.runtime.swap.intake import Candidate, Intake
from adawm_planner.runtime.swap.ledger import Ledger, fault
from adawm_planner.runtime.swap.services import Services
from adawm_planner.runtime.swap.state import Stage
from adawm_planner.runtime.swap.trial import Trials
from adawm_planner.runtime.warm import History

_log = logging.getLogger(__name__)

ABOUT_TRIAL = (m.Decided, m.EpisodeEnded, m.Faulted, m.Flipped, m.Missed, m.RollBack)
"""Events whose failure is that of the bundle on its way; a pushed message must not end another one's trial."""


class HotSwap:
    """The swap's logic: one bundle on its way at a time, one more per part waiting for its turn."""

    def __init__(
        self,
        base: AdaptableEngine,
        store: AdapterStore,
        context: Context,
        config: SwapConfig,
        history: Callable[[], History],
        now_unix_s: Callable[[], int],
    ) -> None:
        """Take the store; what it had committed is in `restored` and drives from the start.

        Args:
            base: engine of the base model.
            store: open; only this object uses it from now on.
            context: what bundles are checked against; what was seen is taken from the store.
            config: limits.
            history: tells the newest decisions; may be called in any thread.
            now_unix_s: wall clock, s since 1970.
        """
        self._store, self._config = store, config
        self._ledger = Ledger()
        self._intake = Intake(store, context, now_unix_s, self._ledger)
        self._good = GoodAdapters(base, store, context, config, now_unix_s, self._ledger)
        self._flips = Flips(self._good, history)
        self._trials = Trials(self._good, self._flips, store, config, history, now_unix_s, self._ledger)
        self._services = Services(store, self._intake, self._trials, self._good, self._flips, now_unix_s)
        self.restored = self._good.engine()
        self._tell()

    @property
    def ready(self) -> m.Ready | None:
        """The engine for the driving thread to take, if any."""
        return self._flips.ready

    @property
    def watching(self) -> bool:
        """Whether decisions must be told."""
        trial = self._trials.current
        in_shadow = trial is not None and trial.swap.stage is Stage.SHADOW
        return self.ready is not None or in_shadow or bool(self._flips.trouble)

    @property
    def episode_decisions(self) -> int:
        """Decisions without an end that count as an episode that failed."""
        return self._config.episode_decisions

    def close(self) -> None:
        """Give the store back; operators who still wait are told."""
        self.dismiss("the planner was closed before it drove again")
        self._store.close()

    def dismiss(self, why: str) -> None:
        """Tell the operators who wait for an earlier adapter to drive why no longer."""
        self._flips.answer_all(m.Reply(False, why))

    def handle(self, event: m.Event) -> None:
        """Take one event. An error of ours ends the bundle that the event is about, never the swap."""
        try:
            self._dispatch(event)
            self._go_back()
            self._next()
        except Exception as error:
            _log.exception("%s", type(event).__name__)
            self._failed(event, f"{type(error).__name__}: {error}")
            self._go_back()
        self._tell()

    def _failed(self, event: m.Event, text: str) -> None:
        """End what the event is about. What fails here as well is only logged: the next event finds it as it is."""
        try:
            if isinstance(event, ABOUT_TRIAL):
                self._trials.give_up(fault(text))
            else:
                self._ledger.note(fault(text))
            answer = getattr(event, "answer", None)
            if answer is not None:
                answer(m.Reply(False, text))
        except Exception:
            _log.exception("after %s: %s", type(event).__name__, text)

    def _dispatch(self, event: m.Event) -> None:
        match event:
            case m.Decided():
                self._trials.decided(event)
                self._flips.follow(event.history)
            case m.Push():
                self._intake.push(event, self._trials.digest)
            case m.Load():
                self._intake.load(event, self._trials.digest, self._waits_for())
            case m.Flipped():
                self._flipped(event)
            case m.Missed():
                self._flips.missed(event)
            case m.EpisodeEnded():
                self._trials.ended(event.outcome)
            case m.Faulted():
                self._trials.faulted(event.text)
            case m.RollBack():
                self._services.roll_back(event)
            case m.Pin():
                self._services.pin(event)
            case m.ListAll():
                self._services.list_all(event)
            case m.Turned():
                self._ledger.note(event.refusal, event.count)

    def _flipped(self, event: m.Flipped) -> None:
        if self._flips.flipped(event):
            self._trials.arrived(event.ready.forward)
            entries = self._store.entries_of([each.digest for each in self._flips.driving])
            self._flips.answer_all(m.Reply(True, "drives now", entries))

    def _go_back(self) -> None:
        self._flips.go_back(trying=self._trials.drives)

    def _next(self) -> None:
        """Begin with the next bundle that waits, when nothing else is going on."""
        while not self._waits_for() and (candidate := self._intake.next()) is not None:
            try:
                self._begin(candidate)
            except Refused as refused:
                self._turn_down(candidate, refused.refusal)
            except Exception as error:  # onnxruntime's share no other base
                _log.exception("bundle %s", candidate.adapter.digest)
                self._turn_down(candidate, fault(f"{type(error).__name__}: {error}"))

    def _waits_for(self) -> str:
        """What the next bundle waits for; empty: its turn is now."""
        if self._trials.current is not None:
            return "the bundle on its way is committed or dropped"
        return "the last good adapters drive again" if self.ready is not None or self._flips.trouble else ""

    def _begin(self, candidate: Candidate) -> None:
        """Try a bundle. Raises Refused, or OSError when it cannot be kept."""
        # Before it is installed, which uses up its counter: beside what is left over it could never drive.
        self._good.clear(tried=None)
        adapter = self._intake.verify_again(candidate)
        self._trials.begin(candidate, adapter)
        if candidate.answer is not None:
            text = f"accepted: runs beside the live one for {self._config.shadow_decisions} decisions, then drives"
            candidate.answer(m.Reply(True, text, self._store.entries_of([adapter.digest])))

    def _turn_down(self, candidate: Candidate, refusal: Refusal) -> None:
        """End a bundle that could not begin, or whose operator could not be told that it has."""
        if self._trials.current is None:
            self._intake.drop(candidate, refusal)
        else:
            self._trials.give_up(refusal)

    def _tell(self) -> None:
        trial, flips, ledger = self._trials.current, self._flips, self._ledger
        self.report = m.Report(
            adapters=flips.driving,
            pinned=self._store.seen().pinned,
            swap=ledger.latest if trial is None else trial.swap,
            swaps=flips.swaps,
            refusals=ledger.refusals,
            last_refusal=ledger.last_refusal,
            swap_ms=flips.swap_ms,
            figures={} if trial is None else trial.figures(),
            trouble=flips.trouble,
        )
