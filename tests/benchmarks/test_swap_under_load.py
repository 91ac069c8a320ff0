"""Hundreds of swaps while a driver thread runs: every decision is exactly that of the adapters it names."""

from __future__ import annotations

import pytest

from benchmarks.swap import alternate, growth, make_pair
from tests.adapters.conftest import Maker


def test_three_hundred_swaps_without_a_mixture(maker: Maker) -> None:
    pair, _ = make_pair(maker.model_dir, 2, 0)
    ticks, alternator = alternate(maker.model_dir, pair, 300, 0.0, 0)
    assert len(alternator.flips_ms) == 300
    assert ticks.decisions >= 300 and ticks.mixtures == 0


def test_growth_is_measured_after_the_start() -> None:
    assert growth([1] * 19) is None
    assert growth([50, 90, 95] + [100] * 30 + [102, 102]) == pytest.approx(0.02)
