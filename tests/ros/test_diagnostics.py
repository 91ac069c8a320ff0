"""Diagnostics are published on change and in full every second; every fault is one readable line."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from adawm_planner.ros.diagnostics import ERROR, OK, WARN, Diagnostics, State, fault_state
from adawm_planner.ros.planner_adapters import swap_state
from adawm_planner.runtime.input_monitor import Fault
from adawm_planner.runtime.swap.messages import Report

pytestmark = pytest.mark.ros
FAULT = Fault("input_stale", "/carla/ego_vehicle/odometry", 0.45, 0.3, "no new message")


def make() -> tuple[Diagnostics, list[Any]]:
    sent: list[Any] = []
    return Diagnostics("adawm_planner", sent.append, lambda: Time(sec=3)), sent


def test_change_is_published_at_once_and_a_repeat_is_not() -> None:
    diagnostics, sent = make()
    assert diagnostics.set("inputs", State(OK, "fresh"))
    assert not diagnostics.set("inputs", State(OK, "fresh"))
    assert diagnostics.set("inputs", State(WARN, "late"))
    assert [(array.status[0].level, array.status[0].message) for array in sent] == [
        (b"\x00", "fresh"),
        (b"\x01", "late"),
    ]
    assert sent[0].status[0].name == "adawm_planner: inputs" and sent[0].header.stamp.sec == 3


def test_an_adapter_that_cannot_be_left_is_an_error() -> None:
    assert swap_state(Report(), takes=True).level == OK
    told = swap_state(Report(trouble="the last good adapters cannot drive again yet"), takes=True)
    assert told.level == ERROR and "cannot drive again yet" in told.message


def test_all_states_every_second() -> None:
    diagnostics, sent = make()
    diagnostics.set("inputs", State(OK, "fresh"))
    diagnostics.set("route", State(WARN, "none"))
    diagnostics.publish_all()
    assert [status.name for status in sent[-1].status] == ["adawm_planner: inputs", "adawm_planner: route"]


def test_no_state_outlives_what_was_closed() -> None:
    diagnostics, sent = make()
    diagnostics.set("objects", State(ERROR, "refused"))
    diagnostics.close()
    (told,) = sent[-1].status
    assert (told.name, told.level, told.message) == ("adawm_planner: objects", DiagnosticStatus.STALE, "closed")
    assert diagnostics.set("objects", State(ERROR, "refused")), "it is news again"


def test_fault_state_names_rule_topic_age_and_limit() -> None:
    state = fault_state((FAULT,), "fresh")
    assert state.level == ERROR
    for part in ("input_stale", FAULT.topic, "0.450 s", "0.300 s", "no new message", "see that the bridge runs"):
        assert part in state.message
    assert dict(state.values)["fault0.age_s"] == "0.450"
    assert "\n" not in state.message


def test_growing_age_is_the_same_state_another_topic_is_not() -> None:
    diagnostics, _ = make()
    diagnostics.set("inputs", fault_state((FAULT,), "fresh"))
    assert not diagnostics.set("inputs", fault_state((replace(FAULT, age_s=0.5),), "fresh"))
    assert diagnostics.set("inputs", fault_state((replace(FAULT, topic="/other"),), "fresh"))
    assert diagnostics.set("inputs", fault_state((), "fresh"))


def test_never_received_is_said_in_words() -> None:
    state = fault_state((replace(FAULT, age_s=math.inf),), "fresh")
    assert "never received" in state.message
