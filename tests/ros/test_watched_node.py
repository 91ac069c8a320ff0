"""The transitions that planner, gate and finetuner share: all or nothing, and a way back from every error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State as StateMessage
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from adawm_planner.ros.diagnostics import ERROR, OK, State
from adawm_planner.ros.lifecycle import state_of
from adawm_planner.ros.parameters import Parameter
from adawm_planner.ros.watched_node import WatchedNode
from tests.ros.spinner import Spinner

pytestmark = pytest.mark.ros

SUCCESS, FAILURE, BROKEN = (getattr(TransitionCallbackReturn, name) for name in ("SUCCESS", "FAILURE", "ERROR"))
TABLE = (
    Parameter("fixed", int, 1, "", low=0, high=9),
    Parameter("dynamic", int, 1, "", low=0, high=9, dynamic=True),
)


class Recorder(WatchedNode):
    """Writes down what it was asked for, and raises where it is told to."""

    def __init__(self, context: Context) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}
        super().__init__("recorder", TABLE, context=context)

    def _open(self, values: dict[str, Any]) -> None:
        self._did(f"open {values['fixed']}")

    def _start(self) -> None:
        self._did("start")

    def _stop(self) -> None:
        self._did("stop")

    def _close(self) -> None:
        self._did("close")

    def _look(self) -> None:
        self._did("look")

    def _did(self, what: str) -> None:
        self.calls.append(what)
        if error := self.errors.pop(what.split()[0], None):
            raise error


@pytest.fixture
def node(context: Context) -> Iterator[Recorder]:
    node = Recorder(context)
    yield node
    node.destroy_node()


def test_each_transition_asks_for_its_part(node: Recorder) -> None:
    for trigger in ("configure", "activate", "deactivate", "activate", "shutdown"):
        assert getattr(node, f"trigger_{trigger}")() == SUCCESS
    assert node.calls == ["open 1", "start", "stop", "start", "stop", "close"]


@pytest.mark.parametrize(("error", "result"), [(ValueError("no such file"), FAILURE), (RuntimeError("ours"), BROKEN)])
def test_what_cannot_be_opened_is_closed_and_may_be_opened_again(
    node: Recorder, error: Exception, result: TransitionCallbackReturn
) -> None:
    node.errors["open"] = error
    assert node.trigger_configure() == result
    assert node.calls[:2] == ["open 1", "close"]
    assert node.set_parameters([RosParameter("fixed", value=3)])[0].successful
    assert node.trigger_configure() == SUCCESS
    assert node.calls[-1] == "open 3"


def test_an_error_of_ours_stops_and_closes(node: Recorder) -> None:
    node.errors["start"] = RuntimeError("ours")
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == BROKEN
    assert node.calls == ["open 1", "start", "stop", "close"]
    assert node.trigger_configure() == SUCCESS


def test_parameters_are_fixed_while_configured(node: Recorder) -> None:
    assert node.trigger_configure() == SUCCESS
    refused = node.set_parameters([RosParameter("fixed", value=2)])[0]
    assert not refused.successful and "fixed" in refused.reason
    assert node.set_parameters([RosParameter("dynamic", value=2)])[0].successful
    assert node.trigger_cleanup() == SUCCESS
    assert node.set_parameters([RosParameter("fixed", value=2)])[0].successful


def test_a_state_is_noted_as_new_once(node: Recorder) -> None:
    assert node.note("route", State(OK, "80 m"))
    assert not node.note("route", State(OK, "80 m"))
    assert node.note("route", State(ERROR, "withdrawn"))
    assert node.diagnostics.states()["route"].message == "withdrawn"


@pytest.mark.parametrize(
    "wrong",
    [Transition(id=Transition.TRANSITION_CONFIGURE), Transition(id=Transition.TRANSITION_ACTIVATE), Transition(id=250)],
    ids=["configure", "activate", "unknown"],
)
def test_a_request_that_the_state_does_not_have_is_answered_and_the_node_goes_on(
    context: Context, wrong: Transition
) -> None:
    node, asking = Recorder(context), Node("asking", context=context)
    bench = Spinner(context, node, asking)
    client = asking.create_client(ChangeState, "/recorder/change_state")

    def ask(transition: Transition) -> bool:
        future = client.call_async(ChangeState.Request(transition=transition))
        assert bench.spin_until(future.done)
        return bool(future.result().success)

    try:
        node.trigger_configure()
        node.trigger_activate()
        assert bench.spin_until(client.service_is_ready)
        assert not ask(wrong)
        assert state_of(node)[0] == StateMessage.PRIMARY_STATE_ACTIVE
        assert ask(Transition(id=Transition.TRANSITION_DEACTIVATE))
        assert [call for call in node.calls if call != "look"] == ["open 1", "start", "stop"]
    finally:
        bench.close()
