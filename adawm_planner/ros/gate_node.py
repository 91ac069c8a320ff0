"""The safety gate as a ROS 2 lifecycle node: the only publisher of the vehicle's commands, one per bridge frame.

Thin on purpose: messages are converted and handed to runtime/gate_loop.py, and what comes back is published. Needs
neither the planner nor the finetuner; see docs/gate.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from adawm_msgs.msg import GateStatus
from carla_msgs.msg import CarlaEgoVehicleControl
from rclpy.duration import Duration
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from adawm_planner.data_types import Route, VehicleInfo
from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, State
from adawm_planner.ros.gate_parameters import GATE_PARAMETERS, gate_config_from, gate_times_from
from adawm_planner.ros.gate_topics import (
    INACTIVE,
    INACTIVE_REASON,
    PROPOSAL_TOPIC,
    inactive_message,
    input_topics,
    status_message,
)
from adawm_planner.ros.input_parameters import limits_from
from adawm_planner.ros.lifecycle import run
from adawm_planner.ros.timing import TimingTopic, stage_values
from adawm_planner.ros.vehicle_inputs import VehicleInputs
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.frame_inputs import Part
from adawm_planner.runtime.gate_loop import GateLoop, GateOutgoing
from adawm_planner.runtime.input_monitor import InputMonitor
from adawm_planner.runtime.stages import PUBLISH
from adawm_planner.runtime.watchdog import WorldClock
from adawm_planner.safety.states import STOPS
from adawm_planner.safety.states import State as GateState
from adawm_planner.safety.verdict import Response, strictest

LAST_COMMAND_S = 0.5
"""Longest wait for the last command's acknowledgement [s]."""


class GateNode(WatchedNode):
    """Topics, timer and the service around a GateLoop; its own VehicleSink."""

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; everything else waits for `configure`."""
        super().__init__("adawm_gate", GATE_PARAMETERS, **kwargs)
        self.loop: GateLoop | None = None
        self._active = False
        self._inputs: VehicleInputs | None = None
        self._status: Any = None
        self._timing: TimingTopic | None = None
        self._control: Any = None  # None: not opened before there is a planner
        self._service: Any = None
        self._watchdog: Any = None
        self._newest: GateOutgoing | None = None
        self._said: tuple[object, ...] = ()

    def _open(self, values: dict[str, Any]) -> None:
        """Open the topics."""
        role = values["role_name"]
        monitor = InputMonitor(limits_from(values), input_topics(self, role))
        times, release = gate_times_from(values), values["release_on_new_episode"]
        self.loop = GateLoop(gate_config_from(values), monitor, times, release)
        self._control_topic = values["control_topic"] or f"/carla/{role}/vehicle_control_cmd"
        self._status = self.create_publisher(GateStatus, "~/status", qos.STATUS)
        self._timing = TimingTopic(self)
        override = f"/carla/{role}/vehicle_control_manual_override"
        self._inputs = VehicleInputs(
            self,
            values,
            self,
            before=[(Bool, override, qos.ROUTE, self._on_override)],
            after=[(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM, self._on_proposal)],
        )
        self._service = self.create_service(Trigger, "~/release", self._on_release)

    def _start(self) -> None:
        """Begin to answer frames."""
        assert self.loop is not None  # opened by configure
        self.loop.begin(time.monotonic())
        period = self.get_parameter("watchdog_period_s").value
        self._watchdog = self.create_timer(period, self._on_timer, clock=self.steady_clock)
        if self._control is None and not self.get_parameter("await_planner").value:
            self._open_control()
        self.diagnostics.drop("gate")  # it is not inactive any more, and says the rest with its first command
        self._active = True

    def _stop(self) -> None:
        """Answer no more frames; the last command brakes if a vehicle was ever heard of."""
        if not self._active or self.loop is None:
            return
        last = self.loop.last(time.monotonic())
        if last is not None and self._control is not None:
            self._control.publish(convert.control_message(last.answer.command, last.stamp_ns))
            self._control.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))
        self._end()  # not before: what fails until here is tried again
        self._newest, self._said = None, ()  # nothing of it holds any more
        self._status.publish(inactive_message(self.loop.counters, self.get_clock().now().to_msg()))
        self.note("gate", State(WARN, INACTIVE_REASON, (("state", INACTIVE),)))

    def _end(self) -> None:
        self._active = False
        if self._watchdog is not None:
            self.destroy_timer(self._watchdog)
        self._watchdog = None

    def _close(self) -> None:
        self._end()
        if self._inputs is not None:
            self._inputs.destroy()
        if self._service is not None:
            self.destroy_service(self._service)
        if self._timing is not None:
            self._timing.destroy()
        for publisher in (self._status, self._control):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self.loop = self._inputs = self._status = self._timing = None
        self._service = self._control = self._newest = None
        self.diagnostics.drop("gate")

    def _open_control(self) -> None:
        topic = self._control_topic
        events = self.watch.publisher(topic)
        self._control = self.create_publisher(CarlaEgoVehicleControl, topic, qos.STREAM, event_callbacks=events)

    def on_part(self, part: Part, now_s: float) -> None:
        """Take a part of a frame."""
        if self._active and self.loop is not None:
            self._send(self.loop.on_part(part, now_s))

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take the world's frame and time."""
        if self.loop is not None:
            self.loop.on_world(world, now_s)

    def on_vehicle(self, vehicle: VehicleInfo) -> None:
        """Take the vehicle's description."""
        if self.loop is not None:
            self.loop.on_vehicle(vehicle)

    def on_route(self, route: Route | None) -> None:
        """Take a route."""
        if self.loop is not None:
            self.loop.on_route(route)

    def _on_proposal(self, message: CarlaEgoVehicleControl) -> None:
        if self._active and self.loop is not None:
            stamp_ns = convert.stamp_to_ns(message.header.stamp)
            self._send(self.loop.on_proposal(convert.command_from_control(message), stamp_ns, time.monotonic()))

    def _on_override(self, message: Bool) -> None:
        if self.loop is not None:
            self.loop.on_override(bool(message.data))

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = "the gate is not active" if self.loop is None or not self._active else self.loop.release()
        response.success, response.message = not refused, refused or "released; drives when no rule asks for brakes"
        return response

    def _on_timer(self) -> None:
        if self._control is None and self.count_publishers(self.resolve_topic_name(PROPOSAL_TOPIC)) > 0:
            self._open_control()
        if self._active and self.loop is not None:
            self._send(self.loop.on_timer(time.monotonic()))

    def _send(self, outgoing: Iterable[GateOutgoing]) -> None:
        """Publish commands at once, what is said of them after that."""
        for out in outgoing:
            if self._control is not None:
                self._control.publish(convert.control_message(out.answer.command, out.stamp_ns))
                if self.loop is not None and out.is_frame:
                    self.loop.stages.cut(PUBLISH)
            self._newest = out
            said = _key(out)
            if said != self._said:
                self._said = said
                self._say(out)

    def _say(self, out: GateOutgoing) -> None:
        assert self.loop is not None
        self._status.publish(status_message(out, self.loop.counters, self.get_clock().now().to_msg()))
        self.note("gate", gate_state(out))

    def _look(self) -> None:
        if self._newest is not None:
            self._say(self._newest)
        if self.loop is not None and self._timing is not None:
            self.diagnostics.set("timing", State(OK, "measured", tuple(stage_values(self.loop.stages).items())))
            self._timing.publish(self.loop.stages)


def _key(out: GateOutgoing) -> tuple[object, ...]:
    """What makes it another thing to say: state, rule, and whether the command was changed."""
    verdict = out.answer.verdict
    return out.answer.state, None if verdict is None else verdict.rule, out.intervened


def gate_state(out: GateOutgoing) -> State:
    """Return the line of diagnostics that tells what the gate does and why."""
    verdict, state = out.answer.verdict, out.answer.state
    name = state.value.replace("_", " ")
    if verdict is None:
        return State(OK, name)
    level = ERROR if state in STOPS else WARN if state is not GateState.PASSING else OK
    danger = strictest(each for each in out.answer.verdicts if each.response is Response.BRAKE)
    values = (
        ("rule", verdict.rule.value),
        ("measured", f"{verdict.measured:.4g}"),
        ("limit", f"{verdict.limit:.4g}"),
        ("about", verdict.about),
        ("state", state.value),
        ("danger", "" if danger is None else danger.line()),  # a stop is for a fault, and brakes for both
    )
    release = "; release it with the service ~/release once it stands" if state in STOPS else ""
    key = f"{state.value}:{verdict.rule.value}" if level != OK else state.value
    return State(level, f"{name}: {verdict.line()}{release}", values, key)


def main(args: list[str] | None = None) -> None:
    """Run the gate until SIGINT or SIGTERM."""
    sys.exit(run(GateNode, args))


if __name__ == "__main__":
    main()
