"""Figures of the sidecar benchmark from round trips that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libsumo")

from benchmarks.page_sections import SIDES
from benchmarks.record import LEVELS
from benchmarks.sidecar import Blocks, ratio

ROOT = Path(__file__).resolve().parents[2]


def test_late_and_lost_frames_are_missed_ticks() -> None:
    found = Blocks([[5.0] * 997, [49.9, 50.1, 300.0]], lost=2).figures()
    assert (found["frames"], found["missed_ticks"], found["p50"], found["max"]) == (1000, 4, 5.0, 300.0)


def test_a_ratio_has_an_interval_that_holds_it_and_one_of_nothing_holds_1() -> None:
    rng = np.random.default_rng(0)
    slow, fast, same = ((scale * rng.gamma(4.0, 1.0, (30, 200))).tolist() for scale in (1.5, 1.0, 1.0))
    found = ratio(slow, fast, 99.9)
    assert found["ci95"][0] > 1.05 and found["ci95"][0] < found["ratio"] < found["ci95"][1]
    nothing = ratio(same, fast, 99.9)
    assert nothing["ci95"][0] < 1.0 < nothing["ci95"][1]


def test_the_docs_show_the_committed_result() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "finetuning" / "sidecar.json").read_text())
    page = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
    for name, key in SIDES.items():
        side = found[key]
        figures = " | ".join(f"{side[level]:.2f} ms" for level in LEVELS)
        assert f"| {name} | {figures} | {side['missed_ticks']} of {side['frames']:,} |" in page
