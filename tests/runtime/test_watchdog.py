"""The watchdog brakes on silence, and never unbalances a bridge that counts commands."""

from __future__ import annotations

import pytest

from adawm_planner.runtime.frame_inputs import RESTART_NS
from adawm_planner.runtime.watchdog import Watchdog, WorldClock

LIMIT, REPEAT, STEPPED_LIMIT = 0.32, 0.18, 1.52
STEPPED = WorldClock(frame=7, synchronous=True, running=True)
PAUSED = WorldClock(frame=7, synchronous=True, running=False)
FREE = WorldClock(frame=7, synchronous=False, running=True)


def heard_at_zero() -> Watchdog:
    watchdog = Watchdog(LIMIT, REPEAT, STEPPED_LIMIT)
    watchdog.heard(STEPPED, 0.0)
    return watchdog


def braking_times(watchdog: Watchdog, world: WorldClock | None, until_s: float) -> list[float]:
    """Times at which it brakes when asked every 50 ms."""
    times = []
    for k in range(round(until_s / 0.05) + 1):
        now = 0.05 * k
        if watchdog.is_due(world, now):
            watchdog.sent(world, now)
            times.append(round(now, 2))
    return times


def test_nothing_before_the_first_input() -> None:
    assert braking_times(Watchdog(LIMIT, REPEAT, STEPPED_LIMIT), None, 2.0) == []


@pytest.mark.parametrize("world", [None, FREE])
def test_brakes_repeatedly_where_nothing_counts_commands(world: WorldClock | None) -> None:
    times = braking_times(heard_at_zero(), world, 1.0)
    assert times[0] == 0.35
    assert len(times) == 4 and min(b - a for a, b in zip(times, times[1:], strict=False)) >= REPEAT - 1e-9


def test_brakes_that_are_built_up_are_sent_every_frame_period_where_nothing_counts_commands() -> None:
    for world, due in ((None, True), (FREE, True), (STEPPED, False)):
        watchdog = heard_at_zero()
        assert watchdog.is_due(world, 2.0, rising=True)
        watchdog.sent(world, 2.0)
        assert not watchdog.is_due(world, 2.04, rising=True) and not watchdog.is_due(world, 2.06)
        assert watchdog.is_due(world, 2.06, rising=True) is due


def test_brakes_once_per_silence_of_a_stepped_world() -> None:
    watchdog = heard_at_zero()
    assert braking_times(watchdog, STEPPED, 4.0) == [1.55]
    assert watchdog.settle() and not watchdog.settle()


def test_brakes_again_when_a_stepped_world_goes_on_unheard() -> None:
    watchdog = heard_at_zero()
    braking_times(watchdog, STEPPED, 2.0)
    assert watchdog.is_due(WorldClock(8, synchronous=True, running=True), 2.1)


def test_never_brakes_in_a_pause_and_counts_anew_after_it() -> None:
    watchdog = heard_at_zero()
    assert braking_times(watchdog, PAUSED, 3.0) == []
    watchdog.world(PAUSED, STEPPED, 3.0)
    assert not watchdog.is_due(STEPPED, 4.5) and watchdog.is_due(STEPPED, 4.53)


def test_an_input_ends_the_silence() -> None:
    watchdog = heard_at_zero()
    watchdog.heard(None, 0.3)
    assert not watchdog.is_due(None, 0.5) and watchdog.is_due(None, 0.7)


def test_a_free_running_world_owes_nothing() -> None:
    watchdog = heard_at_zero()
    braking_times(watchdog, FREE, 1.0)
    assert not watchdog.settle()


def test_stepped_world_that_goes_on_unheard_is_braked_by_its_own_time() -> None:
    watchdog = heard_at_zero()
    assert not watchdog.is_due(WorldClock(13, synchronous=True, running=True), 0.06)
    assert watchdog.is_due(WorldClock(14, synchronous=True, running=True), 0.07)


def test_a_world_that_is_heard_of_after_an_input_did_not_go_on_unheard() -> None:
    watchdog, late = Watchdog(LIMIT, REPEAT, STEPPED_LIMIT), WorldClock(12345, synchronous=True, running=True)
    watchdog.heard(None, 0.0)
    watchdog.world(None, late, 0.01)
    assert watchdog.wall_limit_s(late) == STEPPED_LIMIT and not watchdog.is_due(late, 0.02)
    assert watchdog.is_due(WorldClock(12352, synchronous=True, running=True), 0.03), "it did from then on"


def test_a_stepped_world_that_begins_a_frame_early_is_told_of_once_until_it_is_in_step_again() -> None:
    watchdog, stepped, free = Watchdog(0.3, 0.1, 2.0), WorldClock(5, True, True), WorldClock(5, False, False)
    assert not watchdog.hurried(stepped, 200, 100)  # nothing was ever answered in step
    watchdog.in_step()
    assert not watchdog.hurried(stepped, 100, 100)
    assert not watchdog.hurried(free, 200, 100)
    assert not watchdog.hurried(None, 200, 100)
    assert not watchdog.hurried(stepped, 101 + RESTART_NS, 100)  # of another clock
    assert watchdog.hurried(stepped, 200, 100)
    assert not watchdog.hurried(stepped, 300, 200)
    watchdog.in_step()
    assert watchdog.hurried(stepped, 300, 200)
