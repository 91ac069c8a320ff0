"""Recorded frames in, round trips and what the nodes tell of their stages out: what both chains answer to."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import rclpy
from adawm_msgs.msg import Timing
from builtin_interfaces.msg import Time
from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaStatus,
    CarlaWorldInfo,
)
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from adawm_planner.dims import FRAME_S
from adawm_planner.ros import bridge_messages as messages
from adawm_planner.ros import qos
from adawm_planner.ros.timing import GATE_TIMING_TOPIC, PLANNER_TIMING_TOPIC, durations_from
from adawm_planner.runtime.stages import Durations
from adawm_planner.simulator.sensors import ObjectMotion
from adawm_planner.simulator.world import World, WorldFrame

CONNECT_LIMIT_S = 60.0
ANSWER_LIMIT_S = 1.0
TOLD_LIMIT_S = 5.0
"""Longest wait for what the nodes tell of their stages every second [s]."""


@dataclass(frozen=True)
class Trip:
    """One frame, there and back."""

    sent_s: float  # before its first message; time.perf_counter()
    answered_s: float  # the answer's arrival

    @property
    def ms(self) -> float:
        """Round trip [ms]."""
        return 1e3 * (self.answered_s - self.sent_s)


@dataclass
class Peer:
    """One of the two nodes: where it listens, and its newest answer."""

    role: str
    clock: Any
    status: Any
    parts: dict[str, Any] = field(default_factory=dict)
    route: Any = None
    answered: tuple[int, int] | None = None
    answered_at: float = 0.0


class Probe:
    """Publishes frames as the bridge would, to one node at a time."""

    def __init__(self, world: World, check: Callable[[], None]) -> None:
        """Connect to both nodes.

        Args:
            world: of which the frames are.
            check: raises if a node has ended.

        Raises:
            ValueError: they did not appear in time.
        """
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._world, self._objects = world, messages.ObjectMessages()
        self._node = rclpy.create_node("latency_probe")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._kept: list[Any] = []
        self._peers = {
            "planner": self._peer("ego_vehicle", "/clock", "/carla/status"),
            "echo": self._peer("echo", "/echo/clock", "/echo/status"),
        }
        self._publish_once(
            "/carla/world_info", CarlaWorldInfo, messages.world_info_message(world.map_name, world.opendrive)
        )
        info = messages.vehicle_info_message(world.vehicle, "ego_vehicle")
        self._publish_once("/carla/ego_vehicle/vehicle_info", CarlaEgoVehicleInfo, info)
        self.told: dict[str, dict[str, Durations]] = {}
        """What "planner" and "gate" have told of their stages since this was emptied, by stage."""
        for name, topic in (("planner", PLANNER_TIMING_TOPIC), ("gate", GATE_TIMING_TOPIC)):
            self._node.create_subscription(Timing, topic, partial(self._on_timing, name), qos.STATUS)
        self._connect(check)

    def round_trip(self, name: str, frame: WorldFrame, first: bool) -> Trip | None:
        """Send a frame and wait for the command that answers it; None without answer.

        Args:
            name: "planner" or "echo".
            frame: to be sent.
            first: of an episode, which is announced by its route.
        """
        peer, stamp = self._peers[name], messages.stamp_of(frame.time)
        if first:
            peer.route.publish(messages.path_message(frame.route, stamp))
        tick = messages.Tick(stamp, frame.ego, frame.objects, _no_motion(len(frame.objects)), 0.0)
        parts = {
            "vehicle_status": messages.vehicle_status_message(tick, frame.applied),
            "odometry": messages.odometry_message(tick, peer.role),
            "objects": self._objects.array(tick),
        }
        clock, status = Clock(clock=stamp), messages.status_message(frame.frame, True, True, FRAME_S)
        sent = time.perf_counter()
        peer.status.publish(status)
        peer.clock.publish(clock)
        for part, message in parts.items():
            peer.parts[part].publish(message)
        return self._answer(peer, stamp, sent)

    def idle(self, seconds: float) -> None:
        """Wait, if there is time left."""
        if seconds > 0.0:
            time.sleep(seconds)

    def await_told(self, nodes: Collection[str]) -> dict[str, dict[str, Durations]]:
        """Wait until each of the nodes has told of its stages anew; by node and stage.

        Raises:
            ValueError: one of them has not in time.
        """
        self.told = {}
        deadline = time.monotonic() + TOLD_LIMIT_S
        while not self.told.keys() >= set(nodes):
            if time.monotonic() > deadline:
                silent = ", ".join(sorted(set(nodes) - self.told.keys()))
                raise ValueError(f"{silent}: nothing told of its stages within {TOLD_LIMIT_S:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)
        return dict(self.told)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _answer(self, peer: Peer, stamp: Time, sent: float) -> Trip | None:
        key = (stamp.sec, stamp.nanosec)
        while peer.answered != key:
            self._executor.spin_once(timeout_sec=0.1)
            if time.perf_counter() - sent > ANSWER_LIMIT_S:
                return None
        return Trip(sent, peer.answered_at)

    def _peer(self, role: str, clock: str, status: str) -> Peer:
        create = self._node.create_publisher
        peer = Peer(role, create(Clock, clock, qos.STREAM), create(CarlaStatus, status, qos.STREAM))
        for part, kind in (("vehicle_status", CarlaEgoVehicleStatus), ("odometry", Odometry), ("objects", ObjectArray)):
            peer.parts[part] = create(kind, f"/carla/{role}/{part}", qos.STREAM)
        peer.route = create(Path, f"/carla/{role}/waypoints", qos.ROUTE)

        def on_command(message: CarlaEgoVehicleControl) -> None:
            peer.answered_at = time.perf_counter()
            peer.answered = (message.header.stamp.sec, message.header.stamp.nanosec)

        topic = f"/carla/{role}/vehicle_control_cmd"
        self._node.create_subscription(CarlaEgoVehicleControl, topic, on_command, qos.STREAM)
        return peer

    def _on_timing(self, name: str, message: Timing) -> None:
        self.told[name] = durations_from(message)

    def _publish_once(self, topic: str, kind: type[Any], message: Any) -> None:
        publisher = self._node.create_publisher(kind, topic, qos.SENT_ONCE)
        publisher.publish(message)
        self._kept.append(publisher)  # a transient-local message lives as long as its publisher

    def _connect(self, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + CONNECT_LIMIT_S
        while not all(self._connected(peer) for peer in self._peers.values()):
            check()
            if time.monotonic() > deadline:
                raise ValueError(f"planner and echo did not connect within {CONNECT_LIMIT_S:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)

    def _connected(self, peer: Peer) -> bool:
        inputs = (peer.clock, peer.status, *peer.parts.values())
        heard = all(publisher.get_subscription_count() > 0 for publisher in inputs)
        return heard and self._node.count_publishers(f"/carla/{peer.role}/vehicle_control_cmd") > 0


def _no_motion(count: int) -> ObjectMotion:
    """Derived motion that no planner input uses."""
    zeros = np.zeros(count)
    return ObjectMotion(ax=zeros, ay=zeros, age=np.zeros(count, dtype=np.int64))
