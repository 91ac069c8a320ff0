"""A bridge whose topics fail on demand: a vehicle on a straight road, 20 frames a second by the wall clock.

The vehicle is the simulator's own model and obeys the last command it got. It moves on when nobody commands it, and
waits for nobody, as a vehicle does. Everything that is published and heard goes into a Trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool

from adawm_planner.data_types import Command
from adawm_planner.dims import FRAME_S
from adawm_planner.faults.outcome import Frame, Sent, Trace
from adawm_planner.faults.streams import Gap, Stream
from adawm_planner.faults.table import CLOCK, EVERYTHING, LATCHED, OVERRIDE, STREAMS, WORLD, Fault, Kind
from adawm_planner.ros import convert, fault_messages, qos
from adawm_planner.ros.gate_listener import GateListener
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE
from adawm_planner.simulator.vehicle import EgoVehicle, VehiclePreset

ROLE = "ego_vehicle"
KINDS = {CLOCK: Clock, WORLD: CarlaStatus, STATUS: CarlaEgoVehicleStatus, ODOMETRY: Odometry, OBJECTS: ObjectArray}
NAMES = {CLOCK: "/clock", WORLD: "/carla/status"} | {
    topic: f"/carla/{ROLE}/{topic}" for topic in (STATUS, ODOMETRY, OBJECTS)
}
FIRST_NS = 100_000_000_000
"""Stamp of the first frame [ns]: far enough from 0 for stamps that go back."""


class FaultBridge:
    """Topics, vehicle and trace of one run."""

    def __init__(self, fault: Fault, preset: VehiclePreset, speed_mps: float, seed: int = 0) -> None:
        """Join the ROS graph that the environment names; nothing moves yet.

        Args:
            fault: to be injected by `inject`, if it is one of a topic.
            preset: dynamics of the vehicle.
            speed_mps: at which it drives until `let_go`.
            seed: of losses.
        """
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.trace, self._fault, self._speed = Trace(), fault, speed_mps
        self._node = rclpy.create_node("fault_bridge")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publishers: dict[str, Any] = {
            topic: self._node.create_publisher(KINDS[topic], NAMES[topic], qos.STREAM) for topic in STREAMS
        }
        self._publishers[ROUTE] = self._node.create_publisher(Path, f"/carla/{ROLE}/{ROUTE}", qos.ROUTE)
        self._publishers[VEHICLE] = self._node.create_publisher(
            CarlaEgoVehicleInfo, f"/carla/{ROLE}/{VEHICLE}", qos.SENT_ONCE
        )
        override = f"/carla/{ROLE}/vehicle_control_manual_override"
        self._publishers[OVERRIDE] = self._node.create_publisher(Bool, override, qos.ROUTE)
        self._commands_topic = f"/carla/{ROLE}/vehicle_control_cmd"
        self._node.create_subscription(CarlaEgoVehicleControl, self._commands_topic, self._on_command, qos.STREAM)
        self._listener = GateListener(self._node)
        self.trace.said = self._listener.said
        topics = STREAMS if fault.where == EVERYTHING else (fault.where,)
        self._streams = {
            topic: Stream[Any](_kind_in(fault, topic), fault.amount, fault_messages.edit_of(fault, topic), seed + i)
            for i, topic in enumerate(topics)
            if topic in STREAMS
        }
        self._vehicle, self._held, self._faulty = EgoVehicle(preset), True, False
        self._vehicle.reset(5.0, 0.0, 0.0, speed_mps)
        # Made once: at every frame the route would hold up this bridge.
        self._latched = {ROUTE: fault_messages.route_message(), VEHICLE: fault_messages.vehicle_message(preset.info)}
        self._late_route = fault.where == ROUTE and fault.kind is Kind.LATE
        self._person_mps: float | None = None  # speed at which a person drives, who does not listen to commands
        self._command, self._number, self._gap, self._ahead_x, self._due = Command(), 0, Gap(), 0.0, 0.0

    def connect(self, wanted: int, limit_s: float, alive: Callable[[], None]) -> None:
        """Wait until the stack has found the topics.

        Args:
            wanted: how many nodes read the odometry.
            limit_s: longest wait.
            alive: raises if a process ended.

        Raises:
            TimeoutError: it did not.
        """
        deadline = time.monotonic() + limit_s
        while not self._connected(wanted):
            alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"planner and gate did not connect within {limit_s:g} s")
            self._executor.spin_once(timeout_sec=0.1)
        self._publishers[VEHICLE].publish(self._latched[VEHICLE])
        if not self._late_route:
            self._publishers[ROUTE].publish(self._latched[ROUTE])
        self._spin_until(time.monotonic() + 0.2)
        self._due = time.monotonic()

    def tick(self, after_s: float = 0.0, then: Callable[[], None] | None = None) -> None:
        """Publish the next frame, then let commands and reports come until the one after it is due.

        Args:
            after_s: from the frame to `then` [s], less than its period.
            then: is called meanwhile; lets the fault begin.
        """
        frame_of = self._vehicle.state
        if self._held:
            self._vehicle.set_speed(self._speed)
            self._ahead_x = frame_of.x + fault_messages.AHEAD_M
        elif self._person_mps is not None:
            self._vehicle.set_speed(self._person_mps)
        self._number += 1
        self.trace.frames.append(Frame(time.monotonic(), self._vehicle.state.speed, frame_of.x))
        self._publish()
        self._due = max(self._due + FRAME_S, time.monotonic())
        if then is not None:
            self._spin_until(self.trace.frames[-1].at_s + after_s)
            self.trace.within_frame = True
            then()
        self._spin_until(self._due)
        self._vehicle.tick(self._command)
        self._ahead_x += self._speed * FRAME_S

    def let_go(self) -> None:
        """From now on the vehicle's speed is its own."""
        self._held = False

    def inject(self) -> None:
        """The fault begins with the next frame."""
        self.trace.injected_s, self._faulty = time.monotonic(), True
        if self._fault.where in LATCHED and self._fault.kind not in (Kind.DUPLICATE, Kind.LATE):
            self._spoil_latched(self._fault.where)
        if self._fault.where == OVERRIDE:
            self._override(True)
        if self._fault.kind is Kind.KILL and self._fault.lasts_s is None:
            for topic in self._streams:
                self._node.destroy_publisher(self._publishers[topic])

    def heal(self) -> None:
        """The fault ends with the next frame."""
        self._faulty = False
        if self._fault.where == OVERRIDE:
            self._override(False)

    @property
    def speed_mps(self) -> float:
        """Of the vehicle [m/s]."""
        return self._vehicle.state.speed

    def unbraked(self, commands: int) -> bool:
        """Whether the last commands let the vehicle drive."""
        last = self.trace.commands[-commands:]
        return len(last) == commands and not any(each.brakes for each in last)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _connected(self, wanted: int) -> bool:
        read = (self._publishers[topic].get_subscription_count() for topic in (STATUS, ODOMETRY, OBJECTS))
        commanded: int = self._node.count_publishers(self._commands_topic)
        return min(read) >= wanted and commanded > 0

    def _publish(self) -> None:
        state, stamp_ns = self._vehicle.state, FIRST_NS + round(self._number * FRAME_S * 1e9)
        messages = fault_messages.frame_messages(self._number, stamp_ns, state, self._ahead_x, self._speed)
        sent = {topic: self._sent(topic, message) for topic, message in messages.items()}
        for topic, several in sent.items():
            for each in several:
                self._publishers[topic].publish(each)
        if self._gap.is_due(sent) and self._fault.kind is Kind.LOSS and self.trace.due_s is None:
            self.trace.due_s = self.trace.frames[-1].at_s
        if self._faulty and self._fault.where in LATCHED and self._fault.kind is Kind.DUPLICATE:
            self._publishers[self._fault.where].publish(self._latched[self._fault.where])
        if self._late_route and time.monotonic() - self.trace.injected_s >= self._fault.amount:
            self._late_route = False
            self._publishers[ROUTE].publish(self._latched[ROUTE])

    def _sent(self, topic: str, message: Any) -> tuple[Any, ...]:
        """What is published of one topic's message."""
        stream = self._streams.get(topic)
        if stream is None:
            return (message,)
        return stream.faulty(message) if self._faulty else stream.healthy(message)

    def _spoil_latched(self, topic: str) -> None:
        if self._fault.kind is Kind.KILL:
            self._node.destroy_publisher(self._publishers[topic])
        else:
            self._publishers[topic].publish(fault_messages.edit_of(self._fault, topic)(self._latched[topic]))

    def _override(self, on: bool) -> None:
        """A person takes the wheel and keeps the speed, or hands it back."""
        self._person_mps = self._vehicle.state.speed if on else None
        self._publishers[OVERRIDE].publish(Bool(data=on))

    def _on_command(self, message: CarlaEgoVehicleControl) -> None:
        self._command = convert.command_from_control(message)
        self.trace.commands.append(Sent(time.monotonic(), self._command.throttle, self._command.brake))

    def _spin_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)


def _kind_in(fault: Fault, topic: str) -> Kind:
    """What goes wrong in a topic: of a bridge that says it is paused nothing else comes."""
    return Kind.KILL if fault.where == EVERYTHING and fault.kind is Kind.PAUSED and topic != WORLD else fault.kind
