"""Rows of several runs: the worst is shown, all are kept, and each run is at another moment of the frame period."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from adawm_planner.dims import FRAME_S
from adawm_planner.faults.outcome import Outcome
from adawm_planner.faults.repeats import kept_of, phase_s, row_of, run_name
from adawm_planner.faults.report import markdown, summarise, table


def _run(fault: str, braked: float | None, broken: str = "", state: str = "hold") -> dict[str, Any]:
    frames = None if braked is None else round(braked / FRAME_S)
    outcome = Outcome(fault, braked, frames, 9, state, state, 2.0, 15.0, "input_stale", "why", 0.05, 0, broken)
    return {**asdict(outcome), "tries": 1}


def _document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"cpu": "one", "cores": 2, "load_before": 0.0}
    summary = summarise(rows, None)
    origin = {"machine": machine, "commit": "abc", "utc": "now", "settings": {"speed_mps": 13.89}}
    return {"rows": rows, "summary": summary, "normal": None, **origin}


def test_one_run_is_a_row_as_it_is() -> None:
    run = _run("planner_kill", 0.2)
    assert row_of([run]) == run and kept_of(run) == (1, 1)
    assert "runs" not in summarise([run], None)
    page = markdown(_document([run]))
    assert "| 1 | kept |" in page and "One run each" in page


def test_a_row_is_the_broken_run_with_the_longest_time_of_all() -> None:
    runs = [_run("planner_kill", 0.2), _run("planner_kill", 0.1, "no standstill", "comfortable_stop")]
    row = row_of([*runs, _run("planner_kill", 0.25)])
    assert (row["state"], row["broken"], row["braked_s"], row["braked_frames"]) == (
        "comfortable_stop",
        "no standstill",
        0.25,
        5,
    )
    assert row["repeats"][:2] == runs and kept_of(row) == (2, 3)


def test_a_run_that_did_not_brake_is_the_longest_where_brakes_are_due() -> None:
    row = row_of([_run("planner_kill", None, "no braking command"), _run("planner_kill", 0.2)])
    assert row["braked_s"] is None and row["braked_frames"] is None
    assert summarise([row], None)["without_braking_command"] == 1
    calm = row_of([_run("clock_kill", None), _run("clock_kill", 0.1, state="responding")])
    assert (calm["braked_s"], calm["state"]) == (0.1, "responding")


def test_the_longest_way_counts_and_a_stop_that_never_stood_has_none() -> None:
    far = {**_run("planner_kill", 0.1), "standstill_s": 4.5, "standstill_m": 33.0}
    row = row_of([_run("planner_kill", 0.2), far])
    assert (row["braked_s"], row["standstill_s"], row["standstill_m"]) == (0.2, 4.5, 33.0)
    rolls = {**far, "standstill_s": None, "standstill_m": None}
    assert row_of([far, rolls])["standstill_m"] is None
    assert row_of([{**each, "fault": "planner_late"} for each in (far, rolls)])["standstill_m"] == 33.0


def test_summary_and_page_count_runs() -> None:
    rows = [row_of([_run("planner_kill", 0.2), _run("planner_kill", 0.3, "late: by far")]), _run("clock_kill", None)]
    summary = summarise(rows, None)
    assert (summary["faults"], summary["runs"], summary["runs_broken"]) == (2, 3, 1)
    page = markdown(_document(rows))
    assert "| kept in 1 of 2: late |" in page and "1 to 2 runs each" in page
    assert "2 faults in 3 runs, 1 of which broke their promise." in page
    assert table(rows).row_count == 2


def test_faults_that_were_not_run_are_named() -> None:
    page = markdown(_document([_run("planner_kill", 0.2)]))
    (line,) = [line for line in page.splitlines() if line.startswith("Not run yet: ")]
    assert "`odometry_kill`" in line and "`planner_kill`" not in line


def test_runs_lie_apart_in_the_frame_period_and_the_first_is_at_its_begin() -> None:
    phases = sorted(phase_s(repeat) for repeat in range(5))
    assert phases[0] == 0.0 and phases[-1] < FRAME_S
    gaps = [b - a for a, b in zip(phases, [*phases[1:], FRAME_S], strict=True)]
    assert min(gaps) > 0.1 * FRAME_S and max(gaps) < 0.4 * FRAME_S
    assert phase_s(1) == pytest.approx(0.0309, abs=1e-4)


def test_runs_are_kept_under_names_of_their_own() -> None:
    assert [run_name("planner_kill", repeat) for repeat in range(3)] == [
        "planner_kill",
        "planner_kill.2",
        "planner_kill.3",
    ]
