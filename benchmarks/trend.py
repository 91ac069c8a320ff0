"""Samples over time in, how fast they grow out: a line that a few odd samples do not turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import theilslopes

from adawm_planner.data_types import Float64

BLOCKS = 20
"""Spans of equal length, of each of which the median counts: what swings within a span is no growth."""

HOUR_S = 3600.0


def growth(at_s: Sequence[float] | Float64, values: Sequence[float] | Float64) -> dict[str, Any] | None:
    """Growth in percent per hour of the first span's value, by the Theil-Sen line through the spans' medians.

    The line's slope is the median of the slopes between all pairs (Theil 1950). Its 95 % interval is Sen's (1968) and
    takes the spans for independent: where memory grows in a few steps it is too narrow.

    Args:
        at_s: when the samples were taken, evenly and in ascending order [s].
        values: positive.

    Returns:
        None for fewer samples than spans: too short a run.
    """
    if len(values) < BLOCKS:
        return None
    spans = np.array_split(np.arange(len(values)), BLOCKS)
    at, found = np.asarray(at_s), np.asarray(values)
    x, y = (np.array([np.median(each[span]) for span in spans]) for each in (at, found))
    slope, _, low, high = theilslopes(y, x, alpha=0.95)
    percent = 100.0 * HOUR_S / y[0]
    return {
        "percent_per_hour": float(percent * slope),
        "ci95": [float(percent * low), float(percent * high)],
        "over_s": float(at[-1] - at[0]),
    }
