"""Diagnostics of a running stack in, what gate and planner say of themselves out, in order of arrival."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from adawm_planner.faults.outcome import Said
from adawm_planner.ros import qos
from adawm_planner.ros.episode_listener import EpisodeListener
from adawm_planner.ros.gate_topics import INACTIVE


class GateListener:
    """Subscribes to /diagnostics on somebody else's node."""

    def __init__(self, node: Node) -> None:
        """Take the node, whose executor calls."""
        self.said: list[Said] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)

    def take(self) -> list[Said]:
        """What was said since the last call."""
        taken, self.said = self.said, []
        return taken

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            said = said_by(status, time.monotonic())
            if said is not None:
                self.said.append(said)


def said_by(status: DiagnosticStatus, at_s: float) -> Said | None:
    """Return what a line of diagnostics, received at `at_s` (monotonic), says; None where it is of something else."""
    values = {each.key: each.value for each in status.values}
    if status.name == "adawm_gate: gate":
        state = values.get("state", status.message.replace(" ", "_"))
        if state == INACTIVE:
            return None  # it judges no frames then
        return Said(at_s, "gate", state, values.get("rule", ""), status.message)
    if status.name == "adawm_planner: inputs":
        return Said(at_s, "planner", "", values.get("fault0.rule", ""), status.message)
    return None


class NormalListener(EpisodeListener):
    """Hears of episodes and of the gate."""

    def __init__(self) -> None:
        """Join the ROS graph that the environment names."""
        super().__init__()
        self.gate = GateListener(self._node)
