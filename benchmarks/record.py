"""What every benchmark writes its result with: percentiles, and the origin of the command that is running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adawm_planner import origin
from adawm_planner.data_types import Float64
from adawm_planner.origin import Start

ROOT = origin.ROOT
LEVELS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
"""Name -> percentile."""


def percentiles(samples: Sequence[float] | Float64) -> dict[str, float]:
    """Median, 99th and 99.9th percentile, and maximum, in the unit of the samples."""
    values = np.asarray(samples)
    found = np.percentile(values, list(LEVELS.values()))
    return {name: float(value) for name, value in zip(LEVELS, found, strict=True)}


COMMAND = Start.now()
"""Of the command: it imports this module before it measures anything."""


def with_origin(
    name: str, figures: Mapping[str, Any], packages: Sequence[str], start: Start = COMMAND
) -> dict[str, Any]:
    """The figures with everything that is needed to repeat them."""
    return origin.with_origin(name, figures, packages, start)
