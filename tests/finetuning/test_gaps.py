"""Every decision that did not arrive is counted once, and nothing else is."""

from __future__ import annotations

import pytest

from adawm_planner.dims import DECISION_S
from adawm_planner.finetuning.gaps import NEAR, Gaps


def taken(*sequences: int) -> Gaps:
    """Gaps after decisions of one run, whose stamps go with their numbers."""
    gaps = Gaps()
    for sequence in sequences:
        gaps.take(sequence, 100.0 + sequence * DECISION_S)
    return gaps


@pytest.mark.parametrize(
    ("sequences", "missing"),
    [
        ((), 0),
        ((0, 1, 2), 0),
        ((500, 501), 0),  # begun to listen late
        ((0, 2), 1),
        ((0, 4, 5, 8), 5),
        ((0, 1, 1, 2), 0),
        ((0, 1, 2, 1, 2, 3), 0),
        ((0, 2, 1, 3), 1),  # out of its place, so lost to the episode
        ((0, 1 + NEAR, 1, 2 + NEAR), NEAR),
    ],
)
def test_what_does_not_arrive_in_its_place_is_missing(sequences: tuple[int, ...], missing: int) -> None:
    assert taken(*sequences).missing == missing


@pytest.mark.parametrize(("newest", "stamp_s"), [(40, 130.0), (5000, 2000.0), (5000, 0.0)])
def test_a_planner_that_begins_anew_is_no_loss(newest: int, stamp_s: float) -> None:
    gaps = taken(newest)
    assert gaps.take(0, stamp_s) == 0 and gaps.take(1, stamp_s + DECISION_S) == 0
    assert gaps.take(5, stamp_s + 5 * DECISION_S) == 3, "and what is lost after it is counted"
    assert gaps.missing == 3


def test_who_did_not_listen_has_lost_nothing() -> None:
    gaps = taken(0, 3)
    gaps.forget()
    assert gaps.take(90, 200.0) == 0 and gaps.take(92, 200.4) == 1
    assert gaps.missing == 3


def test_a_malformed_decision_has_arrived_and_its_number_is_believed_only_where_it_can_be_right() -> None:
    gaps = Gaps()
    assert gaps.take_malformed(7) == 0
    assert gaps.take(10, 102.0) == 0
    assert [gaps.take_malformed(k) for k in (11, 12, 14)] == [0, 0, 1]
    assert [gaps.take_malformed(k) for k in (0, 14, 15 + NEAR, 2**64 - 1)] == [0, 0, 0, 0]
    assert gaps.take(15, 103.0) == 0 and gaps.missing == 1
