"""The embedded stand-in of carla_ros_bridge as a ROS 2 node: decides when the world may tick.

Thin on purpose: rules of the handshake are in simulator/handshake.py, topics in bridge_loop.py. See
docs/sim_bridge.md.
"""

from __future__ import annotations

import sys
import time

import rclpy
from carla_msgs.msg import CarlaControl
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from adawm_planner.dims import FRAME_S
from adawm_planner.ros import qos
from adawm_planner.ros.bridge_loop import BridgeLoop
from adawm_planner.ros.bridge_parameters import BridgeSettings, read_settings
from adawm_planner.ros.lifecycle import POLL_S, START_ERRORS, StopFlag, refuse, start_ros
from adawm_planner.simulator.actors import EGO_ID
from adawm_planner.simulator.handshake import COMMAND_WAIT_S, RunState
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World

CLIENT_SETTLE_S = 0.2
"""How long a client that has just appeared may take for the rest of its topics [s]."""

CALLBACKS_PER_FRAME = 8
"""Callbacks handled between two frames when nothing is waited for."""


class SimBridgeNode(Node):
    """Steps the world frame by frame; the callbacks run only between two frames."""

    def __init__(self, stop: StopFlag) -> None:
        """Read the parameters, open the world and the topics.

        Raises:
            ValueError: a parameter, the task, the vehicle or the net is wrong.
        """
        super().__init__("sim_bridge")
        self.settings: BridgeSettings = read_settings(self)
        self._stop = stop
        self.world = World(load_task(self.settings.task), load_vehicle(self.settings.vehicle))
        self.loop = BridgeLoop(self, self.world, self.settings)
        self._run_state = RunState()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        if self.settings.synchronous_mode:
            self.create_subscription(CarlaControl, "/carla/control", self._on_control, qos.STREAM)

    def run(self) -> None:
        """Drive all episodes, then stand still until a signal comes."""
        while not self._stop.is_set and not self.loop.episodes.all_begun:
            self._await_client()
            self._episode()
        self.loop.publish_done()
        while not self._stop.is_set:
            self._executor.spin_once(timeout_sec=POLL_S)

    def close(self) -> None:
        """End world and node."""
        self.world.close()
        self._executor.remove_node(self)
        self.destroy_node()

    def _episode(self) -> None:
        """One episode from its first frame to its score, or without end."""
        if not self._may_tick():
            return
        due = time.monotonic()
        self.loop.wait.restart()
        self._before_tick()
        self.loop.begin()
        while not self._stop.is_set:
            due = self._after_tick(due)
            if not self._may_tick():
                return
            self._before_tick()
            self.loop.tick()
            if self.loop.finish() and self.settings.reset_at_end:
                # The last frame is answered like any other, else its command would count for the next episode.
                self._after_tick(due)
                return

    def _before_tick(self) -> None:
        if self.settings.waits:
            self.loop.wait.fill([EGO_ID])

    def _after_tick(self, due: float) -> float:
        """Let the callbacks run: until the command is there, or for a moment, or to the frame's end in real time."""
        if self.settings.waits:
            self._await_command()
        else:
            for _ in range(CALLBACKS_PER_FRAME):
                self._executor.spin_once(timeout_sec=0.0)
        if not self.settings.paced:
            return due
        due = max(due + FRAME_S, time.monotonic() - FRAME_S)
        self._spin_until(due)
        return due

    def _await_command(self) -> None:
        """Wait for the frame's command, 1 s at most."""
        wait, limit = self.loop.wait, time.monotonic() + COMMAND_WAIT_S
        while not wait.over and not self._stop.is_set and (left := limit - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=min(left, POLL_S))
        missing = wait.end()
        if missing and not self._stop.is_set:
            names = ", ".join(map(str, missing))
            self.get_logger().warning(
                f"Timeout ({COMMAND_WAIT_S:g}s) while waiting for vehicle control commands. Missing command from"
                f" actor ids [{names}]"
            )

    def _await_client(self) -> None:
        """Before an episode in lock-step: wait for a client, so that no frame lacks a command for want of one."""
        limit = time.monotonic() + self.settings.start_timeout
        if not self.settings.waits:
            return
        self.loop.activate_actors()
        if self.loop.has_client():
            return
        while not self.loop.has_client() and not self._stop.is_set:
            if time.monotonic() >= limit:
                self.get_logger().warning(
                    f"no client within start_timeout ({self.settings.start_timeout:g} s): starting"
                )
                return
            self._executor.spin_once(timeout_sec=0.05)
        self._spin_until(time.monotonic() + CLIENT_SETTLE_S)

    def _may_tick(self) -> bool:
        """Wait while the world is paused; false when the node is to stop instead."""
        announced = False
        while not self._run_state.may_tick():
            if self._stop.is_set:
                return False
            if not announced:
                self.loop.publish_status(running=False)
                announced = True
            self._executor.spin_once(timeout_sec=POLL_S)
        return True

    def _spin_until(self, due: float) -> None:
        while not self._stop.is_set and (left := due - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=min(left, POLL_S))

    def _on_control(self, message: CarlaControl) -> None:
        try:
            self._run_state.put(message.command)
        except ValueError as error:
            self.get_logger().warning(f"/carla/control: {error}")


def main(args: list[str] | None = None) -> None:
    """Run the bridge until SIGINT or SIGTERM."""
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the bridge; REFUSED when it cannot start, with one line that says why."""
    stop = StopFlag()
    try:
        start_ros(args)
        node = SimBridgeNode(stop)
    except START_ERRORS as error:
        return refuse(error)
    try:
        node.run()
    finally:
        node.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    main()
