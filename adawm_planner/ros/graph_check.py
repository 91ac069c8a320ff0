"""Listens to the running ROS graph for a while and gathers the facts that diagnosis/ judges.

Run by `adawm doctor --graph` as a process of its own (`python -m adawm_planner.ros.graph_check ROLE SECONDS NAMESPACE`,
the last of which may be empty); prints one JSON list of findings, which the doctor shows among its checks. It publishes
nothing.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import rclpy
from carla_msgs.msg import CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from geometry_msgs.msg import Quaternion
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu
from tf2_msgs.msg import TFMessage

from adawm_planner.diagnosis.check import Check
from adawm_planner.diagnosis.clock import CLOCK, ClockFacts, judge_clock
from adawm_planner.diagnosis.frames import Header, Heard, Motion, Status, Transform, judge_frames
from adawm_planner.diagnosis.graph import Endpoint, Stack, judge
from adawm_planner.diagnosis.versions import known_hashes
from adawm_planner.ros.convert import stamp_to_ns, yaw_from_quaternion
from adawm_planner.ros.endpoints import endpoint

LISTEN_S = 3.0
"""How long to listen by default [s]: discovery, and enough of a curve to judge signs."""

MOST = 2000
"""Messages kept per topic: 100 s at the bridge's 20 Hz."""


def look(node: Node, role: str, seconds: float = LISTEN_S, namespace: str = "") -> list[Check]:
    """Everything wrong that can be seen and heard of a role within `seconds` of wall time.

    `namespace` is that of the stack's own nodes, without slashes around it.
    """
    listener = Listener(node, role, Stack(namespace))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        listener.tune_in()
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    return listener.findings()


class Listener:
    """Subscribes, as soon as a topic is there, in the quality its publishers offer."""

    def __init__(self, node: Node, role: str, stack: Stack) -> None:
        """Take the node to listen with, the ego's role name and the names of the stack."""
        self._node, self._role, self._stack = node, role, stack
        self._begun = self._looked = time.monotonic()
        self._times: list[float] = []
        self._paused = False
        self._headers: dict[Header, None] = {}
        self._odometry: list[Motion] = []
        self._status: list[Status] = []
        self._imu: list[tuple[float, float]] = []
        self._transforms: list[Transform] = []
        self._clients: dict[str, AsyncParameterClient] = {}
        self._asked: dict[str, Any] = {}  # node -> future of its use_sim_time
        ego = f"/carla/{role}"
        self._wanted: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
            CLOCK: (Clock, self._on_clock),
            "/carla/status": (CarlaStatus, self._on_world),
            "/tf": (TFMessage, self._on_transforms),
            "/tf_static": (TFMessage, self._on_transforms),
            f"{ego}/odometry": (Odometry, self._on_odometry),
            f"{ego}/vehicle_status": (CarlaEgoVehicleStatus, self._on_status),
            f"{ego}/objects": (ObjectArray, lambda message: self._note_header("objects", message)),
            f"{ego}/waypoints": (Path, lambda message: self._note_header("waypoints", message)),
            f"{ego}/imu": (Imu, self._on_imu),
        }

    def tune_in(self) -> None:
        """Subscribe to what has come up since, at most ten times a second."""
        now = time.monotonic()
        if now - self._looked < 0.1:
            return
        self._looked = now
        for topic in list(self._wanted):
            kind, call = self._wanted[topic]
            offers = self._others(self._node.get_publishers_info_by_topic(topic))
            if any(one.topic_type == _name(kind) for one in offers):
                del self._wanted[topic]
                self._node.create_subscription(kind, topic, call, _matching(offers))
        present = {f"{space.rstrip('/')}/{name}" for name, space in self._node.get_node_names_and_namespaces()}
        for name in self._stack.clock_users:
            if name not in self._asked and name in present:
                self._ask(name)

    def findings(self) -> list[Check]:
        """Judge what was gathered."""
        clock = self._clock()
        simulated = not clock.simulated or any(clock.simulated.values())
        found = judge(self._endpoints(), self._role, simulated, known_hashes(), self._stack)
        return found + judge_clock(clock) + judge_frames(self._heard())

    def _clock(self) -> ClockFacts:
        offered = bool(self._others(self._node.get_publishers_info_by_topic(CLOCK)))
        answers = {name: future.result() for name, future in self._asked.items() if future.done()}
        simulated = {name: bool(answer.values[0].bool_value) for name, answer in answers.items() if answer.values}
        return ClockFacts(offered, self._times, time.monotonic() - self._begun, self._paused, simulated)

    def _heard(self) -> Heard:
        parts = (list(self._headers), self._odometry, self._status, self._imu, self._transforms)
        return Heard(self._role, *parts)

    def _endpoints(self) -> list[Endpoint]:
        """Every endpoint of the graph that is not the doctor's own."""
        found = []
        for topic, _ in self._node.get_topic_names_and_types():
            for publishes, ask in (
                (True, self._node.get_publishers_info_by_topic),
                (False, self._node.get_subscriptions_info_by_topic),
            ):
                found += [endpoint(topic, one, publishes) for one in self._others(ask(topic))]
        return found

    def _others(self, infos: Sequence[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
        own = (self._node.get_name(), self._node.get_namespace())
        return [one for one in infos if (one.node_name, one.node_namespace) != own]

    def _ask(self, name: str) -> None:
        if name not in self._clients:
            self._clients[name] = AsyncParameterClient(self._node, name)
        if self._clients[name].services_are_ready():
            self._asked[name] = self._clients[name].get_parameters(["use_sim_time"])

    def _on_clock(self, message: Clock) -> None:
        if len(self._times) < MOST:
            self._times.append(stamp_to_ns(message.clock) * 1e-9)

    def _on_world(self, message: CarlaStatus) -> None:
        self._paused = message.synchronous_mode and not message.synchronous_mode_running

    def _note_header(self, name: str, message: Any, child: str = "") -> None:
        self._headers[Header(f"/carla/{self._role}/{name}", message.header.frame_id, child)] = None

    def _on_odometry(self, message: Odometry) -> None:
        self._note_header("odometry", message, message.child_frame_id)
        place, twist = message.pose.pose, message.twist.twist
        x, y, yaw = place.position.x, place.position.y, yaw_from_quaternion(place.orientation)
        values = (x, y, yaw, twist.linear.x, twist.linear.y, twist.angular.z)
        if len(self._odometry) < MOST and all(map(math.isfinite, values)):
            self._odometry.append(Motion(_seconds(message), *values))

    def _on_status(self, message: CarlaEgoVehicleStatus) -> None:
        self._note_header("vehicle_status", message)
        applied = message.control
        values = (yaw_from_quaternion(message.orientation), float(applied.steer), float(message.velocity))
        if len(self._status) < MOST and _is_turn(message.orientation) and all(map(math.isfinite, values)):
            self._status.append(Status(_seconds(message), *values, applied.reverse))

    def _on_imu(self, message: Imu) -> None:
        self._note_header("imu", message)
        if len(self._imu) < MOST and math.isfinite(message.angular_velocity.z):
            self._imu.append((_seconds(message), message.angular_velocity.z))

    def _on_transforms(self, message: TFMessage) -> None:
        for one in message.transforms:
            move = one.transform
            place = (move.translation.x, move.translation.y, yaw_from_quaternion(move.rotation))
            if len(self._transforms) < MOST and all(map(math.isfinite, place)):
                self._transforms.append(Transform(one.header.frame_id, one.child_frame_id, _seconds(one), *place))


def _matching(offers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """A profile that every one of these publishers reaches; what is sent once is asked for where all keep it."""
    profiles = [one.qos_profile for one in offers]
    lasting = all(one.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in profiles)
    reliable = lasting and all(one.reliability == ReliabilityPolicy.RELIABLE for one in profiles)
    return QoSProfile(
        depth=100,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if lasting else DurabilityPolicy.VOLATILE,
        # What was sent before is sent again to reliable subscriptions only.
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


def _name(kind: type[Any]) -> str:
    """package/msg/Type of a message class."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _seconds(message: Any) -> float:
    return stamp_to_ns(message.header.stamp) * 1e-9


def _is_turn(q: Quaternion) -> bool:
    """Whether a quaternion was filled in: all zero is none."""
    return bool(abs(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w - 1.0) < 0.1)


def main() -> None:
    """Print the findings for the role, the seconds and the namespace named on the command line."""
    rclpy.init()
    node = rclpy.create_node("adawm_doctor")
    role, seconds, namespace = sys.argv[1:]
    print(json.dumps([asdict(one) for one in look(node, role, float(seconds), namespace)]))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
