"""Looks at the running ROS graph: is all that the planner needs published, with types and QoS that match?

Run by `adawm doctor --graph` as a process of its own (`python -m adawm_planner.ros.graph_check ROLE`); prints
one JSON list of findings, which the doctor shows among its checks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

DISCOVERY_S = 3.0
"""How long to wait for other participants to become visible."""


@dataclass(frozen=True)
class Need:
    """One topic that must have an endpoint at the other side."""

    topic: str
    kind: str  # package/msg/Type
    lasting: bool = False  # sent once: the publisher must be transient local
    produced: bool = True  # False: the planner publishes it and somebody must listen


@dataclass(frozen=True)
class Finding:
    """What the graph holds for one need."""

    topic: str
    ok: bool
    found: str
    fix: str


def needs(role: str) -> list[Need]:
    """What a planner for this role needs of the graph."""
    ego = f"/carla/{role}"
    return [
        Need("/clock", "rosgraph_msgs/msg/Clock"),
        Need(f"{ego}/odometry", "nav_msgs/msg/Odometry"),
        Need(f"{ego}/objects", "derived_object_msgs/msg/ObjectArray"),
        Need(f"{ego}/vehicle_status", "carla_msgs/msg/CarlaEgoVehicleStatus"),
        Need(f"{ego}/vehicle_info", "carla_msgs/msg/CarlaEgoVehicleInfo", lasting=True),
        Need(f"{ego}/waypoints", "nav_msgs/msg/Path", lasting=True),
        Need(f"{ego}/vehicle_control_cmd", "carla_msgs/msg/CarlaEgoVehicleControl", produced=False),
    ]


def judge(need: Need, endpoints: Sequence[TopicEndpointInfo]) -> Finding:
    """Compare a need with the endpoints at the other side."""
    side = "publisher" if need.produced else "subscriber"
    if not endpoints:
        fix = f"start what has the {side}, with the same ROS_DOMAIN_ID and role name (or remap the topic)"
        return Finding(need.topic, False, f"no {side}", fix)
    owners = ", ".join(one.node_name for one in endpoints)
    wrong = {one.topic_type for one in endpoints} - {need.kind}
    if wrong:
        return Finding(need.topic, False, f"{owners}: type {', '.join(wrong)}", f"publish {need.kind}")
    if need.produced and len(endpoints) > 1:
        return Finding(need.topic, False, f"{len(endpoints)} publishers: {owners}", "leave one running")
    profile = endpoints[0].qos_profile
    if need.produced and profile.reliability == ReliabilityPolicy.BEST_EFFORT:
        return Finding(need.topic, False, f"{owners}: best effort", "publish it reliable: the planner asks for that")
    if need.lasting and profile.durability != DurabilityPolicy.TRANSIENT_LOCAL:
        return Finding(need.topic, False, f"{owners}: volatile", "publish it transient local: it is sent only once")
    return Finding(need.topic, True, owners, "")


def look(node: Node, role: str, patience_s: float = DISCOVERY_S) -> list[Finding]:
    """Judge every need, as soon as all are met or after `patience_s` [s]."""
    deadline = time.monotonic() + patience_s
    while True:
        found = [judge(need, _other_side(node, need)) for need in needs(role)]
        if all(one.ok for one in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _other_side(node: Node, need: Need) -> Sequence[TopicEndpointInfo]:
    endpoints = node.get_publishers_info_by_topic if need.produced else node.get_subscriptions_info_by_topic
    return list(endpoints(need.topic))


def main() -> None:
    """Print the findings for the role named on the command line."""
    rclpy.init()
    node = rclpy.create_node("adawm_doctor")
    print(json.dumps([asdict(one) for one in look(node, sys.argv[1])]))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
