"""Answers of the planner in, flips between two ticks out: the driving thread's side of a hot swap, and the other's.

The driving thread only posts events, reads one pointer and, rarely, assigns one. Everything slow happens in `HotSwap`
on a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from dataclasses import replace

from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.dims import FRAMES_PER_DECISION
from adawm_planner.runtime.engine import Engine
from adawm_planner.runtime.planner_core import Mode
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap.hot_swap import HotSwap
from adawm_planner.runtime.swap.messages import (
    Decided,
    EpisodeEnded,
    Event,
    Faulted,
    Flipped,
    Missed,
    Push,
    Ready,
    Reply,
    Report,
    Turned,
)
from adawm_planner.runtime.swap.probation import EpisodeWatch

_log = logging.getLogger(__name__)

MOST_WAITING = 16
"""Events that may wait before pushed bundles are turned away."""

TOO_MANY = Refusal(
    Reason.BUSY,
    "bundles must not come faster than they are checked",
    f"{MOST_WAITING} waiting",
    "fewer",
    "Send it again later; find out who sends so many",
)

GIL_SWITCH_S = 0.001
"""Longest that Python code of the other thread holds up the driving one [s]; Python's own default is 0.005."""

GATE = "gate"
"""Who stops the vehicle, as `taken_over` is told."""

DROVE = (Mode.DRIVING, Mode.ARRIVED)


class SwapThread:
    """A hot swap in a thread of its own. All methods are the driving thread's."""

    def __init__(self, swap: HotSwap, loop: PlannerLoop) -> None:
        """Start the thread.

        Args:
            swap: used by this object alone from now on.
            loop: what drives.
        """
        self._swap, self._loop = swap, loop
        self._watch = EpisodeWatch(swap.episode_decisions)
        self._mode = Mode.WAITING
        self._stopped = False  # by the gate
        self._taken = 0  # number of the engine that was taken last
        self._missed: Ready | None = None
        self._polls = 0
        self._turned, self._refusal = 0, TOO_MANY  # pushes turned away, and why the newest was
        self._turned_waits = False  # whether the inbox holds an event that tells of them
        self._inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ended: Report | None = None  # the last one, once the other thread has ended by an error
        self._thread = threading.Thread(target=self._run, name="adapter_swap", daemon=True)
        self._thread.start()

    @property
    def base_digest(self) -> str:
        """sha256 of the base model, hex."""
        return self._loop.core.engine.digest

    @property
    def report(self) -> Report:
        """What has become of everything posted so far, as far as it has been handled."""
        return self._ended or self._swap.report

    def close(self) -> None:
        """Handle what was posted, end the thread and give the store back."""
        self._inbox.put(None)
        self._thread.join()
        self._swap.close()

    def post(self, event: Event) -> None:
        """Hand an event over; a pushed bundle is turned away when too much waits already."""
        if isinstance(event, Push) and self._inbox.qsize() >= MOST_WAITING:
            event = Turned(TOO_MANY)
        if isinstance(event, Turned):
            self._turned, self._refusal = self._turned + event.count, event.refusal
            if self._turned_waits:  # what is in the inbox tells of this one too: a flood must not fill it
                return
            self._turned_waits = True
        self._inbox.put(event)
        if self._ended is not None:
            self._answer_all(self._ended.trouble)

    def taken_over(self, by: str, now: bool) -> None:
        """Note whether somebody, or the gate (GATE), drives instead."""
        self._watch.taken_over(by, now)
        if by == GATE:
            self._stopped = now

    def after_answer(self, out: Outgoing) -> None:
        """Take note of an answer that has been sent, then flip if an engine is ready."""
        answer, self._mode = out.answer, out.answer.mode
        for one in answer.experiences:
            # An episode that ends with this answer was cut by a fault exactly when this answer does not drive.
            outcome = self._watch.add(one, cut=answer.mode not in DROVE or answer.rerouted)
            if outcome is not None:
                self.post(EpisodeEnded(outcome))
        for fault in answer.faults:
            if fault.rule == "internal_error":
                self.post(Faulted(fault.text))
        if answer.decision is not None and self._swap.watching:
            self.post(Decided(self._loop.core.history, answer.scene, not self._stopped))
        self.between_ticks()

    def between_ticks(self) -> None:
        """Drive with the engine that is ready, if there is one and it may."""
        ready = self._swap.ready
        if ready is None or ready.number <= self._taken or ready is self._missed:
            return
        if ready.forward and (self._stopped or self._mode is Mode.BRAKING or self._ended is not None):
            return
        if self._is_behind(ready) and self._polls < FRAMES_PER_DECISION:
            self._polls += 1
            return
        before, self._polls = self._loop.core.engine, 0
        begun = time.perf_counter()
        try:
            flipped = self._loop.flip(ready.warm)
        except Exception:  # onnxruntime's share no other base; nothing has changed hands yet
            _log.exception("flip to engine %d", ready.number)
            flipped = False
        if flipped:
            seconds, self._taken = time.perf_counter() - begun, ready.number
            self.post(Flipped(ready, seconds, before))
        else:
            self._missed = ready
            self.post(Missed(ready))

    def _is_behind(self, ready: Ready) -> bool:
        """Whether the other thread will soon have saved the flip a decision's filtering."""
        history = self._loop.core.history
        return self._loop.core.state is not None and ready.warm.count != history.count

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            _log.exception("the thread of the adapters")
            text = (
                f"the thread of the adapters has ended ({type(error).__name__}: {error}): none is taken, judged or "
                "rolled back any more; configure the planner again"
            )
            self._ended = replace(self._swap.report, trouble=text)
            self._swap.dismiss(text)
            self._answer_all(text)

    def _answer_all(self, text: str) -> None:
        """Empty the inbox that nobody else will; may be called in both threads at once."""
        with contextlib.suppress(queue.Empty):
            while True:
                answer = getattr(self._inbox.get_nowait(), "answer", None)
                if answer is not None:
                    answer(Reply(False, text))

    def _work(self) -> None:
        retired: Engine | None = None
        turned = 0
        while (event := self._inbox.get()) is not None:
            if isinstance(event, Turned):
                self._turned_waits = False  # before they are counted: what comes now has an event of its own
                event = Turned(self._refusal, self._turned - turned)
                turned += event.count
                if not event.count:  # the one before told of it
                    continue
            if isinstance(event, Flipped):
                # Kept until the next flip, so that what onnxruntime takes to free it (milliseconds) is never the
                # driving thread's time.
                retired, event = event.before, replace(event, before=None)
            self._swap.handle(event)
        del retired
