"""Every reason of the gate to stop, to brake or not to let go is one line on /diagnostics and in GateStatus."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs")

from builtin_interfaces.msg import Time

from adawm_planner.config.gate import GateConfig
from adawm_planner.ros.diagnostics import ERROR, OK, WARN
from adawm_planner.ros.gate_node import gate_state
from adawm_planner.ros.gate_topics import status_message
from adawm_planner.runtime.gate_loop import GateCounters, GateOutgoing
from adawm_planner.safety.gate import Memory, step
from adawm_planner.safety.limits import Wanted
from adawm_planner.safety.states import State
from adawm_planner.safety.verdict import RULES, Response, Rule, Verdict
from tests.safety.scenes import BREACHES, ego, heard

pytestmark = pytest.mark.ros
DRIVING = Memory(State.PASSING, sent=Wanted(1.0, 0.0))
STANDBY = Memory()


def outgoing(rule: Rule, memory: Memory) -> GateOutgoing:
    """What leaves the gate at a breach; the verdict of this rule made the one that decides."""
    answer = step(BREACHES[rule], memory, GateConfig())
    mine = next(verdict for verdict in answer.verdicts if verdict.rule is rule)
    decided = type(answer)(answer.command, answer.memory, mine, answer.verdicts, answer.time_to_collision_s)
    return GateOutgoing(decided, 1, True, None, math.inf)


@pytest.mark.parametrize("memory", [DRIVING, STANDBY], ids=["driving", "standby"])
@pytest.mark.parametrize("rule", list(Rule))
def test_every_cause_says_name_measured_limit_and_what_to_do(rule: Rule, memory: Memory) -> None:
    out = outgoing(rule, memory)
    verdict = out.answer.verdict
    assert verdict is not None
    state, status = gate_state(out), status_message(out, GateCounters(), Time())
    row = RULES[rule]
    for text in (state.message, status.reason):
        assert "\n" not in text and row.measures in text and row.action in text
        assert f"{rule.value}: " in text
        assert f"is {verdict.measured:.3g}" in text and f"limit {verdict.limit:.3g}" in text
    values = dict(state.values)
    assert values["rule"] == status.rule == rule.value
    assert (values["measured"], values["limit"]) == (f"{verdict.measured:.4g}", f"{verdict.limit:.4g}")
    assert state.level == (OK if row.response is Response.LIMIT else WARN)


def test_a_stop_is_an_error_that_says_how_it_is_left() -> None:
    held = Memory(State.HOLD, cause=Verdict(Rule.ROUTE_MISSING, 0.0, 1.0, 4.0))
    answer = step(heard(route=None, ego=ego(0.0)), held, GateConfig())
    state = gate_state(GateOutgoing(answer, 1, True, None, math.inf))
    assert state.level == ERROR and "~/release" in state.message and state.message.startswith("hold: route_missing")


def test_danger_is_told_beside_the_cause_of_a_stop() -> None:
    silent = step(BREACHES[Rule.PROPOSAL_MISSING], Memory(State.PASSING, fault_s=0.6), GateConfig())
    assert dict(gate_state(GateOutgoing(silent, 1, True, None, math.inf)).values)["danger"] == ""
    answer = step(replace(BREACHES[Rule.BRAKING_DISTANCE], proposal=None), silent.memory, GateConfig())
    state = gate_state(GateOutgoing(answer, 1, True, None, math.inf))
    assert answer.state is State.EMERGENCY_STOP and "emergency stop: proposal_missing" in state.message
    assert dict(state.values)["danger"].startswith("braking_distance: ")
