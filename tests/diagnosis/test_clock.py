"""What is said of time: running, silent, paused, stopped, gone back."""

from __future__ import annotations

import pytest

from adawm_planner.diagnosis.clock import ClockFacts, judge_clock

RUNNING = (1.0, 1.05, 1.1)


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (ClockFacts(True, RUNNING, 0.2), []),
        (ClockFacts(False, (), 3.0), []),  # a missing publisher is the graph's finding
        (ClockFacts(True, (), 3.0), ["clock_silent"]),
        (ClockFacts(True, (1.0,), 3.0), ["clock_silent"]),
        (ClockFacts(True, (), 3.0, paused=True), ["clock_paused"]),
        (ClockFacts(True, (2.0, 2.0, 2.0), 3.0), ["clock_stopped"]),
        (ClockFacts(True, (2.0, 2.0), 3.0, paused=True), ["clock_paused"]),
        (ClockFacts(True, (7.0, 7.05, 0.05, 0.1), 3.0), ["clock_backwards"]),
        (ClockFacts(True, RUNNING, 3.0, simulated={"/adawm_planner": False}), ["clock_ignored"]),
        (ClockFacts(True, (), 3.0, simulated={"/adawm_planner": True}), ["clock_silent"]),
        (ClockFacts(True, RUNNING, 3.0, simulated={"/adawm_planner": True}), []),
        (ClockFacts(False, (), 3.0, simulated={"/adawm_planner": False}), []),
    ],
)
def test_each_state_of_time_has_its_finding(facts: ClockFacts, names: list[str]) -> None:
    assert [one.name for one in judge_clock(facts) if not one.ok] == names


def test_the_rate_and_the_jump_are_measured() -> None:
    (running,) = judge_clock(ClockFacts(True, (10.0, 12.0), 4.0))
    assert running.ok and "0.50 simulated seconds per second" in running.found
    (back,) = judge_clock(ClockFacts(True, (7.05, 0.05), 3.0))
    assert "from 7.050 s back to 0.050 s" in back.found
