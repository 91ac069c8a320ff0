"""The sequential test keeps its false-alarm rate and finds bad adapters early; episodes are judged as documented."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.runtime.swap.probation import EpisodeOutcome, EpisodeWatch, Probation, Record, lower_bound

CONFIG = SwapConfig(probation_episodes=200)
GOOD, BAD = EpisodeOutcome(("a",), True, True, "goal", 3.0), EpisodeOutcome(("a",), True, False, "collision", 0.0)


def rolled_back(rate: float, bound: float, runs: int, seed: int = 0, config: SwapConfig = CONFIG) -> list[int | None]:
    """Episodes until each simulated adapter was found worse, None where it never was."""
    rng, found = np.random.default_rng(seed), list[int | None]()
    for _ in range(runs):
        test, at = Probation(bound), None
        for k, success in enumerate(rng.random(config.probation_episodes) < rate):
            test = test.add(GOOD if success else BAD)
            if test.is_worse(config):
                at = k + 1
                break
        found.append(at)
    return found


@pytest.mark.parametrize("bound", [0.3, 0.7, 0.94])
def test_an_adapter_as_good_as_the_bound_is_rarely_rolled_back_however_long_one_looks(bound: float) -> None:
    runs = 1000
    alarms = sum(at is not None for at in rolled_back(bound, bound, runs))
    level = 0.5 * CONFIG.probation_level
    assert alarms <= runs * level + 3.0 * (runs * level * (1.0 - level)) ** 0.5


def test_the_whole_test_with_an_estimated_record_keeps_its_level() -> None:
    rng, alarms, runs, config = np.random.default_rng(1), 0, 600, replace(CONFIG, probation_margin=0.0)
    for k in range(runs):
        record = Record()
        for success in rng.random(20) < 0.8:
            record = record.add(GOOD if success else BAD, config)
        alarms += rolled_back(0.8, record.bound(config), 1, seed=1000 + k)[0] is not None
    assert alarms <= runs * config.probation_level


def test_the_level_is_kept_where_the_return_depends_on_the_route() -> None:
    """The floor comes with the tenth episode of the record: it must judge the first nine as it does the adapter's."""
    rng, alarms, runs, config = np.random.default_rng(0), 0, 400, SwapConfig()

    def drive() -> EpisodeOutcome:
        return replace(GOOD, total=float(rng.choice([10.0, 60.0])))

    for _ in range(runs):
        record = Record()
        for _ in range(config.record_episodes):
            record = record.add(drive(), config)
        test = Probation(record.bound(config), record.floor(config))
        while not (test.is_worse(config) or test.is_over(config)):
            test = test.add(drive())
        alarms += test.is_worse(config)
    assert alarms <= runs * config.probation_level


def test_a_bad_adapter_is_found_within_a_few_episodes() -> None:
    """As shipped: the strictest bound that a record can give, and no more episodes than are waited for at least."""
    config, record = SwapConfig(), Record()
    for _ in range(2 * config.record_episodes):
        record = record.add(GOOD, config)
    found = [at for at in rolled_back(0.2, record.bound(config), 200, config=config) if at is not None]
    assert len(found) >= 170 and np.median(found) <= 6


def test_what_fails_is_never_committed_for_want_of_proof() -> None:
    config = replace(CONFIG, probation_episodes=3)
    test = Probation(0.75)
    for _ in range(3):
        test = test.add(BAD)
    assert not test.is_worse(config) and not test.is_over(config)
    for _ in range(3):
        test = test.add(GOOD)
    assert test.is_over(config) == (test.evidence <= 1.0)
    assert Probation(0.75).add(GOOD).add(GOOD).add(GOOD).is_over(config)


def test_the_bound_comes_from_the_record_once_it_is_long_enough() -> None:
    record = Record()
    assert record.bound(CONFIG) == pytest.approx(CONFIG.record_success - CONFIG.probation_margin)
    for _ in range(CONFIG.record_episodes):
        record = record.add(GOOD, CONFIG)
    assert record.bound(CONFIG) == pytest.approx(0.025 ** (1 / 10) - CONFIG.probation_margin)
    assert record.floor(CONFIG) == pytest.approx(1.5)
    slow = replace(GOOD, total=1.0)
    assert record.add(slow, CONFIG).successes(CONFIG) == CONFIG.record_episodes
    assert Probation(0.7, record.floor(CONFIG)).add(slow).successes == 0


def test_a_bound_that_nothing_can_be_held_against_leaves_no_adapter_on_probation_for_ever() -> None:
    for successes in range(CONFIG.record_episodes):
        record, config = Record(), SwapConfig()
        for outcome in [BAD] * (20 - successes) + [GOOD] * successes:
            record = record.add(outcome, config)
        test = Probation(record.bound(config))
        for _ in range(400):
            test = test.add(BAD)
            if test.is_worse(config) or test.is_over(config):
                break
        assert test.episodes < 400, f"{successes} of 20: bound {test.bound}"


def test_the_record_forgets() -> None:
    record = Record()
    for outcome in [GOOD] * 20 + [BAD] * 20:
        record = record.add(outcome, CONFIG)
    assert (record.episodes, record.successes(CONFIG)) == (20, 0)


def test_clopper_pearson() -> None:
    # R: binom.test(8, 10, alternative = "greater", conf.level = 0.95)
    assert lower_bound(8, 10, 0.05) == pytest.approx(0.4930987, abs=1e-6)
    assert lower_bound(0, 10, 0.05) == 0.0
    assert lower_bound(1, 1, 0.05) == pytest.approx(0.05) and lower_bound(20, 20, 0.05) == pytest.approx(0.05**0.05)
    # As many as the longest record keeps; near the normal approximation, 1.959964 standard errors below.
    for successes, trials in ((1000, 1040), (19_000, 20_000), (10_000, 20_000)):
        rate = successes / trials
        normal = rate - 1.959964 * math.sqrt(rate * (1.0 - rate) / trials)
        assert lower_bound(successes, trials, 0.025) == pytest.approx(normal, abs=2e-3)
    with pytest.raises(ValueError, match="11 successes of 10"):
        lower_bound(11, 10, 0.05)


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="swap.shadow_decisions is 0, must be above 0"):
        SwapConfig(shadow_decisions=0)
    with pytest.raises(ValueError, match="swap.probation_level is 1"):
        SwapConfig(probation_level=1.0)
    with pytest.raises(ValueError, match=r"swap.shadow_variation is nan, must be in \[0, 1\]"):
        SwapConfig(shadow_variation=float("nan"))


def experience(
    first: bool = False, last: bool = False, terminal: bool = False, by: str = "a", **reward: float
) -> Experience:
    seen = Observation(np.zeros(BEV_SHAPE, np.uint8), np.zeros(STATE_SIZE, np.float32))
    action = Action(0, 0.0, np.full(ACTION_COUNT, 0.2, np.float32))
    return Experience(0.0, 0, 0, seen, action, 0.0, RewardTerms(**reward), first, last, terminal, (by,))


def outcome(*ones: Experience, by_fault: bool = False, intervened: bool = False) -> EpisodeOutcome | None:
    watch, found = EpisodeWatch(100), None
    for k, one in enumerate(ones):
        if k == 1 and intervened:
            watch.taken_over("driver", True)
            watch.taken_over("driver", False)
        found = watch.add(one, by_fault)
    return found


def test_how_episodes_end() -> None:
    first, middle = experience(first=True), experience(progress=0.5)
    goal = outcome(first, middle, experience(last=True, terminal=True, destination=1.0))
    assert goal == EpisodeOutcome(("a",), True, True, "goal", 1.5)
    ends = {
        "collision": experience(last=True, terminal=True, collision=-1.5),
        "off_lane": experience(last=True, terminal=True),
        "unfinished": experience(last=True),
    }
    for why, last in ends.items():
        found = outcome(first, middle, last)
        assert found is not None and (found.why, found.success) == (why, False)
    assert outcome(first, middle, ends["unfinished"], by_fault=True) is None, "an input's fault is not the adapter's"
    assert outcome(middle, ends["off_lane"]) is None, "its beginning was missed"
    taken = outcome(first, middle, experience(last=True, terminal=True, destination=1.0), intervened=True)
    assert taken is not None and taken.why == "intervention" and not taken.success


def test_who_still_drives_instead_when_an_episode_begins_spoils_it() -> None:
    watch, end = EpisodeWatch(100), experience(last=True, terminal=True, destination=1.0)
    watch.taken_over("driver", True)
    watch.add(experience(first=True), False)
    spoilt = watch.add(end, False)
    watch.taken_over("driver", False)
    watch.add(experience(first=True), False)
    free = watch.add(end, False)
    assert spoilt is not None and spoilt.why == "intervention" and free is not None and free.why == "goal"


def test_a_stop_that_the_last_episode_ended_with_is_not_held_against_the_next() -> None:
    watch, end = EpisodeWatch(100), experience(last=True, terminal=True, destination=1.0)
    watch.add(experience(first=True), False)
    watch.taken_over("gate", True)
    stopped = watch.add(experience(last=True, terminal=True, collision=-1.5), False)
    watch.add(experience(first=True), False)  # the gate lets go when it has seen this decision's command
    watch.taken_over("gate", False)
    watch.add(experience(), False)
    free = watch.add(end, False)
    assert stopped is not None and stopped.why == "intervention" and free is not None and free.why == "goal"


def test_an_episode_of_two_adapters_is_the_last_ones_and_not_whole() -> None:
    found = outcome(experience(first=True), experience(by="b"), experience(last=True, by="b"))
    assert found is not None and found.adapters == ("b",) and not found.whole


def test_an_episode_without_an_end_is_a_failure_after_each_limit_and_whole_but_once() -> None:
    watch = EpisodeWatch(3)
    found = [watch.add(experience(first=k == 0, progress=1.0), False) for k in range(7)]
    assert [k for k, each in enumerate(found) if each is not None] == [2, 5]
    assert found[2] == EpisodeOutcome(("a",), True, False, "too_long", 3.0)
    assert found[5] == EpisodeOutcome(("a",), False, False, "too_long", 6.0)
    end = watch.add(experience(last=True, terminal=True, destination=1.0), False)
    assert end is not None and (end.why, end.whole) == ("goal", False), "a record must not have an episode twice"
    assert watch.add(experience(first=True), False) is None
    others = [watch.add(experience(by="b"), False) for _ in range(3)]
    assert others[:2] == [None, None] and others[2] is not None and others[2].adapters == ("b",)
    assert [EpisodeWatch(1).add(experience(), False)] == [None], "its beginning was missed"
