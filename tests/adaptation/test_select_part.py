"""The decision: C, significance, hysteresis, and a reason that says which of them spoke."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace

import pytest
from scipy import stats

from adawm_planner.adaptation.scores import Failures, Score, Tally
from adawm_planner.adaptation.select_part import Evidence, Part, select_next, select_part
from adawm_planner.adaptation.strategies import STRATEGIES, strategy_of
from adawm_planner.config.adaptation import SelectConfig

CONFIG = SelectConfig(c=2.0, significance=3.0, hysteresis=0.2, recovery=60)


FEW, MANY = (Failures(Tally(failed, 20), Tally(1, 100)) for failed in (1, 6))


def seen(dynamics: float, policy: float, failures: Failures) -> Evidence:
    return Evidence(*(Score(value, 0.01, 20, 19.0) for value in (dynamics, policy)), failures)


@pytest.mark.parametrize(
    ("dynamics", "policy", "failures", "expected", "word"),
    [
        (0.02, 0.02, FEW, Part.NOTHING, "1 of 20 episodes failed, 1 of 100 at home: neither is significant"),
        (-0.5, -0.5, FEW, Part.NOTHING, "neither"),
        (0.02, 0.90, FEW, Part.NOTHING, "neither"),
        (0.20, 0.90, FEW, Part.DYNAMICS, "only the dynamics"),
        (
            0.30,
            0.10,
            MANY,
            Part.DYNAMICS,
            "1 of 100 at home: driving fails significantly, 0.3000 >",
        ),
        (0.15, 0.10, MANY, Part.POLICY, "<= C x policy = 0.2000"),
        (0.02, 0.02, MANY, Part.POLICY, "<= C x policy = 0.0400"),
        (0.02, 0.005, MANY, Part.DYNAMICS, "> C x policy = 0.0100"),
        (0.02, -0.02, MANY, Part.DYNAMICS, "> C x policy = -0.0400"),
    ],
)
def test_the_rule(dynamics: float, policy: float, failures: Failures, expected: Part, word: str) -> None:
    selection = select_part(seen(dynamics, policy, failures), Part.NOTHING, CONFIG)
    assert selection.part is expected
    assert word in selection.reason


def test_the_choice_does_not_flip_on_noise() -> None:
    for value in (0.21, 0.19):  # just above, just below
        assert select_part(seen(value, 0.1, MANY), Part.DYNAMICS, CONFIG).part is Part.DYNAMICS
        assert select_part(seen(value, 0.1, MANY), Part.POLICY, CONFIG).part is Part.POLICY
    assert select_part(seen(0.30, 0.1, MANY), Part.POLICY, CONFIG).part is Part.DYNAMICS
    assert select_part(seen(0.10, 0.1, MANY), Part.DYNAMICS, CONFIG).part is Part.POLICY


@pytest.mark.parametrize(
    ("last", "expected", "limit"),
    [
        (Part.NOTHING, Part.DYNAMICS, "> C x policy = -0.0600"),
        (Part.DYNAMICS, Part.DYNAMICS, "> C x policy = -0.0720 (hysteresis for dynamics)"),
        (Part.POLICY, Part.POLICY, "<= C x policy = -0.0500 (hysteresis for policy)"),
    ],
)
def test_below_the_baseline_the_choice_does_not_flip_on_noise_either(last: Part, expected: Part, limit: str) -> None:
    selection = select_part(seen(-0.055, -0.060, MANY), last, replace(CONFIG, c=1.0))
    assert selection.part is expected
    assert limit in selection.reason


@pytest.mark.parametrize(
    ("repaired", "dynamics", "policy", "failures", "expected", "word"),
    [
        (Part.DYNAMICS, 0.01, 0.01, MANY, Part.POLICY, "driving failed"),
        (Part.DYNAMICS, 0.90, 0.01, MANY, Part.POLICY, "driving failed"),
        (Part.DYNAMICS, 0.90, 0.90, FEW, Part.NOTHING, "nothing is left"),
        (Part.DYNAMICS, 0.01, 0.01, FEW, Part.NOTHING, "nothing is left"),
        (Part.POLICY, 0.20, 0.90, MANY, Part.DYNAMICS, "the dynamics is significantly"),
        (Part.POLICY, 0.20, 0.90, FEW, Part.DYNAMICS, "the dynamics is significantly"),
        (Part.POLICY, 0.01, 0.90, MANY, Part.POLICY, "driving failed"),
        (Part.POLICY, 0.01, 0.90, FEW, Part.NOTHING, "nothing is left"),
    ],
)
def test_after_a_repair(
    repaired: Part, dynamics: float, policy: float, failures: Failures, expected: Part, word: str
) -> None:
    selection = select_next(seen(dynamics, policy, failures), repaired, CONFIG)
    assert selection.part is expected
    assert word in selection.reason and selection.reason.startswith(f"{repaired.value} repaired")


def test_failures_are_counted_against_those_at_home() -> None:
    """Against the definition: of 5 balls drawn of 25, of which 3 are marked, at least 2 are."""
    failures = Failures(Tally(2, 5), Tally(1, 20))
    ways = [math.comb(3, k) * math.comb(22, 5 - k) for k in (2, 3)]
    assert failures.chance == pytest.approx(sum(ways) / math.comb(25, 5))
    assert Failures(Tally(0, 5), Tally(0, 20)).chance == 1.0
    assert Failures(Tally(0, 0), Tally(0, 20)).chance == 1.0  # nothing but episodes that were not seen to end
    outcomes = ("success", "cut", "collision", "timeout", "off_lane", "success")
    assert Tally.of(outcomes) == Tally(3, 5)
    assert [Tally.of(outcomes, newest) for newest in (1, 4, 9)] == [Tally(0, 1), Tally(3, 4), Tally(3, 5)]


def test_driving_has_not_recovered_before_enough_of_it_went_well() -> None:
    source, well, badly = Tally(0, 100), ("success",) * 10, ("collision",) * 5

    def seen(now: tuple[str, ...], before: tuple[str, ...]) -> Failures:
        return Failures.seen(now, before, 30, source)

    assert seen(badly, well) == Failures(Tally(5, 5), source), "what is new is not thinned by what went before"
    assert seen(well, badly) == Failures(Tally(5, 15), source)
    assert seen(well, (*badly, *well)) == Failures(Tally(5, 25), source), "one good round proves nothing"
    assert not seen(well, (*badly, *well, *well)).significant(2.3), "thirty good episodes do"
    assert seen((*well, "cut"), (*badly, "cut", *well)).new.episodes == 25


@pytest.mark.parametrize(("rate", "slack"), [(0.005, 1.0), (0.02, 1.0), (0.1, 1.0), (0.5, 1.2)])
def test_driving_like_at_home_is_called_worse_as_seldom_as_the_limit_says(rate: float, slack: float) -> None:
    """Every number of failures in 12 new episodes and in the 48 before, by how likely it is at one rate of failure.

    Two counts are looked at, so where half of the driving at home failed it would be a little more often.
    """
    limit = stats.norm.sf(2.3)

    def critical(episodes: int, home: int) -> int:
        """Fewest failures that are significant."""
        return bisect_left(
            range(episodes + 1), True, key=lambda n: Failures(Tally(n, episodes), Tally(home, 160)).chance < limit
        )

    wrong = 0.0
    for home in range(161):
        alone, together = critical(12, home), critical(60, home)
        for new in range(13):
            both = 1.0 if new >= alone else stats.binom.sf(together - new - 1, 48, rate)
            wrong += stats.binom.pmf(home, 160, rate) * stats.binom.pmf(new, 12, rate) * both
    assert wrong <= slack * limit


@pytest.mark.parametrize("name", ["c", "significance", "recovery"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"select.{name} is 0"):
        SelectConfig(**{"c": 1.0, "significance": 1.0, "hysteresis": 0.0, "recovery": 1, name: 0})  # type: ignore[arg-type]


def test_strategies() -> None:
    def parts(name: str, index: int, chosen: Part) -> list[str]:
        return [part.value for part in strategy_of(name).parts(index, chosen)]

    assert parts("none", 1, Part.DYNAMICS) == []
    assert parts("model", 1, Part.POLICY) == ["dynamics"]
    assert parts("policy", 1, Part.DYNAMICS) == ["policy"]
    assert [parts("alternate", index, Part.NOTHING)[0] for index in (1, 2, 3)] == ["policy", "dynamics", "policy"]
    assert parts("full", 1, Part.NOTHING) == ["dynamics", "policy"]
    assert parts("adawm", 1, Part.NOTHING) == []
    assert parts("adawm", 1, Part.POLICY) == ["policy"]
    assert [name for name, strategy in STRATEGIES.items() if not strategy.low_rank] == ["full"]
    with pytest.raises(ValueError, match="strategy 'best' is unknown"):
        strategy_of("best")
