"""The names of the gate's topics, and its status message."""

from __future__ import annotations

import math
from typing import Any

from adawm_msgs.msg import GateStatus
from rclpy.node import Node

from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE
from adawm_planner.runtime.gate_loop import GateCounters, GateOutgoing
from adawm_planner.safety.states import STOPS, State

PROPOSAL_TOPIC = "adawm_gate/proposed"
"""Where a planner that is held by a gate publishes what it wants."""

STATUS_TOPIC = "adawm_gate/status"

INACTIVE = "inactive"
"""Rule and state of a gate that answers no frames; none of those that decide while it does."""

INACTIVE_REASON = "inactive: the gate was deactivated and answers no frames; activate it to drive"


def input_topics(node: Node, role_name: str) -> dict[str, str]:
    """Return the full name, after remapping, of each input's topic."""
    names = (ODOMETRY, OBJECTS, STATUS, ROUTE, VEHICLE)
    return {name: node.resolve_topic_name(f"/carla/{role_name}/{name}") for name in names}


def status_message(out: GateOutgoing, counters: GateCounters, stamp: Any) -> GateStatus:
    """Return what the gate says of a command."""
    answer, verdict = out.answer, out.answer.verdict
    message = GateStatus(
        state=_state(out),
        rule="" if verdict is None else verdict.rule.value,
        reason="" if verdict is None else verdict.line(),
        command_age_ms=1e3 * out.proposal_age_s,
        time_to_collision=answer.time_to_collision_s,
        **_counts(counters),
    )
    message.header.stamp = stamp
    return message


def inactive_message(counters: GateCounters, stamp: Any) -> GateStatus:
    """Return the last thing a gate says before it answers no more frames."""
    message = GateStatus(
        state=GateStatus.STOPPED,
        rule=INACTIVE,
        reason=INACTIVE_REASON,
        command_age_ms=math.inf,
        time_to_collision=math.inf,
        **_counts(counters),
    )
    message.header.stamp = stamp
    return message


def _counts(counters: GateCounters) -> dict[str, int]:
    return {
        "commands_in": counters.proposals,
        "commands_out": counters.commands,
        "limited": counters.limited,
        "stops": counters.braked,
    }


def _state(out: GateOutgoing) -> int:
    state = out.answer.state
    if state is State.PASSING:
        return int(GateStatus.LIMITING if out.intervened else GateStatus.PASSING)
    stands = state in (State.HOLD, State.STANDBY)
    return int(GateStatus.STOPPED if stands else GateStatus.STOPPING if state in (*STOPS, State.RESPONDING) else 0)
