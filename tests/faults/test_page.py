"""The page is the committed document, and the document keeps what the campaign promises."""

from __future__ import annotations

import json
from pathlib import Path

from adawm_planner.faults.report import markdown, summarise
from adawm_planner.faults.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "safety" / "faults.json"


def test_the_page_is_the_committed_result() -> None:
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    assert markdown(document) == (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    run = [row["fault"] for row in document["rows"]]
    assert run == [fault.name for fault in FAULTS if fault.name in run]
    assert document["summary"] == summarise(document["rows"], document["normal"])


def test_no_fault_lacks_a_braking_command_and_no_stop_is_needless() -> None:
    summary = json.loads(RESULT.read_text(encoding="utf-8"))["summary"]
    assert summary["without_braking_command"] == 0 and summary["needless_stops"] == 0
