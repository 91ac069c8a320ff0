"""Ways to standstill from 50 km/h in the simulator's dynamics: what is promised, and the committed table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libsumo")

from benchmarks.stopping import CASES, COMMAND_TIMEOUT_S, PROMISED_M, Case, Gone, markdown, rows, stop

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("acceleration", [0.0, 3.0])
def test_a_dead_planner_leaves_at_most_35_m_from_50_kmh(acceleration: float, stepped: bool) -> None:
    found = stop(Case(Gone.PLANNER, acceleration=acceleration, stepped=stepped))
    assert found.braked_s is not None and found.braked_s <= 0.25
    assert found.stands_m is not None and found.stands_m <= 0.96 * PROMISED_M


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("gone", [Gone.INPUTS, Gone.ODOMETRY])
def test_who_sees_nothing_stops_harder(gone: Gone, stepped: bool) -> None:
    blind, silent = stop(Case(gone, stepped=stepped)), stop(Case(Gone.PLANNER, stepped=stepped))
    assert blind.stands_m is not None and silent.stands_m is not None
    assert blind.stands_m < 0.6 * silent.stands_m
    assert blind.braked_s is not None and blind.braked_s <= 0.3


def test_without_a_gate_only_the_vehicles_own_timeout_brakes() -> None:
    for_ever = stop(Case(Gone.GATE))
    assert for_ever.braked_s is None and for_ever.stands_m is None and for_ever.speed_mps > 13.0
    own = stop(Case(Gone.GATE, timeout_s=COMMAND_TIMEOUT_S))
    assert own.braked_s is not None and own.braked_s <= COMMAND_TIMEOUT_S and own.stands_m is not None


def test_the_committed_table_is_what_comes_out_and_what_the_docs_show() -> None:
    committed: list[dict[str, Any]] = json.loads(
        (ROOT / "benchmarks" / "results" / "safety" / "stopping.json").read_text(encoding="utf-8")
    )["rows"]
    measured = rows()
    assert len(measured) == len(CASES) == len(committed)
    for ours, theirs in zip(measured, committed, strict=True):
        assert ours == pytest.approx(theirs)
    assert markdown(committed) in (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
