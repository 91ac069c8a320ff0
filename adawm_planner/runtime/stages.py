"""The cuts of a tick in, what each of its stages takes out: as histograms, from a node's first tick on.

Each stage lasts from the cut before it to its own, so that nothing between two cuts goes uncounted. A histogram is of
fixed size however long it counts, and the difference of two tells of the time between them.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

ACCURACY: Final = 0.01
"""Relative error of a quantile."""

GROWTH: Final = (1.0 + ACCURACY) / (1.0 - ACCURACY)
"""Upper over lower edge of a bucket; with it the middle 2 / (GROWTH + 1) of the upper edge is within ACCURACY of all
in the bucket (Masson, Rim and Lee, DDSketch, VLDB 2019, section 2.1)."""

LEAST_S: Final = 1e-6
"""Upper edge of bucket 0: what takes less is not told apart [s]."""

BUCKETS: Final = 932
"""The last one begins at about two minutes, and holds all above."""

_LOG_GROWTH: Final = math.log(GROWTH)

RECEIVE: Final = "receive"
"""First part of a frame to the last one: what the executor and the conversion of the other parts take."""

OBSERVATION: Final = "observation"
"""Whole frame to observation, on frames with a decision: checks, scene, raster and state."""

INFERENCE: Final = "inference"
"""Observation to the policy's distribution, on frames with a decision."""

CONTROL: Final = "control"
"""Up to the command: on frames with a decision what follows inference, on others everything from the whole frame on."""

GATE: Final = "gate"
"""Frame and proposal to the command that may pass: the gate's rules."""

PUBLISH: Final = "publish"
"""Command to the middleware's return: conversion, serialisation, handing over."""

PLANNER_STAGES: Final = (RECEIVE, OBSERVATION, INFERENCE, CONTROL, PUBLISH)
GATE_STAGES: Final = (RECEIVE, GATE, PUBLISH)


@dataclass(frozen=True)
class Durations:
    """A histogram at one moment, or of the time between two."""

    counts: Mapping[int, int]  # bucket -> durations, only buckets that are not empty, ascending
    sum_s: float
    max_s: float

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.counts.values())

    @property
    def mean_s(self) -> float:
        """Mean [s], exact; 0 while nothing was measured."""
        return self.sum_s / self.count if self.counts else 0.0

    def quantiles(self, *shares: float) -> tuple[float, ...]:
        """Durations that these shares of all do not exceed [s], within ACCURACY; zeros while nothing was measured."""
        if not self.counts:
            return (0.0,) * len(shares)
        buckets, reached = list(self.counts), list(accumulate(self.counts.values()))
        at = (bisect_left(reached, max(math.ceil(share * reached[-1]), 1)) for share in shares)
        return tuple(min(_middle(buckets[k]), self.max_s) for k in at)

    def since(self, earlier: Durations) -> Durations:
        """What was added after `earlier`, of the same histogram; the maximum within ACCURACY where it was there before.

        Raises:
            ValueError: `earlier` is no earlier state of this histogram: its node began anew.
        """
        left = {bucket: count - earlier.counts.get(bucket, 0) for bucket, count in self.counts.items()}
        if min(left.values(), default=0) < 0 or not earlier.counts.keys() <= self.counts.keys():
            raise ValueError("counts of a stage went back: the node was started or configured anew meanwhile")
        left = {bucket: count for bucket, count in left.items() if count}
        largest = self.max_s if self.max_s > earlier.max_s else min(_middle(max(left, default=0)), self.max_s)
        return Durations(left, self.sum_s - earlier.sum_s, largest if left else 0.0)


def levels(durations: Durations) -> dict[str, float]:
    """Median, 99th and 99.9th percentile, and maximum [s]."""
    p50, p99, p999 = durations.quantiles(0.5, 0.99, 0.999)
    return {"p50": p50, "p99": p99, "p99.9": p999, "max": durations.max_s}


class Histogram:
    """Durations of one stage, in buckets whose edges grow by a constant factor."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self._sum_s = self._max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration [s]."""
        bucket = math.ceil(math.log(seconds / LEAST_S) / _LOG_GROWTH) if seconds > LEAST_S else 0
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self._sum_s += seconds
        if seconds > self._max_s:
            self._max_s = seconds

    def durations(self) -> Durations:
        """Everything that was counted."""
        counts = np.frombuffer(self._counts, dtype=np.uint64)
        filled = np.flatnonzero(counts)
        return Durations(dict(zip(filled.tolist(), counts[filled].tolist(), strict=True)), self._sum_s, self._max_s)


class Stages:
    """What the stages of one node's ticks take; belongs to the thread that runs the ticks."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Count nothing yet; `clock` returns seconds."""
        self._histograms = {name: Histogram() for name in names}
        self._clock = clock
        self._last_s = clock()

    def begin(self) -> None:
        """What came before belongs to no stage."""
        self._last_s = self._clock()

    def cut(self, name: str) -> float:
        """A stage ends here; return what it took since the cut before [s]."""
        now_s = self._clock()
        took_s, self._last_s = now_s - self._last_s, now_s
        self._histograms[name].add(took_s)
        return took_s

    def add(self, name: str, seconds: float) -> None:
        """Count what somebody else has measured [s]."""
        self._histograms[name].add(seconds)

    def durations(self) -> dict[str, Durations]:
        """Everything that was counted, by stage."""
        return {name: histogram.durations() for name, histogram in self._histograms.items()}


def _middle(bucket: int) -> float:
    """The duration that stands for a bucket [s]."""
    return LEAST_S if bucket == 0 else LEAST_S * GROWTH**bucket * 2.0 / (GROWTH + 1.0)
