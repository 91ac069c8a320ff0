"""When each phase of the story ends, and that every one does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.config.story import StoryConfig, load_story
from adawm_planner.story.phases import Facts, Phase, Tally, Turn, has_fallen, has_recovered, next_turn

CONFIG = replace(load_story(), nominal_episodes=20)
MOST = CONFIG.adapting_limit
GOOD, BAD = (True,), (False,)
FALLEN = {Phase.NOMINAL: GOOD * 20, Phase.SHIFTED: GOOD * 10 + BAD * 20}


def tallies(low: float, high: float) -> st.SearchStrategy[Tally]:
    """Tallies of 8 to 30 episodes whose rate lies about between `low` and `high`."""

    def of(episodes: int) -> st.SearchStrategy[Tally]:
        counts = st.integers(round(low * episodes), round(high * episodes))
        return counts.map(lambda successes: Tally(successes, episodes))

    return st.integers(8, 30).flatmap(of)


def facts(phase: Phase, successes: dict[Phase, tuple[bool, ...]], adapted: bool = False) -> Facts:
    return Facts(phase, successes, adapted)


@pytest.mark.parametrize(
    ("now", "after", "words"),
    [
        (facts(Phase.NOMINAL, {Phase.NOMINAL: GOOD * 19}), "goes on", ""),
        (facts(Phase.NOMINAL, {Phase.NOMINAL: GOOD * 20}), Phase.SHIFTED, "20 episodes"),
        (facts(Phase.NOMINAL, {Phase.NOMINAL: GOOD * 19}, adapted=True), "goes on", ""),
        (facts(Phase.SHIFTED, {Phase.NOMINAL: GOOD * 20}, adapted=True), "goes on", ""),
        (facts(Phase.SHIFTED, FALLEN), "goes on", ""),
        (facts(Phase.SHIFTED, FALLEN, adapted=True), Phase.ADAPTING, "after 30 episodes"),
        (facts(Phase.SHIFTED, {Phase.NOMINAL: GOOD * 20, Phase.SHIFTED: BAD * 250}), None, "not recovered"),
        (facts(Phase.ADAPTING, {**FALLEN, Phase.ADAPTING: GOOD * 19}), "goes on", ""),
        (facts(Phase.ADAPTING, {**FALLEN, Phase.ADAPTING: GOOD * 20}), Phase.RECOVERED, "20 of the newest 20"),
        (facts(Phase.ADAPTING, {**FALLEN, Phase.ADAPTING: BAD * 99 + GOOD * 18 + BAD * 2}), Phase.RECOVERED, "18 of"),
        (facts(Phase.ADAPTING, {**FALLEN, Phase.ADAPTING: GOOD * 20 + BAD * 4}), "goes on", ""),
        (
            facts(Phase.ADAPTING, {**FALLEN, Phase.ADAPTING: BAD * MOST}),
            Phase.ROLLED_BACK,
            f"not recovered within {MOST}",
        ),
        (
            facts(Phase.ADAPTING, {Phase.NOMINAL: GOOD * 20, Phase.SHIFTED: GOOD * 30, Phase.ADAPTING: GOOD * MOST}),
            Phase.ROLLED_BACK,
            "nothing to recover",
        ),
        (facts(Phase.RECOVERED, {Phase.RECOVERED: GOOD * 29}), "goes on", ""),
        (facts(Phase.RECOVERED, {Phase.RECOVERED: BAD * 30}), Phase.ROLLED_BACK, "30 fresh"),
        (facts(Phase.ROLLED_BACK, {Phase.ROLLED_BACK: BAD * 24}), "goes on", ""),
        (facts(Phase.ROLLED_BACK, {Phase.ROLLED_BACK: BAD * 25}), None, "25 episodes"),
    ],
)
def test_a_phase_ends_when_it_should(now: Facts, after: Phase | None | str, words: str) -> None:
    turn = next_turn(now, CONFIG)
    if after == "goes on":
        assert turn is None
    else:
        assert turn is not None and turn.after is after and words in turn.reason


@given(st.data())
def test_every_story_ends_within_its_limit(data: st.DataObject) -> None:
    config = replace(
        CONFIG,
        nominal_episodes=3,
        shifted_limit=6,
        adapting_limit=9,
        window=4,
        recovered_episodes=3,
        rolled_back_episodes=2,
    )
    phase, successes, driven, visited = Phase.NOMINAL, dict[Phase, tuple[bool, ...]](), 0, [Phase.NOMINAL]
    while True:
        turn = next_turn(facts(phase, successes, data.draw(st.booleans())), config)
        if turn is None:
            driven += 1
            successes[phase] = (*successes.get(phase, ()), data.draw(st.booleans()))
        elif turn.after is None:
            break
        else:
            phase = turn.after
            visited.append(phase)
    assert driven <= config.most_episodes
    assert len(set(visited)) == len(visited) and visited == sorted(visited, key=list(Phase).index)
    assert (Phase.ROLLED_BACK in visited) == (Phase.ADAPTING in visited)  # there is something to roll back


def test_recovery_is_never_claimed_without_a_fall_and_a_rise() -> None:
    config = replace(CONFIG, window=10)
    claimed = list[bool]()

    @given(before=tallies(0.6, 1.0), during=tallies(0.0, 0.5), newest=tallies(0.4, 1.0))
    def claims(before: Tally, during: Tally, newest: Tally) -> None:
        claimed.append(has_recovered(before, during, newest, config))
        if claimed[-1]:
            assert has_fallen(before, during)
            assert before.rate > during.rate and newest.rate > during.rate
            assert newest.interval[0] > during.interval[1] and newest.episodes >= 10
            assert newest.rate - during.rate >= 0.8 * (before.rate - during.rate) - 1e-6

    claims()
    assert any(claimed) and not all(claimed), "only one of both was tried"


@given(st.integers(0, 19), st.integers(0, 30))
def test_one_more_success_never_takes_recovery_back(newest: int, during: int) -> None:
    before, fallen = Tally(20, 20), Tally(during, 30)
    less, more = (has_recovered(before, fallen, Tally(count, 20), CONFIG) for count in (newest, newest + 1))
    assert more or not less


def test_nothing_driven_is_no_rate() -> None:
    assert Tally(0, 0).rate == 0.0 and Tally(0, 0).interval == (0.0, 1.0)
    assert not has_fallen(Tally(0, 0), Tally(0, 0)) and not has_fallen(Tally(20, 20), Tally(0, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nominal_episodes": 0}, "story.nominal_episodes is 0"),
        ({"regained": 1.5}, "story.regained is 1.5"),
        ({"window": MOST + 1}, "must be at least window"),
        ({"round_decisions": 0}, "story.round_decisions is 0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **change)


def test_presets() -> None:
    assert isinstance(load_story("debug"), StoryConfig)
    assert load_story("debug").most_episodes < CONFIG.most_episodes
    with pytest.raises(ValueError, match="no preset 'long'"):
        load_story("long")
    assert Turn(None, "over").after is None
