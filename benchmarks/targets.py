"""What the benchmarks' figures are held against."""

from __future__ import annotations

from collections.abc import Sequence

CHAIN_RATIO = 3.0
"""Largest p99 from sensor message to command over that of as many empty nodes."""

PERIOD = {"mean_error": 0.01, "rsd": 0.10, "largest_gap": 1.5}
"""Of the commands' period: deviation of its mean from 0.05 s, relative standard deviation, largest of all in 0.05 s.
openpilot's test on the road asks for 0.03, 0.35 and 3.5 (selfdrive/test/test_onroad.py)."""

INFERENCE_MS = {"mean": 25.0, "max": 35.0}
"""Of one inference: what openpilot's replay test asks of its driving model, at the same 20 Hz
(selfdrive/test/process_replay/model_replay.py)."""

SIDECAR_RATIO = 1.05
"""Largest p99.9 of the planner's answer with a finetuner at full load over that without."""

FLIP_MS = 1.0
"""Longest swap of adapters between two ticks."""

GROWTH_PERCENT = 1.0
"""Growth of the planner's and the gate's resident memory in an hour, and of the planner's over 10,000 swaps."""

RESIDENT_MB = 300.0
"""Most that the planner's process may have in memory [10^6 bytes]."""

PRETRAINING_H = 4.0
"""Longest way from nothing to the base model: driving, world model and policy [h]."""

DYNAMICS_RATIO = 3.0
"""Least time of a dynamics update of all weights over that of a low-rank one."""

THROUGHPUT_RATIO = 15.0
"""Least decisions per second over highway-env's."""


def within(ci95: Sequence[float], limit: float) -> bool | None:
    """Whether a figure is at most `limit`: by its whole 95 % interval, or not shown either way."""
    low, high = ci95
    return True if high <= limit else False if low > limit else None
