"""What is made of a run: figures count from the fault, and a promise is broken for one named reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adawm_planner.faults.outcome import Frame, Said, Sent, Trace, clean, judge
from adawm_planner.faults.table import Due, Fault, Kind, Promise

FAULT = Fault("planner", Kind.KILL, "SIGKILL", Promise(Due.STOP, 0.25))
BEGAN = 1000.0


def _trace(braked_after: int | None = 3, stands_after: int | None = 40, frames: int = 60) -> Trace:
    """20 sound frames, then the fault; each frame is answered 10 ms later."""
    trace = Trace(injected_s=BEGAN)
    trace.said.append(Said(BEGAN - 0.5, "gate", "passing", "", "passing"))
    for k in range(-20, frames):
        at = BEGAN + 0.05 * k
        stands = stands_after is not None and k >= stands_after
        trace.frames.append(Frame(at, 0.0 if stands else 10.0, 0.5 * k))
        brakes = braked_after is not None and k >= braked_after
        trace.commands.append(Sent(at + 0.01, 0.0 if brakes else 0.2, 0.5 if brakes else 0.0))
    return trace


def _say(trace: Trace, state: str, rule: str, node: str = "gate", after_s: float = 0.2) -> Trace:
    trace.said.append(Said(BEGAN + after_s, node, state, rule, f"{state}: {rule}: limit"))
    return trace


def _stopped(trace: Trace) -> Trace:
    return _say(_say(trace, "responding", "proposal_missing"), "hold", "proposal_missing", after_s=2.0)


def _released(trace: Trace) -> Trace:
    trace.commands.append(Sent(trace.commands[-1].at_s + 0.05, 0.2, 0.0))
    return trace


def test_a_stop_that_gets_harder_is_not_taken_back() -> None:
    trace = _say(_say(_trace(), "comfortable_stop", "proposal_missing"), "emergency_stop", "input_stale", after_s=0.5)
    assert judge(FAULT, _say(trace, "hold", "input_stale", after_s=2.0)).kept


def test_figures_count_from_the_fault() -> None:
    outcome = judge(FAULT, _stopped(_trace()))
    assert outcome.kept
    assert outcome.braked_frames == 3 and outcome.braked_s == pytest.approx(0.16)
    assert outcome.standstill_s == pytest.approx(2.0) and outcome.standstill_m == pytest.approx(20.0)
    assert (outcome.state, outcome.last_state) == ("hold", "hold")
    assert outcome.rule == "proposal_missing" and outcome.reason == "responding: proposal_missing: limit"
    assert outcome.braking_commands == 57 and outcome.longest_period_s == pytest.approx(0.05)


def test_a_frame_that_the_fault_came_within_is_the_first_one_with_it() -> None:
    trace = _stopped(_trace())
    trace.injected_s, trace.within_frame = BEGAN - 0.02, True
    assert judge(FAULT, trace).braked_frames == 4
    at_once = _stopped(_trace(braked_after=-1))
    at_once.injected_s, at_once.within_frame = BEGAN - 0.045, True
    assert judge(FAULT, at_once).braked_frames == 0


@pytest.mark.parametrize(
    ("trace", "broken"),
    [
        (_stopped(_trace(braked_after=None)), "no braking command"),
        (_stopped(_trace(braked_after=6)), "braked after 6 frames, limit 5"),
        (_trace(), "no reason published"),
        (_say(_trace(), "responding", "proposal_missing"), "no stop that is not taken back, only responding"),
        (_stopped(_trace(stands_after=None)), "no standstill"),
        (_say(_stopped(_trace()), "passing", "", after_s=2.5), "a stop that was taken back: hold, then passing"),
        (_released(_stopped(_trace())), "the last command does not brake"),
    ],
)
def test_what_breaks_a_stop(trace: Trace, broken: str) -> None:
    assert judge(FAULT, trace).broken == broken


def test_where_braking_is_due_later_figures_count_from_then() -> None:
    trace = _stopped(_trace(braked_after=9))
    assert not judge(FAULT, trace).kept
    trace.due_s = BEGAN + 0.05 * 6
    outcome = judge(FAULT, trace)
    assert outcome.kept and outcome.braked_frames == 3 and outcome.braked_s == pytest.approx(0.16)


def test_brakes_that_are_due_may_be_released_again() -> None:
    fault = replace(FAULT, promise=Promise(Due.BRAKE, 0.25))
    trace = _say(_trace(stands_after=None), "responding", "input_stale")
    trace.commands.append(Sent(BEGAN + 9.0, 0.2, 0.0))
    assert judge(fault, _say(trace, "passing", "", after_s=1.0)).kept


def test_a_stop_that_nothing_called_for_is_needless_and_brakes_alone_are_not() -> None:
    fault = replace(FAULT, promise=Promise(Due.DRIVE))
    braked = _say(_trace(stands_after=None), "responding", "input_stale")
    assert judge(fault, _say(braked, "passing", "", after_s=2.9)).kept
    assert judge(fault, _stopped(_trace())).broken.startswith("a needless stop: responding: proposal_missing")
    assert judge(fault, _trace(braked_after=None, stands_after=None)).braked_s is None


@pytest.mark.parametrize("state", ["standby", "responding"])
def test_a_gate_that_lets_nobody_drive_is_needless_without_a_stop_too(state: str) -> None:
    fault = replace(FAULT, promise=Promise(Due.DRIVE))
    trace = _say(_trace(stands_after=None), state, "proposal_missing")
    assert judge(fault, trace).broken == f"drives no longer: the gate is in {state}"
    assert judge(fault, _released(trace)).kept  # its state is told later than its command
    assert judge(fault, _say(_trace(stands_after=None), "passing", "", after_s=0.4)).kept


def test_a_person_who_drives_is_left_alone_by_a_gate_whose_commands_brake() -> None:
    fault = replace(FAULT, promise=Promise(Due.YIELD))
    kept = judge(fault, _say(_trace(stands_after=None), "overridden", ""))
    assert kept.kept and (kept.state, kept.last_state) == ("overridden", "overridden")
    found = judge(fault, _say(_trace(stands_after=None), "passing", "")).broken
    assert found == "a person drives, and the gate is in passing"
    found = judge(fault, _say(_trace(braked_after=None, stands_after=None), "overridden", "")).broken
    assert found == "a person drives, and the last command does not brake"
    stopped = _say(_say(_trace(), "emergency_stop", "input_stale"), "overridden", "")
    assert judge(fault, stopped).broken.startswith("a needless stop: emergency_stop")
    silent = _say(_trace(stands_after=None), "overridden", "")
    silent.commands = [each for each in silent.commands if not BEGAN + 0.5 <= each.at_s < BEGAN + 1.0]
    assert judge(fault, silent).broken == "no command for 10 frames, limit 6"


@pytest.mark.parametrize("last", ["responding", "passing"])
def test_standstill_is_needless_without_a_stop_too(last: str) -> None:
    fault = replace(FAULT, promise=Promise(Due.DRIVE))
    trace = _say(_trace(braked_after=1), "responding", "rss_same_direction")
    found = judge(fault, _say(trace, last, "", after_s=2.9)).broken
    assert found == "a needless standstill: responding: rss_same_direction: limit"


@pytest.mark.parametrize(
    ("first", "last", "broken"), [(10, 16, ""), (10, 17, "no command for 7 frames, limit 6"), (30, 99, "no")]
)
def test_a_gate_that_says_nothing_is_needless(first: int, last: int, broken: str) -> None:
    """Frames `first` to `last`, `last` left out, are not answered."""
    fault, trace = replace(FAULT, promise=Promise(Due.DRIVE)), _trace(braked_after=None, stands_after=None)
    begin, end = BEGAN + 0.05 * first, BEGAN + 0.05 * last
    trace.commands = [each for each in trace.commands if not begin <= each.at_s < end]
    outcome = judge(fault, trace)
    assert outcome.broken.startswith(broken) and outcome.kept == (broken == "")


def test_the_planner_speaks_where_the_gate_lets_it_pass() -> None:
    trace = _say(_trace(), "", "internal_error", node="planner")
    assert judge(FAULT, _say(trace, "passing", "jerk")).rule == "internal_error"


def test_a_run_that_was_braked_before_says_nothing() -> None:
    trace = _trace()
    assert clean(trace, 0.5)
    trace.commands[18] = Sent(trace.commands[18].at_s, 0.0, 0.1)
    assert not clean(trace, 0.5)
    assert not clean(Trace(injected_s=BEGAN), 0.5)
