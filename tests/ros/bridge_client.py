"""A client of sim_bridge for tests: starts the node as a process, answers its frames, remembers what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path as FilePath
from typing import Any

import rclpy
from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl, CarlaEgoVehicleStatus, CarlaStatus
from geometry_msgs.msg import Pose, PoseStamped, Twist
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import Bool

from adawm_planner.ros import qos
from adawm_planner.ros.convert import stamp_to_ns
from tests.patience import HANG_S
from tests.ros.spinner import Spinner
from tests.ros.stub_bridge import DOMAIN

ROOT = FilePath(__file__).resolve().parents[2]
EGO = "/carla/ego_vehicle"


def start_bridge(*parameters: str) -> subprocess.Popen[str]:
    """Start the node with parameters given as name:=value."""
    given = [word for parameter in parameters for word in ("-p", parameter)]
    return subprocess.Popen(
        [sys.executable, "-m", "adawm_planner.ros.sim_bridge_node", "--ros-args", *given],
        cwd=ROOT,
        env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Log:
    """Messages of one topic with the time [ns] at which the bridge sent each."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.sent: list[int] = []

    def __call__(self, message: Any, info: dict[str, int]) -> None:
        self.messages.append(message)
        self.sent.append(info["source_timestamp"])

    def __len__(self) -> int:
        return len(self.messages)

    def at(self, stamp_ns: int) -> int | None:
        """Index of the message of a frame."""
        stamps = [stamp_to_ns(message.header.stamp) for message in self.messages]
        return stamps.index(stamp_ns) if stamp_ns in stamps else None


class BridgeClient(Spinner):
    """Everything a driving client has: odometry and status in, commands out."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node("bridge_client", context=self.context)
        super().__init__(self.context, self.node)
        self.status = self.listen(CarlaStatus, "/carla/status")
        self.odometry = self.listen(Odometry, f"{EGO}/odometry")
        self.vehicle_status = self.listen(CarlaEgoVehicleStatus, f"{EGO}/vehicle_status")
        self.waypoints = self.listen(Path, f"{EGO}/waypoints", qos.ROUTE)
        make = self.node.create_publisher
        self.command = make(CarlaEgoVehicleControl, f"{EGO}/vehicle_control_cmd", qos.STREAM)
        self.manual = make(CarlaEgoVehicleControl, f"{EGO}/vehicle_control_cmd_manual", qos.STREAM)
        self.override = make(Bool, f"{EGO}/vehicle_control_manual_override", qos.ROUTE)
        self.run_state = make(CarlaControl, "/carla/control", qos.STREAM)
        self.goal = make(PoseStamped, f"{EGO}/goal", qos.STREAM)
        self.set_transform = make(Pose, f"{EGO}/control/set_transform", qos.STREAM)
        self.set_velocity = make(Twist, f"{EGO}/control/set_target_velocity", qos.STREAM)

    def listen(self, kind: type[Any], topic: str, profile: Any = qos.STREAM) -> Log:
        """Remember all messages of a topic from now on."""
        log = Log()

        # rclpy hands the message's info to a callback only if it is a function of two arguments.
        def remember(message: Any, info: Any) -> None:
            log(message, info)

        self.node.create_subscription(kind, topic, remember, profile)
        return log

    @property
    def frame(self) -> int:
        """Number of the newest frame."""
        return int(self.status.messages[-1].frame)

    def frame_parts(self) -> tuple[Odometry, CarlaEgoVehicleStatus]:
        """Odometry and vehicle status of the newest frame of which both are there."""
        for odometry in reversed(self.odometry.messages):
            index = self.vehicle_status.at(stamp_to_ns(odometry.header.stamp))
            if index is not None:
                return odometry, self.vehicle_status.messages[index]
        raise AssertionError("no frame has come")

    def next_frame(self, timeout_s: float = HANG_S) -> tuple[Odometry, CarlaEgoVehicleStatus]:
        """Wait for a frame that has not come yet."""
        seen, states = len(self.odometry), len(self.vehicle_status)
        assert self.spin_until(lambda: len(self.odometry) > seen and len(self.vehicle_status) > states, timeout_s)
        return self.frame_parts()

    def step(self, manual: bool = False, **control: Any) -> tuple[Odometry, CarlaEgoVehicleStatus]:
        """Answer the newest frame and wait for the next one."""
        seen, states = len(self.odometry), len(self.vehicle_status)
        (self.manual if manual else self.command).publish(CarlaEgoVehicleControl(**control))
        assert self.spin_until(lambda: len(self.odometry) > seen and len(self.vehicle_status) > states)
        return self.frame_parts()

    def call(self, kind: type[Any], name: str, **fields: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        assert self.spin_until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        assert self.spin_until(future.done), name
        self.node.destroy_client(client)
        return future.result()

    def connected(self) -> bool:
        """Whether the bridge listens to every topic of ours."""
        ends = (
            self.command,
            self.manual,
            self.override,
            self.run_state,
            self.goal,
            self.set_transform,
            self.set_velocity,
        )
        return all(end.get_subscription_count() > 0 for end in ends)

    def close(self) -> None:
        """Leave the graph."""
        super().close()
        self.context.try_shutdown()
