"""Episodes of an adapter on probation in, "worse than the record" out, at any time and with a stated false-alarm rate.

The test is by betting (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024;
Shafer, "Testing by betting", JRSS A 2021). Against the hypothesis "the adapter's success rate is at least p", the
wealth W = prod (1 + b (p - x)) over episodes x (1 success, 0 failure) is a nonnegative supermartingale for every bet
0 <= b <= 1 / (1 - p), and so is the mean over several bets. Ville's inequality: the chance that W ever reaches 1/a is
at most a, however long one looks and whenever one stops. p is the lower Clopper-Pearson bound, at level a, of the
record's success rate, less a margin; with a half of the allowed level for either step, an adapter as good as the
record is rolled back with at most that level's chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import Experience

BETS = (0.25, 0.5, 0.75, 0.95)
"""Shares of the largest bet; the wealth is the mean over them, so that it is right for no one size of loss alone."""

LOWEST_P = 0.01
"""A bound this low cannot be fallen short of by enough to be found, so nothing is asked for."""


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode as the planner can judge it."""

    adapters: tuple[str, ...]  # digests that decided last
    whole: bool  # they decided all of it, from its beginning on
    success: bool  # reached the goal, without collision or intervention
    why: str  # goal, collision, off_lane, unfinished, too_long or intervention
    total: float  # return, sum of all rewards


class EpisodeWatch:
    """Experience in, outcomes of episodes out; none of an episode whose beginning was missed."""

    def __init__(self, longest: int) -> None:
        """Wait for the first episode.

        Args:
            longest: decisions without an end that are a failure, every time anew: or an adapter that makes the vehicle
                stand would end no episode, and drive on unjudged.
        """
        self._longest, self._decisions = longest, 0
        self._adapters: tuple[str, ...] | None = None  # None: no episode
        self._whole = True
        self._total, self._intervened = 0.0, False
        self._instead = set[str]()

    def taken_over(self, by: str, now: bool) -> None:
        """Note who drives instead of the planner: an episode with any such moment is a failure.

        Who does when an episode begins may be the stop that the last one ended with: it counts if it outlasts the
        first decision.
        """
        (self._instead.add if now else self._instead.discard)(by)
        self._intervened = self._intervened or now

    def add(self, one: Experience, cut: bool) -> EpisodeOutcome | None:
        """Take one experience.

        Args:
            one: in the order they were made.
            cut: the episode ends because an input cannot be trusted, or because another route came while the vehicle
                drove, which says nothing about the adapter.
        """
        if one.is_first:
            self._adapters, self._whole, self._total = one.adapter_digests, True, 0.0
            self._intervened, self._decisions = False, 0
        elif self._adapters is not None and one.adapter_digests != self._adapters:
            self._adapters, self._whole, self._decisions = one.adapter_digests, False, 0
        self._intervened = self._intervened or (bool(self._instead) and not one.is_first)
        self._total += one.reward.total
        self._decisions += 1
        if not one.is_last:
            return self._too_long()
        adapters, intervened = self._adapters, self._intervened
        self._adapters = None
        if adapters is None or (cut and not one.is_terminal and not intervened):
            return None
        why = "intervention" if intervened else _end(one)
        return EpisodeOutcome(adapters, self._whole, why == "goal", why, self._total)

    def _too_long(self) -> EpisodeOutcome | None:
        """Outcome of an episode that goes on beyond the limit; what follows of it is not whole."""
        if self._adapters is None or self._decisions < self._longest:
            return None
        found = EpisodeOutcome(self._adapters, self._whole, False, "too_long", self._total)
        self._whole, self._decisions = False, 0
        return found


def _end(one: Experience) -> str:
    if one.reward.collision < 0.0:
        return "collision"
    if one.reward.destination > 0.0:
        return "goal"
    return "off_lane" if one.is_terminal else "unfinished"


Results = tuple[tuple[bool, float], ...]
"""Success, whatever the return, and return of each episode; the oldest first."""


def _reached(results: Results, floor: float) -> int:
    """How many succeeded with at least this return."""
    return sum(success and total >= floor for success, total in results)


@dataclass(frozen=True)
class Record:
    """The newest episodes of what drives when nothing is tried."""

    results: Results = ()

    @property
    def episodes(self) -> int:
        """How many there are."""
        return len(self.results)

    def successes(self, config: SwapConfig) -> int:
        """How many of them succeeded, all judged by today's floor, as one on probation would be.

        A floor that only came later must hold for the first ones too: the bound is of episodes judged alike.
        """
        return _reached(self.results, self.floor(config))

    def add(self, outcome: EpisodeOutcome, config: SwapConfig) -> Record:
        """The record with one more episode.

        Only so many are kept that a vehicle or task which changes is soon what the record is of.
        """
        return Record((*self.results, (outcome.success, outcome.total))[-2 * config.record_episodes :])

    def floor(self, config: SwapConfig) -> float:
        """Return that a success must reach; -inf while the record is short or its mean is not positive."""
        mean = sum(total for _, total in self.results) / max(self.episodes, 1)
        known = self.episodes >= config.record_episodes and mean > 0.0
        return config.return_share * mean if known else -math.inf

    def bound(self, config: SwapConfig) -> float:
        """Success rate that an adapter on probation must not fall below; 0, or above LOWEST_P and below 1."""
        if self.episodes < config.record_episodes:
            rate = config.record_success
        else:
            rate = lower_bound(self.successes(config), self.episodes, 0.5 * config.probation_level)
        bound = min(rate - config.probation_margin, 1.0 - 1e-6)
        return bound if bound > LOWEST_P else 0.0


@dataclass(frozen=True)
class Probation:
    """The sequential test of one adapter."""

    bound: float  # success rate of the hypothesis "good enough"
    floor: float = -math.inf  # return that a success must reach
    results: Results = ()
    wealth: tuple[float, ...] = (1.0,) * len(BETS)  # of each bet

    def add(self, outcome: EpisodeOutcome) -> Probation:
        """The test with one more episode."""
        success = outcome.success and outcome.total >= self.floor
        largest = 1.0 / (1.0 - self.bound)
        wealth = tuple(
            each * (1.0 + share * largest * (self.bound - success))
            for each, share in zip(self.wealth, BETS, strict=True)
        )
        return Probation(self.bound, self.floor, (*self.results, (outcome.success, outcome.total)), wealth)

    @property
    def episodes(self) -> int:
        """How many there were."""
        return len(self.results)

    @property
    def successes(self) -> int:
        """How many of them succeeded."""
        return _reached(self.results, self.floor)

    @property
    def evidence(self) -> float:
        """Wealth against "good enough"; 1/a or more is a rejection at level a."""
        return sum(self.wealth) / len(self.wealth)

    def is_worse(self, config: SwapConfig) -> bool:
        """Whether the adapter is worse than the bound, at half of the allowed level."""
        return self.evidence >= 2.0 / config.probation_level

    def is_over(self, config: SwapConfig) -> bool:
        """Whether it may be committed: all episodes are in, and they do not speak against it.

        While they do, without being proof, it stays on probation; looking on costs an anytime-valid test nothing.
        """
        return self.episodes >= config.probation_episodes and self.evidence <= 1.0


def verdict(test: Probation, config: SwapConfig) -> Refusal | None:
    """Why an adapter must not drive on, None while nothing is against it."""
    if not test.is_worse(config):
        return None
    return Refusal(
        Reason.PROBATION,
        "on probation it must not succeed less often than the record",
        f"{test.successes} of {test.episodes} episodes, evidence {test.evidence:.3g}",
        f"{test.bound:.3f} of them, evidence below {2.0 / config.probation_level:g}",
        "The last good adapter drives again; look at the rollouts it was made from",
    )


def lower_bound(successes: int, trials: int, level: float) -> float:
    """One-sided Clopper-Pearson bound of a success rate, which is below the true one with chance 1 - level at least.

    Raises ValueError for counts that cannot be.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials cannot be")
    counts = np.arange(successes)
    # As logarithms: the binomial coefficients of a thousand trials are no floats any more.
    steps = np.log((trials - counts[:-1]) / (counts[:-1] + 1.0))
    ways = np.concatenate([[0.0], np.cumsum(steps)])[:successes]
    low, high = 0.0, successes / trials
    for _ in range(50):
        rate = 0.5 * (low + high)
        fewer = (
            np.exp(ways + counts * math.log(rate) + (trials - counts) * math.log1p(-rate)).sum() if successes else 0.0
        )
        low, high = (rate, high) if 1.0 - fewer < level else (low, rate)
    return low
