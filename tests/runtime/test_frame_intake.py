"""Frames, incomplete ones and silences, each told once."""

from __future__ import annotations

import pytest

from adawm_planner.runtime.frame_inputs import OBJECTS, STATUS
from adawm_planner.runtime.frame_intake import FrameIntake
from adawm_planner.runtime.input_monitor import InputLimits
from adawm_planner.runtime.watchdog import WorldClock
from tests.runtime.inputs import odometry, others, status

LIMITS = InputLimits()
STEPPED = WorldClock(1, synchronous=True, running=True)


def after_a_frame() -> FrameIntake:
    intake = FrameIntake(LIMITS)
    assert [intake.add(part, 1.0) is not None for part in (odometry(1), others(1), status(1))] == [False, False, True]
    return intake


def test_an_incomplete_frame_waits_and_is_told_once_with_what_is_missing() -> None:
    intake = after_a_frame()
    assert intake.incomplete(5.0) is None, "there is none"
    intake.add(odometry(2), 1.05)
    assert intake.incomplete(1.05 + LIMITS.incomplete_s - 0.001) is None
    found = intake.incomplete(1.05 + LIMITS.incomplete_s + 0.001)
    assert found is not None and found.frame.missing() == (OBJECTS, STATUS)
    assert found.waited_s == pytest.approx(LIMITS.incomplete_s + 0.001) and found.limit_s == LIMITS.incomplete_s
    assert intake.incomplete(5.0) is None and intake.add(others(2), 5.0) is None, "it is closed"


def test_an_incomplete_frame_of_a_stepped_world_waits_longer() -> None:
    intake = after_a_frame()
    intake.on_world(STEPPED, 1.0)
    intake.add(odometry(2), 1.05)
    assert intake.incomplete(1.05 + LIMITS.stepped_incomplete_s - 0.001) is None
    found = intake.incomplete(1.05 + LIMITS.stepped_incomplete_s + 0.001)
    assert found is not None and found.limit_s == LIMITS.stepped_incomplete_s


def test_a_silence_is_told_with_its_limit_and_counts_as_braked_for() -> None:
    intake = after_a_frame()
    assert intake.silence(1.0 + LIMITS.stale_s - 0.001) is None
    assert intake.silence(1.0 + LIMITS.stale_s + 0.001) == LIMITS.stale_s
    assert intake.silence(1.0 + LIMITS.stale_s + 0.002) is None
    assert intake.silence(1.0 + LIMITS.stale_s + 0.002 + LIMITS.repeat_s) == LIMITS.stale_s


def test_a_stepped_world_that_went_on_unheard_is_a_silence_without_wall_time() -> None:
    intake = FrameIntake(LIMITS)
    intake.on_world(STEPPED, 1.0)
    intake.add(odometry(1), 1.0)
    intake.on_world(WorldClock(100, synchronous=True, running=True), 1.01)
    assert intake.silence(1.02) == 0.0 and intake.watchdog.settle()


def test_a_part_that_comes_too_late_is_no_sign_of_life() -> None:
    intake = after_a_frame()
    intake.add(odometry(1), 1.0 + LIMITS.stale_s)
    assert intake.silence(1.0 + LIMITS.stale_s + 0.001) == LIMITS.stale_s


@pytest.mark.parametrize("heard", [False, True])
def test_only_a_vehicle_that_was_heard_of_is_silent_after_a_new_beginning(heard: bool) -> None:
    intake = after_a_frame() if heard else FrameIntake(LIMITS)
    intake.on_world(WorldClock(1, synchronous=False, running=True), 1.0)
    intake.begin_anew(50.0)
    assert bool(intake.received_s) is heard and intake.world is not None
    assert intake.silence(50.0 + LIMITS.stale_s - 0.001) is None
    assert (intake.silence(50.0 + LIMITS.stale_s + 0.001) is not None) is heard
    intake.forget()
    assert not intake.received_s and intake.silence(90.0) is None and intake.world is not None


def test_an_incomplete_frame_that_a_stepped_world_went_on_from_is_left() -> None:
    intake = after_a_frame()
    intake.on_world(STEPPED, 1.0)
    intake.watchdog.in_step()
    intake.add(odometry(2), 1.05)
    intake.leave_pending(status(2).stamp_ns)
    assert intake.assembler.oldest_pending() is not None, "the same frame still"
    intake.leave_pending(odometry(3).stamp_ns)
    assert intake.assembler.oldest_pending() is None
