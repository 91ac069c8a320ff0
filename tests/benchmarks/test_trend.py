"""Growth in percent per hour: exact on a line, deaf to a few odd samples, with an interval that holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from benchmarks.trend import BLOCKS, growth

AT_S = np.arange(0.0, 3000.0, 5.0)


def test_a_line_is_found_exactly_in_percent_per_hour_of_its_beginning() -> None:
    values = 200e6 * (1.0 + 0.03 * AT_S / 3600.0)
    found = growth(AT_S, values)
    assert found is not None and found["over_s"] == 2995.0
    assert found["percent_per_hour"] == pytest.approx(3.0, rel=1e-3)
    assert found["ci95"] == pytest.approx([3.0, 3.0], rel=1e-3)


def test_what_is_flat_does_not_grow_whatever_single_samples_do() -> None:
    values = np.full(AT_S.size, 100e6)
    values[::50] = 300e6
    found = growth(AT_S, values)
    assert found is not None and found["percent_per_hour"] == 0.0 and found["ci95"] == [0.0, 0.0]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        noise = rng.normal(0.0, 1e6, AT_S.size)
        found = growth(AT_S, 100e6 * (1.0 + 0.01 * AT_S / 3600.0) + noise)
        assert found is not None
        held += found["ci95"][0] <= 1.0 <= found["ci95"][1]
    assert 88 <= held <= 100


def test_a_shrinking_process_has_a_negative_growth() -> None:
    found = growth(AT_S, 100e6 - 1e3 * AT_S)
    assert found is not None and found["percent_per_hour"] == pytest.approx(-3.6, rel=0.01)


def test_fewer_samples_than_spans_are_no_trend() -> None:
    assert growth(AT_S[: BLOCKS - 1], AT_S[: BLOCKS - 1] + 1.0) is None
    assert growth(AT_S[:BLOCKS], AT_S[:BLOCKS] + 1.0) is not None
