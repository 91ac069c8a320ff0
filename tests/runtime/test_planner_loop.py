"""Timing of the loop: one answer per frame, braking when frames fail to come, never a surplus command."""

from __future__ import annotations

import numpy as np
import pytest

from adawm_planner.observation.route import route_from_points
from adawm_planner.runtime.frame_inputs import Part
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.latency import TimedEngine
from adawm_planner.runtime.planner_core import Mode, PlannerConfig, PlannerCore
from adawm_planner.runtime.planner_loop import SETTLE_S, Outgoing, PlannerLoop
from adawm_planner.runtime.watchdog import WorldClock
from tests.runtime.fake_engine import FakeEngine
from tests.runtime.inputs import TOPICS, VEHICLE, odometry, others, status, straight_route

STEPPED = WorldClock(1, synchronous=True, running=True)


def make_loop(ready: bool = True, want_map: bool = False, engine: FakeEngine | None = None) -> PlannerLoop:
    core = PlannerCore(engine or FakeEngine(), InputMonitor(InputLimits(), TOPICS), PlannerConfig())
    loop = PlannerLoop(core, want_map)
    loop.begin()
    if ready:
        loop.on_vehicle(VEHICLE)
        loop.on_route(straight_route())
    return loop


def parts(k: int) -> list[Part]:
    return [status(k), odometry(k), others(k)]


def feed(loop: PlannerLoop, k: int, now_s: float | None = None) -> list[Outgoing]:
    now = 0.05 * k if now_s is None else now_s
    return [out for out in (loop.on_part(part, now) for part in parts(k)) if out]


def poll(loop: PlannerLoop, begin_s: float, end_s: float) -> list[tuple[float, Outgoing]]:
    steps = round((end_s - begin_s) / 0.01)
    timed = [(begin_s + 0.01 * i, loop.on_timer(begin_s + 0.01 * i)) for i in range(steps + 1)]
    return [(at, out) for at, out in timed if out]


def test_one_answer_per_frame_with_its_stamp() -> None:
    loop = make_loop()
    outs = [feed(loop, k) for k in range(1, 41)]
    assert all(len(out) == 1 for out in outs)
    assert [out[0].stamp_ns for out in outs] == [k * 50_000_000 for k in range(1, 41)]
    assert (loop.counters.frames, loop.counters.decisions) == (40, 10)


def test_silent_before_begin_and_after_end() -> None:
    loop = make_loop()
    feed(loop, 1)
    last = loop.end()
    assert last is not None and last.answer.command.brake > 0.0
    assert feed(loop, 2) == [] and poll(loop, 0.1, 2.0) == []
    fresh = make_loop()
    assert fresh.end() is None


def test_incomplete_frame_is_braked_once_in_time() -> None:
    loop = make_loop()
    feed(loop, 1)
    for part in parts(2)[:2]:
        assert loop.on_part(part, 0.1) is None
    ((at, out),) = poll(loop, 0.1, 0.34)
    assert 0.199 <= at <= 0.211 and out.stamp_ns == 100_000_000 and not out.is_frame
    assert out.answer.mode is Mode.BRAKING and out.answer.command.brake > 0.0
    assert [fault.topic for fault in out.answer.faults] == [TOPICS["objects"]]
    assert loop.on_part(parts(2)[2], 0.4) is None, "the frame has had its command"


@pytest.mark.parametrize("period_s", [0.05, 0.005])
def test_dead_input_brakes_though_the_others_go_on(period_s: float) -> None:
    loop = make_loop()
    feed(loop, 1, 1.0)
    outs, now, k = [], 1.0, 1
    while now < 2.0:
        now, k = now + period_s, k + 1
        outs += [loop.on_part(part, now) for part in parts(k)[:2]]
        outs.append(loop.on_timer(now))
    braked = [out for out in outs if out]
    assert len(braked) >= 8 and all(out.answer.command.brake > 0.0 for out in braked)
    assert len({out.stamp_ns for out in braked}) == len(braked), "never two commands for one frame"
    assert all(fault.topic == TOPICS["objects"] for out in braked for fault in out.answer.faults)


def test_frames_at_another_period_are_braked() -> None:
    loop = make_loop()
    modes = [feed(loop, 2 * k, 0.1 * k)[0].answer.mode for k in range(1, 31)]
    assert modes[0] is Mode.DRIVING and modes[-1] is Mode.BRAKING


def test_driving_goes_on_when_the_input_comes_back() -> None:
    loop = make_loop()
    feed(loop, 1)
    loop.on_part(odometry(2), 0.1)
    assert len(poll(loop, 0.1, 0.3)) == 1
    (out,) = feed(loop, 3, 0.31)
    assert out.answer.mode is Mode.DRIVING and out.answer.faults == ()


def test_silence_brakes_within_the_limit_and_again() -> None:
    loop = make_loop()
    feed(loop, 1, 1.0)
    braked = poll(loop, 1.0, 2.0)
    assert 1.25 < braked[0][0] < 1.3
    assert len(braked) == 4 and all(out.answer.command.brake > 0.0 for _, out in braked)
    assert {fault.rule for fault in braked[0][1].answer.faults} == {"input_stale"}
    assert len(braked[0][1].answer.faults) == 3


def test_frozen_input_that_repeats_itself_is_silence() -> None:
    loop = make_loop()
    feed(loop, 1, 1.0)
    for i in range(1, 10):
        assert feed(loop, 1, 1.0 + 0.05 * i) == []
    ((_, out),) = poll(loop, 1.45, 1.45)
    assert out.answer.faults[0].rule == "input_stale"


def test_paused_world_gets_no_command_and_no_owed_one() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    feed(loop, 1, 0.05)
    loop.on_world(WorldClock(1, synchronous=True, running=False), 0.06)
    assert poll(loop, 0.06, 5.0) == []
    loop.on_world(STEPPED, 5.0)
    assert poll(loop, 5.0, 5.2) == []
    assert len(feed(loop, 2, 5.25)) == 1


def test_stepped_world_gets_as_many_commands_as_frames() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    commands = len(feed(loop, 1, 0.05)) + len(poll(loop, 0.05, 5.0))
    commands += len(feed(loop, 2, 5.05)) + len(feed(loop, 3, 5.1))
    assert commands == 3 and loop.counters.unbalanced_frames == 1


def test_stepped_world_that_runs_ahead_is_caught_up_with() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    assert len(feed(loop, 1)) == 1
    (begun, *rest), newer = parts(2), parts(3)  # somebody else's command ended the wait for frame 2
    stamps = [out.stamp_ns for part in (begun, *newer, *rest) if (out := loop.on_part(part, 0.15))]
    assert stamps == [3 * 50_000_000]
    assert len(feed(loop, 4)) == 1


def test_stepped_world_may_be_slow() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    feed(loop, 1, 0.05)
    assert poll(loop, 0.05, 1.5) == []
    assert loop.on_part(status(2), 1.5) is None
    assert poll(loop, 1.5, 1.9) == []
    outs = [loop.on_part(part, 1.9) for part in (odometry(2), others(2))]
    assert outs[1] is not None and outs[1].answer.mode is Mode.DRIVING


def test_stepped_world_waiting_for_a_dead_input_is_answered_before_it_gives_up() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    feed(loop, 1, 0.05)
    for part in parts(2)[:2]:
        loop.on_part(part, 0.1)
    ((at, out),) = poll(loop, 0.1, 1.0)
    assert 0.59 < at < 0.65 and out.answer.command.brake > 0.0


def test_stepped_world_that_does_not_wait_is_braked_by_its_own_time() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    feed(loop, 1, 0.05)
    outs = [loop.on_part(part, 0.051) for k in range(2, 10) for part in parts(k)[:2]]
    braked = [out for out in outs if out]
    # Frame 2 has no answer: the world that went on from it may have taken somebody else's command.
    assert braked[0].stamp_ns == 150_000_000 and len(braked) >= 5
    assert all(out.answer.command.brake > 0.0 for out in braked)


def test_free_running_world_gets_a_command_on_every_frame() -> None:
    loop = make_loop()
    loop.on_world(WorldClock(1, synchronous=False, running=True), 0.0)
    feed(loop, 1, 0.05)
    poll(loop, 0.05, 2.0)
    assert len(feed(loop, 2, 2.05)) == 1


def test_first_frame_waits_for_what_is_sent_once() -> None:
    loop = make_loop(ready=False, want_map=True)
    assert feed(loop, 1) == []
    assert loop.on_vehicle(VEHICLE) is None and loop.on_map(None) is None
    out = loop.on_route(straight_route())
    assert out is not None and out.answer.mode is Mode.DRIVING and out.stamp_ns == 50_000_000


def test_after_a_pause_of_the_node_the_first_frame_is_compared_with_none() -> None:
    loop = make_loop()
    for k in range(1, 6):
        feed(loop, k)
    loop.end()
    loop.begin()
    (out,) = feed(loop, 300)
    assert out.answer.faults == () and out.answer.mode is Mode.DRIVING


def test_wait_is_short_and_only_once() -> None:
    loop = make_loop(ready=False)
    assert feed(loop, 1, 1.0) == []
    ((at, out),) = poll(loop, 1.0, 1.25)
    assert at >= 1.0 + SETTLE_S - 1e-9 and out.answer.mode is Mode.WAITING and out.answer.command.brake > 0.0
    assert len(feed(loop, 2, 1.26)) == 1


def test_route_that_follows_its_teleport_is_waited_for() -> None:
    engine = FakeEngine()
    loop = make_loop(engine=engine)
    feed(loop, 1)
    outs = [loop.on_part(part, 0.1) for part in (status(2), odometry(2, x=90.0, y=50.0), others(2))]
    assert outs == [None] * 3
    x = np.arange(80.0, 180.0)
    out = loop.on_route(route_from_points(x, np.full_like(x, 50.0)))
    assert out is not None and out.answer.faults == () and engine.firsts == [True, True]


def test_a_world_that_does_not_wait_ends_the_wait() -> None:
    loop = make_loop(ready=False)
    assert feed(loop, 1, 1.0) == []
    assert len(feed(loop, 2, 1.05)) == 1 and loop.counters.missed_ticks == 1


def test_error_of_ours_brakes_and_is_reported() -> None:
    engine = FakeEngine()
    loop = make_loop(engine=engine)
    engine.fail = True
    (out,) = feed(loop, 1)
    assert out.answer.command.brake > 0.0 and "planted" in out.answer.faults[0].line()
    engine.fail = False
    (out,) = feed(loop, 2)
    assert out.answer.mode is Mode.DRIVING


def test_latency_and_missed_ticks_are_counted() -> None:
    loop = make_loop()
    (out,) = feed(loop, 1, 1.0)
    loop.sent(out, 1.004)
    (out,) = feed(loop, 2, 1.05)
    loop.sent(out, 1.12)
    p50, _, top = loop.times.latency.percentiles_ms()
    assert abs(p50 - 37.0) < 1e-6 and abs(top - 70.0) < 1e-6
    assert (loop.counters.commands, loop.counters.missed_ticks) == (2, 1)


def test_every_frame_passes_through_its_stages() -> None:
    loop = make_loop()
    loop.core.engine = TimedEngine(loop.core.engine, loop.times)
    for k in range(1, 9):
        for i, part in enumerate(parts(k)):
            out = loop.on_part(part, 0.05 * k + 0.002 * i)
        assert out is not None
        loop.sent(out, 0.05 * k + 0.01)
    loop.sent(poll(loop, 0.5, 1.0)[0][1], 1.0)
    found = loop.times.stages.durations()
    counts = {name: durations.count for name, durations in found.items()}
    assert counts == {"receive": 8, "observation": 2, "inference": 2, "control": 8, "publish": 8}
    assert abs(found["receive"].mean_s - 0.004) < 1e-9
    assert all(durations.sum_s > 0.0 for durations in found.values())


def test_world_that_runs_on_unheard_is_braked_with_a_reason() -> None:
    loop = make_loop()
    loop.on_world(STEPPED, 0.0)
    feed(loop, 1, 0.05)
    loop.on_world(WorldClock(8, synchronous=True, running=True), 0.06)
    out = loop.on_timer(0.07)
    assert out is not None and out.answer.command.brake > 0.0
    assert [fault.rule for fault in out.answer.faults] == ["input_stale"] * 3
