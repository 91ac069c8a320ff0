"""Every rule of the synchronous handshake that a client of the real bridge can notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.data_types import Command
from adawm_planner.simulator.handshake import BRAKE, EgoControl, FrameWait, RunCommand, RunState

EGO = 7
GO = Command(throttle=0.5)


def test_a_frame_waits_until_the_egos_command_is_there() -> None:
    wait = FrameWait()
    wait.fill([EGO])
    assert not wait.over
    assert wait.command(EGO)
    assert wait.over
    assert wait.end() == ()


def test_a_missing_command_is_named_and_the_next_frame_waits_again() -> None:
    wait = FrameWait()
    wait.fill([EGO, 8])
    wait.command(8)
    assert wait.end() == (EGO,)
    wait.fill([EGO])
    assert not wait.over


def test_a_late_command_counts_for_the_next_frame() -> None:
    wait = FrameWait()
    wait.fill([EGO])
    wait.end()
    wait.fill([EGO])
    assert wait.command(EGO)
    assert wait.over


def test_a_second_command_before_the_end_of_the_wait_is_surplus_and_harmless() -> None:
    wait = FrameWait()
    wait.fill([EGO])
    wait.command(EGO)
    assert not wait.command(EGO)
    wait.end()
    wait.fill([EGO])
    assert not wait.over


def test_a_command_between_two_frames_lets_the_next_one_pass() -> None:
    wait = FrameWait()
    wait.fill([EGO])
    wait.command(EGO)
    wait.end()
    assert not wait.command(EGO)
    wait.fill([EGO])
    assert wait.over
    assert wait.end() == ()
    wait.fill([EGO])
    assert not wait.over


def test_only_the_selected_channel_drives() -> None:
    control = EgoControl()
    assert not control.command(GO, manual=True, now=0.0)
    assert control.take(0.0) == Command()
    control.override = True
    assert control.command(GO, manual=True, now=0.0)
    assert not control.command(BRAKE, manual=False, now=0.0)
    assert control.take(0.0) == GO


def test_the_last_command_is_held_for_ever_by_default() -> None:
    control = EgoControl()
    control.command(GO, manual=False, now=0.0)
    assert control.take(1000.0) == GO


def test_the_timeout_brakes_and_a_new_command_releases() -> None:
    control = EgoControl(timeout=0.2)
    control.command(GO, manual=False, now=10.0)
    assert control.take(10.15) == GO
    assert control.take(10.2) == BRAKE
    control.command(GO, manual=False, now=10.25)
    assert control.take(10.25) == GO


def test_restart_forgets_the_command_but_not_the_channel() -> None:
    control = EgoControl(timeout=0.2)
    control.override = True
    control.command(GO, manual=True, now=0.0)
    control.restart(5.0)
    assert control.take(5.1) == Command()
    assert control.override


def test_in_time_tells_whether_a_command_came_since_the_last_tick() -> None:
    control = EgoControl()
    control.command(GO, manual=False, now=0.0)
    assert control.in_time
    control.take(0.0)
    assert not control.in_time


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        EgoControl(timeout=-1.0)


def test_pause_stops_and_play_goes_on() -> None:
    state = RunState()
    assert state.may_tick()
    state.put(RunCommand.PAUSE)
    assert not state.may_tick() and not state.running
    assert not state.may_tick()
    state.put(RunCommand.PLAY)
    assert state.may_tick() and state.running


def test_step_once_ticks_once_and_pauses() -> None:
    state = RunState()
    state.put(RunCommand.PAUSE)
    state.may_tick()
    state.put(RunCommand.STEP_ONCE)
    assert state.may_tick() and state.running
    assert not state.may_tick() and not state.running


def test_an_unknown_control_command_is_refused() -> None:
    with pytest.raises(ValueError, match="9"):
        RunState().put(9)


@given(st.lists(st.sampled_from(list(RunCommand)), min_size=1))
def test_of_queued_commands_the_newest_counts(commands: list[RunCommand]) -> None:
    state = RunState()
    for command in commands:
        state.put(command)
    assert state.may_tick() == (commands[-1] is not RunCommand.PAUSE)


def test_restart_forgets_surplus_commands() -> None:
    wait = FrameWait()
    wait.command(EGO)
    wait.restart()
    wait.fill([EGO])
    assert not wait.over
