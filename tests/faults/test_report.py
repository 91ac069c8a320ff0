"""Counts and sentences made of outcomes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from adawm_planner.faults.outcome import Outcome
from adawm_planner.faults.report import catalogue, summarise, totals
from adawm_planner.faults.table import FAULTS


def _row(fault: str, braked: float | None, broken: str = "") -> dict[str, Any]:
    frames = None if braked is None else round(braked / 0.05)
    return asdict(Outcome(fault, braked, frames, 9, "hold", "hold", 2.0, 15.0, "input_stale", "why", 0.05, 0, broken))


ROWS = [
    _row("planner_kill", 0.2),
    _row("odometry_kill", None, "no braking command"),
    _row("clock_kill", None),
    _row("odometry_duplicate", 0.1, "a needless stop: why"),
]
NORMAL = {"task": "t", "seed": 5000, "episodes": 20, "needless": 1, "stops": {"input_stale": 1}, "responses": {}}


def test_summary_counts_what_was_due_and_what_was_not() -> None:
    summary = summarise(ROWS, NORMAL)
    assert summary.pop("normal_needless_ci95") == pytest.approx([0.0089, 0.2361], abs=1e-3)
    assert summary == {
        "faults": 4,
        "braking_due": 2,
        "without_braking_command": 1,
        "longest_to_brake_s": 0.2,
        "none_due": 2,
        "needless_stops": 1,
        "bridge_late": [],
        "promises_broken": ["odometry_duplicate", "odometry_kill"],
    }
    lines = totals({"summary": summarise(ROWS, NORMAL), "normal": NORMAL})
    assert "2, of which 1 lacked a braking command; the longest took 0.20 s" in lines[0]
    assert "1 of 20 episodes" in lines[2] and "input_stale 1, no braking by the gate" in lines[2]
    assert len(totals({"summary": summarise(ROWS[:1], None), "normal": None})) == 1


def test_catalogue_lists_every_fault() -> None:
    assert catalogue().row_count == len(FAULTS)
