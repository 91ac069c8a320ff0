"""What a broken topic publishes, frame by frame; messages are their frame's number."""

from __future__ import annotations

import pytest

from adawm_planner.faults.streams import Gap, Stream
from adawm_planner.faults.table import CLOCK, STREAMS, WORLD, Kind
from adawm_planner.runtime.frame_inputs import FRAME_PARTS


def _published(kind: Kind, amount: float, frames: int, seed: int = 0) -> list[tuple[int, ...]]:
    stream = Stream[int](kind, amount, lambda number: -number, seed)
    assert stream.healthy(7) == (7,)
    return [stream.faulty(8 + k) for k in range(frames)]


@pytest.mark.parametrize(
    ("kind", "amount", "wanted"),
    [
        (Kind.KILL, 0.0, [(), (), (), ()]),
        (Kind.FREEZE, 0.0, [(7,), (7,), (7,), (7,)]),
        (Kind.SLOW, 2.0, [(), (9,), (), (11,)]),
        (Kind.DELAY, 2.0, [(), (), (8,), (9,)]),
        (Kind.DUPLICATE, 0.0, [(8, 8), (9, 9), (10, 10), (11, 11)]),
        (Kind.REORDER, 3.0, [(), (9, 8), (10,), ()]),
        (Kind.NAN, 0.0, [(-8,), (-9,), (-10,), (-11,)]),
        (Kind.PAUSED, 0.0, [(-8,), (-9,), (-10,), (-11,)]),
    ],
)
def test_each_kind(kind: Kind, amount: float, wanted: list[tuple[int, ...]]) -> None:
    assert _published(kind, amount, 4) == wanted


def test_losses_are_their_share_and_repeat_with_their_seed() -> None:
    first = _published(Kind.LOSS, 0.2, 5000)
    assert 0.18 < sum(not sent for sent in first) / 5000 < 0.22
    assert first == _published(Kind.LOSS, 0.2, 5000) != _published(Kind.LOSS, 0.2, 5000, seed=1)


def test_losses_are_braked_for_from_the_third_frame_in_a_row_that_lacks_what_the_gate_needs() -> None:
    """Frames 3, 4 and 5 of seed 0 lack something too, but the third only /clock and /carla/status."""
    topics = {topic: _published(Kind.LOSS, 0.2, 30, seed) for seed, topic in enumerate(STREAMS)}
    gap = Gap()
    due = [gap.is_due({topic: sent[k] for topic, sent in topics.items()}) for k in range(30)]
    assert [k + 1 for k in range(30) if due[k]] == [21]


@pytest.mark.parametrize("part", FRAME_PARTS)
def test_a_gap_is_of_any_part_of_a_frame_and_ends_with_a_whole_one(part: str) -> None:
    whole = {topic: (1,) for topic in STREAMS}
    lacking: dict[str, tuple[int, ...]] = {**whole, part: ()}
    gap = Gap()
    sent = (lacking, lacking, whole, lacking, lacking, lacking, lacking)
    assert [gap.is_due(each) for each in sent] == [*[False] * 5, True, True]
    assert not any(Gap().is_due({**whole, CLOCK: (), WORLD: ()}) for _ in range(5))


def test_a_process_fault_is_none_of_a_topic() -> None:
    with pytest.raises(ValueError, match="busy_loop is no fault of a topic"):
        Stream[int](Kind.BUSY, 0.0, lambda number: number)
