"""The safety gate as a ROS 2 lifecycle node: the only publisher of the vehicle's commands, one per bridge frame.

Thin on purpose: messages are converted and handed to runtime/gate_loop.py, and what comes back is published. Needs
neither the planner nor the finetuner; see docs/gate.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from adawm_msgs.msg import GateStatus
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_policy_name_from_kind
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, Diagnostics, State
from adawm_planner.ros.gate_parameters import GATE_PARAMETERS, gate_config_from, gate_times_from
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC, input_topics, status_message
from adawm_planner.ros.input_parameters import limits_from
from adawm_planner.ros.lifecycle import logged_transition, run
from adawm_planner.ros.parameters import declare, read
from adawm_planner.ros.timing import TimingTopic, stage_values
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE, Part
from adawm_planner.runtime.gate_loop import GateLoop, GateOutgoing
from adawm_planner.runtime.input_monitor import InputMonitor
from adawm_planner.runtime.stages import PUBLISH
from adawm_planner.safety.states import STOPS
from adawm_planner.safety.states import State as GateState

LAST_COMMAND_S = 0.5
"""Longest wait for the last command's acknowledgement [s]."""


class GateNode(LifecycleNode):
    """Topics, timers and the service around a GateLoop."""

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; everything else waits for `configure`."""
        super().__init__("adawm_gate", **kwargs)
        self.loop: GateLoop | None = None
        declare(self, GATE_PARAMETERS, is_fixed=lambda: self.loop is not None)
        publisher = self.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
        self.diagnostics = Diagnostics(self.get_name(), publisher.publish, lambda: self.get_clock().now().to_msg())
        # Wall clock timers: simulated time stands still exactly when a watchdog is needed.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._second = self.create_timer(1.0, self._each_second, clock=self._steady)
        self._open: list[Any] = []
        self._watchdog: Any = None
        self._control: Any = None
        self._active = False
        self._newest: GateOutgoing | None = None
        self._said: tuple[object, ...] = ()

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and open the topics."""
        values = read(self, GATE_PARAMETERS)
        role = values["role_name"]
        monitor = InputMonitor(limits_from(values), input_topics(self, role))
        times, release = gate_times_from(values), values["release_on_new_episode"]
        self.loop = GateLoop(gate_config_from(values), monitor, times, release)
        self._size = (values["vehicle.length_m"], values["vehicle.width_m"])
        self._ego_id: int | None = None
        self._control_topic = values["control_topic"] or f"/carla/{role}/vehicle_control_cmd"
        self._status = self.create_publisher(GateStatus, "~/status", qos.STATUS)
        self._timing = TimingTopic(self)
        self._subscribe(role)
        self._service = self.create_service(Trigger, "~/release", self._on_release)
        return super().on_configure(state)

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to answer frames."""
        period = self.get_parameter("watchdog_period_s").value
        self._watchdog = self.create_timer(period, self._watch, clock=self._steady)
        if not self.get_parameter("await_planner").value:
            self._open_control()
        self._active = True
        return super().on_activate(state)

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the vehicle braking."""
        self._stop()
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics."""
        self._close()
        return super().on_cleanup(state)

    @logged_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the vehicle braking and close the topics."""
        self._stop()
        self._close()
        return super().on_shutdown(state)

    def _subscribe(self, role: str) -> None:
        prefix = f"/carla/{role}"
        # What is sent once comes first: of several waiting messages the executor takes them in this order.
        table: list[tuple[type[Any], str, Any, Callable[[Any], None]]] = [
            (CarlaStatus, "/carla/status", qos.STREAM, self._on_world),
            (Bool, f"{prefix}/vehicle_control_manual_override", qos.ROUTE, self._on_override),
            (CarlaEgoVehicleInfo, f"{prefix}/{VEHICLE}", qos.SENT_ONCE, self._on_vehicle),
            (Path, f"{prefix}/{ROUTE}", qos.ROUTE, self._on_route),
            (CarlaEgoVehicleStatus, f"{prefix}/{STATUS}", qos.STREAM, self._on_status),
            (Odometry, f"{prefix}/{ODOMETRY}", qos.STREAM, self._on_odometry),
            (ObjectArray, f"{prefix}/{OBJECTS}", qos.STREAM, self._on_objects),
            (CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM, self._on_proposal),
        ]
        self._open = [
            self.create_subscription(kind, name, call, profile, event_callbacks=self._events(name))
            for kind, name, profile, call in table
        ]

    def _events(self, topic: str) -> SubscriptionEventCallbacks:
        def mismatch(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            text = f"a publisher of {topic} offers another {policy} than is needed, so nothing of it arrives; change it"
            self._note(f"qos {topic}", State(ERROR, text))

        return SubscriptionEventCallbacks(incompatible_qos=mismatch)

    def _open_control(self) -> None:
        self._control = self.create_publisher(CarlaEgoVehicleControl, self._control_topic, qos.STREAM)

    def _stop(self) -> None:
        """Answer no more frames; the last command brakes if a vehicle was ever heard of."""
        if not self._active or self.loop is None:
            return
        self._active = False
        self.destroy_timer(self._watchdog)
        last = self.loop.last(time.monotonic())
        if last is not None and self._control is not None:
            self._control.publish(convert.control_message(last.answer.command, last.stamp_ns))
            self._control.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))

    def _close(self) -> None:
        for subscription in self._open:
            self.destroy_subscription(subscription)
        if self.loop is not None:
            self.destroy_publisher(self._status)
            self._timing.destroy()
            self.destroy_service(self._service)
        if self._control is not None:
            self.destroy_publisher(self._control)
        self._open, self.loop, self._control, self._newest = [], None, None, None

    def _on_odometry(self, message: Odometry) -> None:
        self._on_part(convert.odometry_input(message))

    def _on_status(self, message: CarlaEgoVehicleStatus) -> None:
        self._on_part(convert.status_input(message))

    def _on_objects(self, message: ObjectArray) -> None:
        self._on_part(convert.objects_input(message, self._ego_id))

    def _on_part(self, part: Part) -> None:
        if self._active and self.loop is not None:
            self._send(self.loop.on_part(part, time.monotonic()))

    def _on_proposal(self, message: CarlaEgoVehicleControl) -> None:
        if self._active and self.loop is not None:
            stamp_ns = convert.stamp_to_ns(message.header.stamp)
            self._send(self.loop.on_proposal(convert.command_from_control(message), stamp_ns, time.monotonic()))

    def _on_world(self, message: CarlaStatus) -> None:
        if self.loop is not None:
            self.loop.on_world(convert.world_clock(message), time.monotonic())

    def _on_override(self, message: Bool) -> None:
        if self.loop is not None:
            self.loop.on_override(bool(message.data))

    def _on_vehicle(self, message: CarlaEgoVehicleInfo) -> None:
        self._ego_id = int(message.id)
        try:
            vehicle = convert.vehicle_info(message, *self._size)
        except ValueError as error:
            self._note("vehicle", State(ERROR, f"vehicle_info refused: {error}; fix the vehicle's description"))
            return
        self._note("vehicle", State(OK, f"{message.type}: wheelbase {vehicle.wheelbase:.2f} m"))
        if self.loop is not None:
            self.loop.on_vehicle(vehicle)

    def _on_route(self, message: Path) -> None:
        try:
            route = convert.route_from_path(message)
            state = State(OK, f"{route.length:.0f} m") if route else State(WARN, "withdrawn: the path is empty")
        except ValueError as error:
            route, state = None, State(ERROR, f"waypoints refused: {error}; publish another path")
        self._note("route", state)
        if self.loop is not None:
            self.loop.on_route(route)

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = "the gate is not configured" if self.loop is None else self.loop.release()
        response.success, response.message = not refused, refused or "released; drives when no rule asks for brakes"
        return response

    def _watch(self) -> None:
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
        self._note("gate", gate_state(out))

    def _each_second(self) -> None:
        if self._newest is not None:
            self._say(self._newest)
        if self.loop is not None:
            self.diagnostics.set("timing", State(OK, "measured", tuple(stage_values(self.loop.stages).items())))
            self._timing.publish(self.loop.stages)
        self.diagnostics.publish_all()

    def _note(self, name: str, state: State) -> None:
        """Keep a state for the diagnostics; another one than before is logged, once."""
        changed = self.diagnostics.set(name, state)
        if changed and state.level == OK:
            self.get_logger().info(f"{name}: {state.message}")
        elif changed:
            self.get_logger().warning(f"{name}: {state.message}")


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
    values = (
        ("rule", verdict.rule.value),
        ("measured", f"{verdict.measured:.4g}"),
        ("limit", f"{verdict.limit:.4g}"),
        ("about", verdict.about),
        ("state", state.value),
    )
    release = "; release it with the service ~/release once it stands" if state in STOPS else ""
    key = f"{state.value}:{verdict.rule.value}" if level != OK else state.value
    return State(level, f"{name}: {verdict.line()}{release}", values, key)


def main(args: list[str] | None = None) -> None:
    """Run the gate until SIGINT or SIGTERM."""
    sys.exit(run(GateNode, args))


if __name__ == "__main__":
    main()
