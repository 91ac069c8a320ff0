"""Parts of frames come together by stamp, each frame once."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from adawm_planner.runtime.frame_inputs import FrameAssembler, ObjectsInput, Part
from tests.runtime.inputs import FRAME_NS, odometry, others, status


def parts(k: int) -> list[Part]:
    return [odometry(k), others(k), status(k)]


def after_a_whole_frame() -> FrameAssembler:
    """One that frame 1000 was closed with at 0 s."""
    assembler = FrameAssembler()
    for part in parts(1000):
        assembler.add(part, 0.0)
    return assembler


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_frame_is_whole_with_its_third_part_in_any_order(order: tuple[int, ...]) -> None:
    assembler = FrameAssembler()
    got = [assembler.add(parts(1)[i], float(n)) for n, i in enumerate(order)]
    assert got[:2] == [None, None]
    assert got[2] is not None and got[2].stamp_ns == FRAME_NS and got[2].received_s == 2.0


def test_interleaved_frames_both_come_out() -> None:
    assembler = FrameAssembler()
    first, second = parts(1), parts(2)
    sequence = [first[0], second[0], first[1], second[1], first[2], second[2]]
    frames = [assembler.add(part, 0.0) for part in sequence]
    assert [frame.stamp_ns for frame in frames if frame] == [FRAME_NS, 2 * FRAME_NS]
    assert assembler.dropped_frames == 0


def test_frame_is_given_once_and_repeats_are_late() -> None:
    assembler = FrameAssembler()
    assert [assembler.add(part, 0.0) is not None for part in parts(1) * 2] == [False, False, True] + [False] * 3
    assert assembler.late_parts == 3


def test_repeats_do_not_make_an_input_look_fresh() -> None:
    assembler = FrameAssembler()
    for part in parts(1):
        assembler.add(part, 0.0)
    assembler.add(odometry(1), 5.0)
    assert assembler.received_s["odometry"] == 0.0


def test_later_whole_frame_drops_earlier_incomplete_one() -> None:
    assembler = FrameAssembler()
    assembler.add(odometry(1), 0.0)
    for part in parts(2):
        assembler.add(part, 0.1)
    assert assembler.dropped_frames == 1 and assembler.oldest_pending() is None
    assert assembler.add(others(1), 0.2) is None and assembler.late_parts == 1


def test_missing_names_what_is_not_there() -> None:
    assembler = FrameAssembler()
    assembler.add(odometry(3), 0.7)
    pending = assembler.oldest_pending()
    assert pending is not None and pending.missing() == ("objects", "vehicle_status") and pending.since_s == 0.7


def test_memory_is_bounded_when_one_input_is_dead() -> None:
    assembler = FrameAssembler(depth=4)
    for k in range(1, 50):
        assembler.add(odometry(k), 0.05 * k)
    assert assembler.dropped_frames == 45


def test_closed_frame_is_not_given_out_when_its_last_part_comes() -> None:
    assembler = FrameAssembler()
    assembler.add(odometry(1), 0.0)
    assembler.add(status(1), 0.0)
    assembler.close(FRAME_NS)
    assert assembler.add(others(1), 0.0) is None


def test_clock_that_starts_again_starts_new_frames() -> None:
    assembler = after_a_whole_frame()
    assert [assembler.add(part, 1.0) is not None for part in parts(3)] == [False, False, True]
    assert assembler.clock_restarts == 1


def test_a_topic_that_strays_far_back_is_late_and_the_others_frames_wait_for_it() -> None:
    assembler = after_a_whole_frame()
    for k in range(1001, 1004):
        assert [assembler.add(part, 0.05 * k) for part in (odometry(k - 200), others(k), status(k))] == [None] * 3
    oldest = assembler.oldest_pending()
    assert oldest is not None and oldest.stamp_ns == 1001 * FRAME_NS and oldest.missing() == ("odometry",)
    assert assembler.late_parts == 3 and assembler.clock_restarts == 0 and assembler.received_s["odometry"] == 0.0


def test_a_clock_that_starts_again_keeps_what_came_before_it_was_sure() -> None:
    assembler = after_a_whole_frame()
    assembler.add(odometry(3), 1.0)
    assembler.add(odometry(4), 1.05)
    assert assembler.add(status(3), 1.06) is None and assembler.clock_restarts == 1
    assert assembler.waiting_since_s == 1.0 and assembler.received_s["odometry"] == 1.05
    whole = assembler.add(others(3), 1.07)
    assert whole is not None and whole.stamp_ns == 3 * FRAME_NS


def test_two_inputs_that_stray_to_different_times_or_at_different_ones_are_no_clock() -> None:
    assembler = after_a_whole_frame()
    assembler.add(odometry(3), 1.0)
    assembler.add(status(500), 1.0)
    for part in parts(1001):
        assembler.add(part, 1.0)
    assembler.add(status(3), 1.05)
    assert assembler.clock_restarts == 0 and assembler.late_parts == 3


def test_a_stray_stamp_far_ahead_is_not_waited_for_and_dropped_with_the_next_whole_frame() -> None:
    assembler = FrameAssembler()
    for part in parts(1):
        assembler.add(part, 0.0)
    assembler.add(odometry(5000), 0.01)
    assert assembler.waiting_since_s == 0.01, "the clock may have jumped"
    first, second, third = parts(2)
    assembler.add(first, 0.05)
    assert assembler.pending_ns() == 0 and assembler.waiting_since_s == 0.05
    assembler.add(second, 0.05)
    assert assembler.add(third, 0.05) is not None
    assert assembler.oldest_pending() is None and assembler.waiting_since_s is None
    assert assembler.dropped_frames == 1 and assembler.clock_restarts == 0 and assembler.late_parts == 0


def test_strays_leave_room_for_the_frames_and_do_not_make_a_dead_input_look_young() -> None:
    assembler = FrameAssembler(depth=4)
    for k in range(5000, 5004):
        assembler.add(odometry(k), 0.0)
    for k in range(1, 4):
        assembler.add(odometry(k), 0.05 * k)
        assembler.add(odometry(6000 + k), 0.05 * k)
    oldest = assembler.oldest_pending()
    assert oldest is not None and oldest.stamp_ns == FRAME_NS
    assert assembler.waiting_since_s == 0.05 and assembler.pending_ns() == 2 * FRAME_NS


def test_a_clock_that_jumps_ahead_gives_out_its_frames() -> None:
    assembler = FrameAssembler()
    assembler.add(odometry(1), 0.0)
    frames = [assembler.add(part, 0.05) for k in (5000, 5001) for part in parts(k)]
    assert [frame.stamp_ns // FRAME_NS for frame in frames if frame] == [5000, 5001]
    assert assembler.dropped_frames == 1 and assembler.oldest_pending() is None


def test_acceleration_is_turned_to_the_body_axis() -> None:
    from math import pi

    from tests.runtime.inputs import frame

    whole = frame(1, odometry=odometry(1, yaw=pi / 2), status=status(1, acceleration_x=3.0, acceleration_y=-2.0))
    assert whole.ego().acceleration == pytest.approx(-2.0, abs=1e-12)


def judged(part: ObjectsInput, **motion: float) -> list[int]:
    """Ids of the objects that a whole frame with this odometry holds."""
    assembler = FrameAssembler()
    assert assembler.add(part, 0.0) is None and assembler.add(status(1), 0.0) is None
    whole = assembler.add(odometry(1, **motion), 0.0)
    assert whole is not None and whole.objects.stamp_ns == part.stamp_ns
    return whole.objects.objects.id.tolist()


def test_the_ego_among_the_objects_is_left_out() -> None:
    own, ahead = (10.2, 5.1, 1.5708, 0.0, 4.0, 4.5, 1.8), (30.0, 5.0, 0.0, 0.0, 0.0, 4.5, 1.8)
    part = replace(others(1, own, ahead), ego_id=10)
    assert judged(part, x=10.0, y=5.0) == [11]
    assert judged(replace(part, ego_id=None), x=10.0, y=5.0) == [10, 11]
    assert judged(part, x=10.0, y=7.0) == [11], "its box reaches 2.25 m along its heading"
    assert judged(part, x=12.0, y=5.0) == [10, 11], "and 0.9 m beside it"


@pytest.mark.parametrize("x", [8.0, math.nan, math.inf])
def test_an_obstacle_that_has_the_number_of_the_ego_stays(x: float) -> None:
    part = replace(others(1, (x, 0.0, 0.0, 0.0, 0.0, 4.5, 1.8), (x, 0.0, math.inf, 0.0, 0.0, 4.5, 1.8)), ego_id=10)
    assert judged(part, x=0.0, y=0.0) == [10, 11]
