"""The floor of the latency benchmark: the planner's inputs in, one empty command per frame out, nothing between.

Subscribes to the same per-frame topics with the same types as the planner, and completes a frame by the same
rule: odometry, objects and vehicle_status of one stamp. Two of them make the floor of planner and gate: the first
proposes, the second waits for the proposal as well and commands.
"""

from __future__ import annotations

from typing import Any

import rclpy
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException

PARTS = {"vehicle_status": CarlaEgoVehicleStatus, "odometry": Odometry, "objects": ObjectArray}
DEPTH = 10
PROPOSED = "/echo/proposed"
HOPS = ("only", "first", "second")
"""Values of the parameter `hop`: alone, or which of two."""


class Echo:
    """Answers each complete frame at once."""

    def __init__(self, role: str) -> None:
        """Subscribe below /carla/`role`."""
        self.node = rclpy.create_node("echo")
        hop = self.node.declare_parameter("hop", HOPS[0]).value
        if hop not in HOPS:
            raise ValueError(f"hop is '{hop}', must be one of {', '.join(HOPS)}")
        topic = PROPOSED if hop == "first" else f"/carla/{role}/vehicle_control_cmd"
        self._publisher = self.node.create_publisher(CarlaEgoVehicleControl, topic, DEPTH)
        self._wanted = len(PARTS) + (hop == "second")
        if hop == "second":
            self.node.create_subscription(CarlaEgoVehicleControl, PROPOSED, self._on_part, DEPTH)
        self._seen: dict[tuple[int, int], int] = {}
        self.node.create_subscription(CarlaStatus, "/carla/status", lambda _: None, DEPTH)
        for name, kind in PARTS.items():
            self.node.create_subscription(kind, f"/carla/{role}/{name}", self._on_part, DEPTH)

    def _on_part(self, message: Any) -> None:
        stamp = message.header.stamp
        key = (stamp.sec, stamp.nanosec)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] == self._wanted:
            del self._seen[key]
            control = CarlaEgoVehicleControl()
            control.header.stamp = stamp
            self._publisher.publish(control)


def main() -> None:
    """Answer until a signal comes."""
    rclpy.init()
    try:
        rclpy.spin(Echo("echo").node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
