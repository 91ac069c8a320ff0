"""The two threads: nothing slow in the driving one, a flood of bundles is bounded, the whole way with a real thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import PlannerConfig, PlannerCore
from adawm_planner.runtime.planner_loop import PlannerLoop
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.thread import MOST_WAITING, TOO_MANY, SwapThread
from adawm_planner.runtime.warm import rewarm
from tests.adapters.conftest import Maker
from tests.patience import HANG_S
from tests.runtime.fake_engine import FakeEngine
from tests.runtime.inputs import TOPICS
from tests.runtime.swap_rig import Rig, digest_of


class Recorder:
    """Takes HotSwap's place and keeps what it is told; waits at each event while `go` is not set."""

    def __init__(self) -> None:
        self.ready: m.Ready | None = None
        self.report, self.watching = m.Report(), False
        self.events: list[m.Event] = []
        self.go = threading.Event()
        self.episode_decisions = 3000
        self.fails, self.dismissed = False, ""

    def handle(self, event: m.Event) -> None:
        self.go.wait()
        if self.fails:
            raise RuntimeError("planted")
        self.events.append(event)

    def dismiss(self, why: str) -> None:
        self.dismissed = why

    def close(self) -> None:
        self.go.set()


def make(engine: FakeEngine) -> tuple[Recorder, PlannerLoop, SwapThread]:
    loop = PlannerLoop(PlannerCore(engine, InputMonitor(InputLimits(), TOPICS), PlannerConfig()), want_map=False)
    recorder = Recorder()
    return recorder, loop, SwapThread(recorder, loop)  # type: ignore[arg-type]


def wait_for(done: Callable[[], Any], seconds: float = HANG_S) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(done())


def test_a_flood_of_bundles_is_turned_away_and_nothing_else_is() -> None:
    recorder, _, thread = make(FakeEngine())
    for _ in range(3 * MOST_WAITING):
        thread.post(m.Push(lambda: ([], "")))
    thread.post(m.Turned(replace(TOO_MANY, measured="the newest")))
    thread.post(m.Faulted("told all the same"))
    assert thread._inbox.qsize() <= MOST_WAITING + 2
    recorder.go.set()
    assert wait_for(lambda: recorder.events and type(recorder.events[-1]) is m.Faulted)
    thread.post(m.Turned(TOO_MANY))
    thread.close()
    kinds = [type(event) for event in recorder.events]
    assert kinds.count(m.Push) in (MOST_WAITING, MOST_WAITING + 1) and kinds[-2:] == [m.Faulted, m.Turned]
    turned = [event for event in recorder.events if isinstance(event, m.Turned)]
    assert [event.count for event in turned] == [3 * MOST_WAITING - kinds.count(m.Push) + 1, 1]
    assert [event.refusal.measured for event in turned] == ["the newest", f"{MOST_WAITING} waiting"]


def test_a_thread_that_ended_is_told_and_its_operators_are_answered() -> None:
    recorder, loop, thread = make(FakeEngine())
    replies: list[m.Reply] = []
    thread.post(m.Faulted("taken when the thread ends"))
    thread.post(m.ListAll("", replies.append))
    recorder.fails = True
    recorder.go.set()
    assert wait_for(lambda: thread.report.trouble)
    thread.post(m.RollBack("", True, replies.append))
    assert wait_for(lambda: len(replies) == 2)
    assert all("the thread of the adapters has ended (RuntimeError: planted)" in reply.message for reply in replies)
    assert thread.report is thread.report and recorder.dismissed in replies[0].message
    recorder.ready = m.Ready(1, rewarm(FakeEngine(), loop.core.history), (), True)
    before = loop.core.engine
    thread.between_ticks()
    assert loop.core.engine is before, "nobody would watch it"
    recorder.ready = replace(recorder.ready, forward=False)
    thread.between_ticks()
    assert loop.core.engine is not before
    thread.close()


def test_what_is_retired_is_freed_in_the_other_thread() -> None:
    freed: list[str] = []

    class Tracked(FakeEngine):
        def __del__(self) -> None:
            freed.append(threading.current_thread().name)

    recorder, loop, thread = make(Tracked())
    recorder.go.set()
    for number in (1, 2):
        recorder.ready = m.Ready(number, rewarm(FakeEngine(), loop.core.history), (), True)
        thread.between_ticks()
    assert wait_for(lambda: freed)
    thread.close()
    assert freed == ["adapter_swap"]


def test_an_engine_is_taken_once_and_one_that_is_late_is_asked_for_once() -> None:
    recorder, loop, thread = make(FakeEngine())
    recorder.go.set()
    recorder.ready = m.Ready(1, rewarm(FakeEngine(), loop.core.history), (), True)
    thread.between_ticks()
    thread.between_ticks()
    loop.flip = lambda warm: False  # type: ignore[method-assign]
    recorder.ready = m.Ready(2, rewarm(FakeEngine(), loop.core.history), (), True)
    thread.between_ticks()
    thread.between_ticks()
    thread.close()
    assert [type(event) for event in recorder.events] == [m.Flipped, m.Missed]


def test_the_whole_way_with_a_thread(maker: Maker, tmp_path: Path) -> None:
    rig = Rig(maker, tmp_path, threaded=True)
    first, second = maker.files(), maker.files(counter=8, name="second")
    for files in (first, second):
        rig.push(files)
        assert wait_for(lambda: rig.stage == "shadow")
        while rig.stage in ("shadow", "ready"):
            rig.frame()
            time.sleep(0.002)
        assert rig.stage == "probation"
        rig.episodes(True, True, True)
        assert wait_for(lambda: rig.stage == "committed")
        decided = [answer.decision for answer in rig.drive(1) if answer.decision is not None]
        assert decided[0].adapter_digests == (digest_of(files),)
    assert rig.swap.report.swaps == 2 and rig.swap.report.swap_ms > 0.0
    rig.close()
