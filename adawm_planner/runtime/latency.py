"""Durations in, percentiles over the newest ones out."""

from __future__ import annotations

from collections import deque

import numpy as np


class LatencyWindow:
    """The newest durations of one stage."""

    def __init__(self, size: int = 1200) -> None:
        """Keep `size` durations; 1200 frames are a minute."""
        self._seconds: deque[float] = deque(maxlen=size)

    def add(self, seconds: float) -> None:
        """Note one duration [s]."""
        self._seconds.append(seconds)

    def percentiles_ms(self) -> tuple[float, float, float]:
        """Return median, 99th percentile and maximum [ms]; zeros while nothing was measured."""
        if not self._seconds:
            return 0.0, 0.0, 0.0
        p50, p99, top = np.percentile(np.fromiter(self._seconds, dtype=np.float64), (50.0, 99.0, 100.0)) * 1e3
        return float(p50), float(p99), float(top)
