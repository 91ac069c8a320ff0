"""Cut where the driving was cut: no window of training data ever spans a gap."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adawm_planner.config.finetuning import SplitConfig
from adawm_planner.data_types import RewardTerms
from adawm_planner.dims import DECISION_S
from adawm_planner.finetuning.captured import Captured
from adawm_planner.finetuning.episodes import Cut, EpisodeSplitter, Stretch, is_held_out, split
from adawm_planner.pretraining.dataset import join
from tests.finetuning.decisions import ADAPTER, decision, first

ALL = SplitConfig(least_rows=2)
LAST = {"is_last": True}
CRASH = {"is_last": True, "is_terminal": True, "reward": RewardTerms(progress=0.25, collision=-1.5)}


def drive(begin: int, end: int, **ending: Any) -> list[Captured]:
    """One episode of decisions begin..end, both included."""
    return [first(begin), *(decision(k) for k in range(begin + 1, end)), decision(end, **ending)]


def cuts(stretches: list[Stretch]) -> list[tuple[Cut, Cut, int]]:
    return [(one.began, one.ended, len(one.episodes)) for one in stretches]


def test_a_whole_episode_is_as_collect_has_it() -> None:
    [one] = split(drive(0, 12, **CRASH), SplitConfig(held_out=0.0))
    assert one.complete and one.outcome == "collision" and one.sequence.tolist() == list(range(13))
    rows = one.episodes
    assert rows.first.tolist() == [True] + 12 * [False]
    assert rows.terminal.tolist() == 12 * [False] + [True]
    assert rows.reward.tolist() == [0.0] + 11 * [0.375] + [-1.25]
    assert rows.action.tolist() == [k % 5 for k in range(12)] + [0]
    assert rows.label.tolist() == 13 * [0] and not rows.held_out.any()
    assert rows.state[:, 0].tolist() == [decision(k).experience.observation.state[0] for k in range(13)]
    assert one.probabilities.shape == (13, 5) and one.value.shape == one.stamp_s.shape == (13,)


def test_where_the_gate_changed_a_command_the_action_was_overruled() -> None:
    [one] = split([first(0), decision(1), decision(2, intervention="braking_distance"), decision(3, **CRASH)])
    assert one.episodes.overruled.tolist() == [False, False, True, False] and one.outcome == "collision"


def test_a_vehicle_that_is_held_leaves_nothing_but_the_beginning_of_it() -> None:
    held = [decision(k, intervention="rss_longitudinal") for k in range(20, 40)]
    config = SplitConfig(least_rows=2, most_overruled=5)
    done = split([first(0), *(decision(k) for k in range(1, 20)), *held, *drive(39, 60, **LAST)[1:]], config)
    assert cuts(done) == [(Cut.RESET, Cut.HELD, 25), (Cut.HELD, Cut.END, 21)]
    assert done[0].episodes.overruled.tolist() == 20 * [False] + 5 * [True] and not done[1].episodes.overruled.any()
    anew = split([first(0), *held, first(40, intervention="rss_longitudinal"), *drive(40, 60, **LAST)[1:]], config)
    assert cuts(anew)[-1] == (Cut.RESET, Cut.END, 21), "a new episode is none that is held"


@pytest.mark.parametrize(
    ("reward", "terminal", "outcome"),
    [
        (RewardTerms(destination=1.0), True, "success"),
        (RewardTerms(collision=-1.0), True, "collision"),
        (RewardTerms(lateral=-1.0), True, "off_lane"),
        (RewardTerms(progress=1.0), False, "cut"),
    ],
)
def test_outcome(reward: RewardTerms, terminal: bool, outcome: str) -> None:
    [one] = split(drive(0, 3, is_last=True, is_terminal=terminal, reward=reward))
    assert one.complete and one.outcome == outcome


def test_a_lost_message_cuts_and_what_follows_is_an_episode_of_its_own() -> None:
    ones = drive(0, 30, **LAST)
    done = split(ones[:12] + ones[13:])
    assert cuts(done) == [(Cut.RESET, Cut.LOST, 12), (Cut.LOST, Cut.END, 18)]
    assert not any(one.complete for one in done) and done[0].outcome == "cut"
    assert done[0].episodes.action[-1] == 0  # what came of its action was not seen
    assert done[1].episodes.first[0] and done[1].episodes.reward[0] == 0.0
    assert not done[0].episodes.terminal.any()


def test_short_remains_are_dropped_and_counted_but_short_episodes_are_not() -> None:
    ones = drive(0, 30, **LAST)
    splitter = EpisodeSplitter()
    done = [stretch for one in ones[:9] + ones[10:] for stretch in splitter.add(one)]
    assert cuts(done) == [(Cut.LOST, Cut.END, 21)] and splitter.dropped_rows == 9
    assert splitter.cuts == Counter({Cut.LOST: 1, Cut.END: 1})
    assert cuts(split(drive(0, 3, **CRASH))) == [(Cut.RESET, Cut.END, 4)]
    assert split([first(0, is_last=True)]) == []


def test_a_lost_reset_is_not_the_episode_before() -> None:
    ones = [*drive(0, 5, **LAST), *(decision(k, episode=1) for k in range(7, 12))]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.END, 6), (Cut.LOST, Cut.STREAM, 5)]


def test_a_reset_without_an_end_before_it_cuts() -> None:
    ones = [*drive(0, 5), *drive(6, 9, **LAST)]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.RESET, 6), (Cut.RESET, Cut.END, 4)]


def test_a_restarted_planner_cuts() -> None:
    ones = [*drive(0, 5), *drive(0, 3, **LAST)]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.RESTART, 6), (Cut.RESET, Cut.END, 4)]


def test_another_episode_cuts_even_if_nothing_else_says_so() -> None:
    ones = [*drive(0, 5), *(decision(k, episode=1) for k in range(6, 10))]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.EPISODE, 6), (Cut.EPISODE, Cut.STREAM, 4)]
    after_end = [*drive(0, 5, **LAST), *(decision(k) for k in range(6, 10))]
    assert cuts(split(after_end, ALL)) == [(Cut.RESET, Cut.END, 6), (Cut.EPISODE, Cut.STREAM, 4)]


@pytest.mark.parametrize("jump_s", [-1.0, -0.11, 0.11, 30.0])
def test_a_clock_jump_cuts(jump_s: float) -> None:
    ones = [*drive(0, 5), *(decision(k, stamp_s=k * DECISION_S + jump_s + 2.0) for k in range(6, 10))]
    ones = [replace_stamp(one, 2.0) if k <= 5 else one for k, one in enumerate(ones)]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.CLOCK, 6), (Cut.CLOCK, Cut.STREAM, 4)]


def replace_stamp(one: Captured, later_s: float) -> Captured:
    k = one.experience.sequence
    return decision(k, **{**vars(one.experience), "stamp_s": k * DECISION_S + later_s})


def test_a_late_frame_is_no_clock_jump_and_an_end_may_come_early() -> None:
    ones = [*drive(0, 5), decision(6, stamp_s=6 * DECISION_S + 0.05), decision(7, stamp_s=1.30, **LAST)]
    assert cuts(split(ones, ALL)) == [(Cut.RESET, Cut.END, 8)]


def test_a_swap_ends_one_policys_rollout_and_begins_the_others_at_the_same_row() -> None:
    ones = [*drive(0, 11), *(decision(k, adapters=(ADAPTER,)) for k in range(12, 24))]
    old, new = split(ones)
    assert cuts([old, new]) == [(Cut.RESET, Cut.POLICY, 13), (Cut.POLICY, Cut.STREAM, 12)]
    assert old.sequence[-1] == new.sequence[0] == 12
    assert old.policy.adapter_digests == () and new.policy.adapter_digests == (ADAPTER,)
    assert old.episodes.reward[-1] == 0.375 and new.episodes.reward[0] == 0.0
    assert old.episodes.action[-1] == 0 and new.episodes.action[0] == 12 % 5


def test_the_stretches_of_one_episode_share_its_unit_and_no_other_has_it() -> None:
    swapped = [decision(k, adapters=(ADAPTER,)) for k in range(37, 50)]
    held = [decision(k, adapters=(ADAPTER,), intervention="rss_longitudinal") for k in range(50, 60)]
    rest = [decision(k, adapters=(ADAPTER,)) for k in range(60, 75)]
    late = [replace_stamp(one, 5.0) for one in [*drive(24, 36)[1:], *swapped, *held, *rest]]
    one = [*drive(0, 12), *drive(13, 24)[1:], *late]
    brakes = SplitConfig(least_rows=2, most_overruled=3)
    done = split(one, brakes)
    assert [each.ended for each in done] == [Cut.LOST, Cut.CLOCK, Cut.POLICY, Cut.HELD, Cut.STREAM]
    assert [each.unit for each in done] == [0] * 5
    restarted = [first(0), *(decision(k) for k in range(2, 6))]  # its beginning is lost, and its number is the same
    again = [decision(k) for k in range(2, 6)]  # and so again, with nothing seen of the beginning
    other = [decision(k, episode=1) for k in range(6, 10)]
    done = split([*one, *restarted, *again, *other, *drive(10, 15)], brakes)
    assert [(each.number, each.unit) for each in done[5:]] == [(0, 1), (0, 2), (1, 3), (0, 4)]


def test_an_end_in_the_frame_of_its_decision_is_no_transition() -> None:
    ones = [*drive(0, 5), decision(6, stamp_s=5 * DECISION_S, reward=RewardTerms(), **LAST)]
    assert cuts(split(ones)) == [(Cut.RESET, Cut.END, 6)]
    crash = [*drive(0, 5), decision(6, stamp_s=5 * DECISION_S, **{**CRASH, "reward": RewardTerms(collision=-1.5)})]
    [one] = split(crash)
    assert one.outcome == "collision" and one.sequence.tolist() == list(range(6))
    assert one.episodes.reward.tolist() == [0.0] + 4 * [0.375] + [-1.125]
    assert one.episodes.terminal.tolist() == 5 * [False] + [True]


def test_a_repeated_decision_is_taken_once() -> None:
    splitter, ones = EpisodeSplitter(), drive(0, 5, **LAST)
    done = [stretch for one in ones for again in (one, one) for stretch in splitter.add(again)]
    assert cuts(done) == [(Cut.RESET, Cut.END, 6)] and splitter.duplicates == 6
    assert splitter.finish() == []


def held_out_drive(held_out: bool = True) -> list[Captured]:
    """An episode of 31 decisions that is held out, or one that is not."""
    begins = (first(0, value=float(k)) for k in range(100))
    begin = next(one for one in begins if is_held_out(one.seal, 0.2) is held_out)
    return [begin, *drive(0, 30, **LAST)[1:]]


def sides(stretches: list[Stretch]) -> list[bool]:
    assert all(one.episodes.held_out.all() or not one.episodes.held_out.any() for one in stretches)
    return [bool(one.episodes.held_out[0]) for one in stretches]


def test_a_planner_started_for_every_trip_leaves_held_out_episodes_too() -> None:
    """Sequence, stamps and episode numbers begin anew with it, so that only what was seen and decided differs."""
    trips = 500
    done = split(one for k in range(trips) for one in (first(0, value=float(k)), *drive(0, 3, **LAST)[1:]))
    assert len(done) == trips and {one.number for one in done} == {0}
    assert 70 < sum(sides(done)) < 130


@pytest.mark.parametrize("held_out", [True, False])
def test_all_parts_of_an_episode_are_on_one_side(held_out: bool) -> None:
    ones = held_out_drive(held_out)
    swapped = [
        decision(one.experience.sequence, **{**vars(one.experience), "adapter_digests": (ADAPTER,)})
        for one in ones[20:]
    ]
    braked = [
        decision(one.experience.sequence, **{**vars(one.experience), "intervention": "rss_longitudinal"})
        for one in ones[10:20]
    ]
    assert sides(split(ones[:12] + ones[13:], ALL)) == [held_out] * 2
    assert sides(split(ones[:20] + swapped, ALL)) == [held_out] * 2
    brakes = SplitConfig(least_rows=2, most_overruled=3)
    assert sides(split(ones[:10] + braked + ones[20:], brakes)) == [held_out] * 2
    late = [replace_stamp(one, 5.0) if k > 12 else one for k, one in enumerate(ones)]
    assert sides(split(late, ALL)) == [held_out] * 2


def test_what_goes_on_without_its_beginning_is_not_held_out() -> None:
    """Its beginning may have been for training: a round that read it before must not be judged on the rest."""
    ones = held_out_drive()
    other = [decision(k, episode=1) for k in range(31, 40)]
    assert sides(split(ones[5:], ALL)) == [False]
    assert sides(split([*ones, *other], ALL)) == [True, False]
    assert sides(split([*ones[:-1], *other[1:]], ALL)) == [True, False]
    assert sides(split([*ones[:-1], *(decision(k) for k in range(5, 12))], ALL)) == [True, False]
    brakes = SplitConfig(least_rows=2, most_overruled=3)
    held = [decision(k, episode=1, intervention="rss_longitudinal") for k in range(30, 40)]
    braked = split([*ones[:-1], *held, *(decision(k, episode=1) for k in range(40, 45))], brakes)
    assert sides(braked)[0] and not any(sides(braked)[1:])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"step_error": 1.0}, "split.step_error is 1.0, must be below 1"),
        ({"least_rows": 1}, "split.least_rows is 1, must be above 1"),
        ({"held_out": 1.0}, "split.held_out is 1.0"),
    ],
)
def test_config_names_what_is_wrong(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SplitConfig(**values)


# One long true history of what a planner did: episodes, swaps and restarts; then what the network made of it.
EVENTS = st.sampled_from(["go"] * 12 + ["end", "crash", "reset", "swap", "restart", "jump"])


def history(events: list[str]) -> list[tuple[Captured, int]]:
    """Decisions with the number of the unbroken piece of driving they are of."""
    sequence, episode, piece, stamp, adapters, fresh = 0, 0, 0, 0.0, (), True
    told: list[tuple[Captured, int]] = []
    for event in events:
        if event == "swap":
            adapters = () if adapters else (ADAPTER,)
        elif event == "restart":
            sequence, episode, piece, fresh, stamp = 0, 0, piece + 1, True, stamp + 3.0
        elif event == "jump":
            piece, stamp = piece + 1, stamp + 1.0
        elif event == "reset":
            episode, piece, fresh, stamp = episode + 1, piece + 1, True, stamp + 1.0
        else:
            ending = {"end": LAST, "crash": CRASH}.get(event, {})
            reward = {"reward": RewardTerms()} if fresh else {}
            piece += bool(told) and told[-1][0].adapter_digests != adapters  # swapped and back again is no swap
            changes = {"episode": episode, "stamp_s": stamp, "is_first": fresh, **ending, **reward}
            told.append((decision(sequence, adapters=adapters, value=float(len(told)), **changes), piece))
            sequence, stamp, fresh = sequence + 1, stamp + DECISION_S, False
            if ending:
                episode, piece, fresh, stamp = episode + 1, piece + 1, True, stamp + 1.0
    return told


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=60),
    st.lists(st.sampled_from(["take"] * 8 + ["lose", "repeat"]), min_size=60, max_size=60),
)
def test_no_window_spans_a_gap_whatever_happens(events: list[str], network: list[str]) -> None:
    true = history(events)
    came = [
        one
        for (one, _), fate in zip(true, network, strict=False)
        for _ in range(("lose", "take", "repeat").index(fate))
    ]
    done = split(came, ALL)
    for stretch in done:
        places = stretch.value.astype(int)  # `history` hides each decision's true place here
        assert np.array_equal(np.diff(places), np.ones(len(places) - 1)), "a decision is missing in between"
        pieces = [true[place][1] for place in places]
        # The row of a swap is the old policy's last outcome; nothing else reaches over.
        assert len(set(pieces[:-1])) == 1 and (pieces[-1] == pieces[0] or stretch.ended is Cut.POLICY)
        ones = [true[place][0] for place in places]
        assert stretch.sequence.tolist() == [one.experience.sequence for one in ones]
        assert stretch.episodes.action[:-1].tolist() == [one.experience.action.index for one in ones[:-1]]
        assert {(one.base_digest, one.adapter_digests) for one in ones[:-1]} == {
            (stretch.policy.base_digest, stretch.policy.adapter_digests)
        }
        assert stretch.episodes.terminal[:-1].sum() == 0
    if done:
        rows = join([one.episodes for one in done])
        assert rows.first.sum() == len(done)
    used = [place for stretch in done for place in stretch.value.astype(int)[:-1]]
    assert len(used) == len(set(used)), "a decision is trained on twice"


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_without_losses_every_complete_episode_is_found(events: list[str]) -> None:
    true = history(events)
    done = split([one for one, _ in true], ALL)
    ends = [k for k, (one, _) in enumerate(true) if one.experience.is_last]
    begins = [k for k, (one, _) in enumerate(true) if one.experience.is_first]
    pieces = Counter(piece for _, piece in true)
    whole = {true[end][1] for end in ends if pieces[true[end][1]] > 1} & {true[begin][1] for begin in begins}
    assert sum(one.complete for one in done) == len(whole)
