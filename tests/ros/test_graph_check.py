"""What the doctor finds wrong on a live graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from adawm_planner.ros.graph_check import Finding, look, needs

ROLE = "doctored"
EGO = f"/carla/{ROLE}"
LASTING = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("patient", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def finding(node: Node, topic: str) -> Finding:
    return next(one for one in look(node, ROLE, patience_s=0.0) if one.topic == f"{EGO}/{topic}")


def test_an_empty_graph_lacks_everything_and_says_which_side(node: Node) -> None:
    found = {one.topic: one for one in look(node, ROLE, patience_s=0.0)}
    assert set(found) == {need.topic for need in needs(ROLE)}
    assert found[f"{EGO}/odometry"].found == "no publisher"
    assert found[f"{EGO}/vehicle_control_cmd"].found == "no subscriber"


def test_a_matching_publisher_is_fine_and_a_second_one_is_not(node: Node) -> None:
    node.create_publisher(Odometry, f"{EGO}/odometry", 10)
    assert finding(node, "odometry") == Finding(f"{EGO}/odometry", True, "patient", "")
    node.create_publisher(Odometry, f"{EGO}/odometry", 10)
    assert finding(node, "odometry").found.startswith("2 publishers")


def test_best_effort_is_named(node: Node) -> None:
    node.create_publisher(Odometry, f"{EGO}/odometry", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    assert "best effort" in finding(node, "odometry").found


def test_a_route_that_is_sent_once_must_last(node: Node) -> None:
    volatile = node.create_publisher(Path, f"{EGO}/waypoints", 1)
    assert "volatile" in finding(node, "waypoints").found
    node.destroy_publisher(volatile)
    node.create_publisher(Path, f"{EGO}/waypoints", LASTING)
    assert finding(node, "waypoints").ok


def test_a_wrong_type_is_named(node: Node) -> None:
    node.create_publisher(String, f"{EGO}/objects", 1)
    assert "std_msgs/msg/String" in finding(node, "objects").found
