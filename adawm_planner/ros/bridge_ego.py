"""The ego's own topics: its status out, commands of both channels and the override in.

Each command is taken the moment it arrives and takes effect at the next tick, as in the real bridge.
"""

from __future__ import annotations

import math

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleStatus
from rclpy.node import Node
from std_msgs.msg import Bool

from adawm_planner.data_types import Command
from adawm_planner.ros import bridge_messages as build
from adawm_planner.ros import qos
from adawm_planner.ros.convert import command_from_control
from adawm_planner.simulator.actors import EGO_ID
from adawm_planner.simulator.autopilot import Autopilot
from adawm_planner.simulator.handshake import EgoControl, FrameWait
from adawm_planner.simulator.world import World, WorldFrame


class EgoTopics:
    """Publishers and subscriptions of /carla/ROLE itself.

    Args:
        timeout: simulated seconds without a command after which the ego brakes, 0 = never.
        wait: where an applied command is noted, None when frames do not wait.
    """

    def __init__(self, node: Node, role: str, world: World, timeout: float, wait: FrameWait | None) -> None:
        self._node, self._role, self._world, self._wait = node, role, world, wait
        self.control = EgoControl(timeout)
        self._autopilot: Autopilot | None = None
        self._braking = False
        self._now = 0.0
        prefix = f"/carla/{role}"
        self._status = node.create_publisher(CarlaEgoVehicleStatus, f"{prefix}/vehicle_status", qos.STREAM)
        self._info = node.create_publisher(CarlaEgoVehicleInfo, f"{prefix}/vehicle_info", qos.SENT_ONCE)
        subscribe = node.create_subscription
        self.commands = subscribe(CarlaEgoVehicleControl, f"{prefix}/vehicle_control_cmd", self._on_command, qos.STREAM)
        self._listening = [
            subscribe(CarlaEgoVehicleControl, f"{prefix}/vehicle_control_cmd_manual", self._on_manual, qos.STREAM),
            subscribe(Bool, f"{prefix}/vehicle_control_manual_override", self._on_override, qos.ROUTE),
            subscribe(Bool, f"{prefix}/enable_autopilot", self._on_autopilot, qos.STREAM),
        ]

    def introduce(self) -> None:
        """Publish vehicle_info, once."""
        self._info.publish(build.vehicle_info_message(self._world.vehicle, self._role))

    def restart(self, now: float) -> None:
        """A new episode begins at simulated time `now` [s]: no command is held."""
        self.control.restart(now)
        if self._autopilot is not None:
            self._autopilot = Autopilot(self._world)

    def publish(self, tick: build.Tick, frame: WorldFrame) -> None:
        """Publish vehicle_status."""
        self._now = frame.time
        self._status.publish(build.vehicle_status_message(tick, frame.applied))

    def next_command(self, frame: WorldFrame) -> Command:
        """What drives the tick after this frame."""
        self._warn_of_brake(self._autopilot is None and self.control.timed_out(frame.time))
        held = self.control.take(frame.time)
        return held if self._autopilot is None else self._autopilot.command(frame)

    def _warn_of_brake(self, braking: bool) -> None:
        if braking and not self._braking:
            self._node.get_logger().warning("no vehicle control command within command_timeout: braking")
        self._braking = braking

    def _on_command(self, message: CarlaEgoVehicleControl) -> None:
        self._apply(message, manual=False)

    def _on_manual(self, message: CarlaEgoVehicleControl) -> None:
        self._apply(message, manual=True)

    def _apply(self, message: CarlaEgoVehicleControl, manual: bool) -> None:
        if not all(map(math.isfinite, (message.throttle, message.steer, message.brake))):
            self._node.get_logger().warning(
                f"vehicle control command ignored: throttle {message.throttle}, steer {message.steer},"
                f" brake {message.brake} is not finite"
            )
            return
        if not self.control.command(command_from_control(message), manual, self._now):
            return
        if self._wait is not None and not self._wait.command(EGO_ID):
            self._node.get_logger().warning(
                f"Unexpected vehicle control command received from {EGO_ID}", throttle_duration_sec=1.0
            )

    def _on_override(self, message: Bool) -> None:
        self.control.override = message.data

    def _on_autopilot(self, message: Bool) -> None:
        self._autopilot = Autopilot(self._world) if message.data else None
