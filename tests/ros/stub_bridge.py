"""The smallest world a planner can be run against: one car on a straight road, over the bridge's topics.

Frames are sent on demand and parts can be left out or spoilt, so that a test decides what goes wrong.
"""

from __future__ import annotations

import os
from typing import Any

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
    CarlaEgoVehicleStatus,
    CarlaStatus,
)
from derived_object_msgs.msg import ObjectArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from rclpy.node import Node

from adawm_planner.ros import convert, qos
from tests.ros.spinner import Spinner

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
DOMAIN = int(os.environ.get("ROS_DOMAIN_ID", "42"))
"""Domain of the tests, so that nothing talks to a neighbour."""

FRAME_NS = 50_000_000
SPEED = 5.0


class StubBridge(Node):
    """Publishes what it is told to and keeps every command it gets."""

    def __init__(self, role: str, context: Context) -> None:
        super().__init__("stub_bridge", context=context)
        prefix = f"/carla/{role}"
        make = self.create_publisher
        self.odometry = make(Odometry, f"{prefix}/odometry", qos.STREAM)
        self.objects = make(ObjectArray, f"{prefix}/objects", qos.STREAM)
        self.vehicle_status = make(CarlaEgoVehicleStatus, f"{prefix}/vehicle_status", qos.STREAM)
        self.collision = make(CarlaCollisionEvent, f"{prefix}/collision", qos.STREAM)
        self.status = make(CarlaStatus, "/carla/status", qos.STREAM)
        self.waypoints = make(Path, f"{prefix}/waypoints", qos.ROUTE)
        self.vehicle_info = make(CarlaEgoVehicleInfo, f"{prefix}/vehicle_info", qos.SENT_ONCE)
        self.commands: list[CarlaEgoVehicleControl] = []
        self.create_subscription(
            CarlaEgoVehicleControl, f"{prefix}/vehicle_control_cmd", self.commands.append, qos.STREAM
        )

    def publish_vehicle(self) -> None:
        """Describe the car."""
        wheels = [CarlaEgoVehicleInfoWheel(max_steer_angle=angle) for angle in (0.61, 0.61, 0.0, 0.0)]
        for wheel, x in zip(wheels, (1.4, 1.4, -1.4, -1.4), strict=True):
            wheel.position.x = x
        self.vehicle_info.publish(CarlaEgoVehicleInfo(id=1, type="stub", wheels=wheels, mass=1600.0))

    def publish_route(self, length: int = 100) -> None:
        """Send the car along x."""
        path = Path(header=convert.make_header(0, "map"))
        for x in range(length + 1):
            pose = PoseStamped()
            pose.pose.position.x = float(x)
            path.poses.append(pose)
        self.waypoints.publish(path)

    def publish_world(self, frame: int, running: bool = True) -> None:
        """Say that the world is stepped, and whether it is paused."""
        self.status.publish(
            CarlaStatus(frame=frame, fixed_delta_seconds=0.05, synchronous_mode=True, synchronous_mode_running=running)
        )

    def publish_frame(self, k: int, without: str = "", x: float | None = None, speed: float = SPEED) -> None:
        """Send frame k, leaving out the part `without`."""
        header = convert.make_header(k * FRAME_NS, "map")
        odometry = Odometry(header=header, child_frame_id="ego_vehicle")
        odometry.pose.pose.position.x = 1.0 + SPEED * 0.05 * k if x is None else x
        odometry.pose.pose.orientation = convert.quaternion_from_yaw(0.0)
        odometry.twist.twist.linear.x = speed
        status = CarlaEgoVehicleStatus(header=header, velocity=speed)
        parts = {"vehicle_status": status, "odometry": odometry, "objects": ObjectArray(header=header)}
        for name, message in parts.items():
            if name != without:
                getattr(self, name).publish(message)


class Bench(Spinner):
    """A planner and a stub bridge."""

    def __init__(self, context: Context, planner: Any, bridge: StubBridge) -> None:
        super().__init__(context, planner, bridge)
        self.planner, self.bridge = planner, bridge

    def connect(self, use_world_status: bool = True) -> None:
        """Wait until planner and bridge have found each other."""
        bridge = self.bridge
        streams = (bridge.odometry, bridge.objects, bridge.vehicle_status)
        ends = (*streams, bridge.waypoints, bridge.vehicle_info, *([bridge.status] if use_world_status else []))
        assert self.spin_until(
            lambda: (
                all(end.get_subscription_count() > 0 for end in ends)
                and bridge.count_publishers(bridge.resolve_topic_name("/carla/ego_vehicle/vehicle_control_cmd")) > 0
            )
        )
        self.spin_for(0.2)
