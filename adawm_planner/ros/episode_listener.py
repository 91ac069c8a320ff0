"""Live topics of a running stack in, finished episodes and the planner's own account out.

What `adawm drive` sees of the stack; it publishes nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import rclpy
from adawm_msgs.msg import PlannerStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.ros import qos

STATUS_TOPIC = "/adawm_planner/status"
DIGEST_SHOWN = 12
"""Characters of an adapter's digest that name it, as in what `adawm evaluate` writes."""


@dataclass(frozen=True)
class PlannerReport:
    """The planner's own account of the run."""

    digest: str  # of the base model
    provider: str
    reason: str  # why it does not drive, empty while it does
    frames: int
    commands: int
    decisions: int
    missed_ticks: int
    swaps: int
    latency_ms: tuple[float, float, float]  # p50, p99, max

    def to_json(self) -> dict[str, Any]:
        """The "ros" block of adawm.evaluation/1."""
        p50, p99, largest = self.latency_ms
        return {
            "latency_ms": {"p50": p50, "p99": p99, "max": largest},
            "missed_ticks": self.missed_ticks,
            "adapters_swapped": self.swaps,
            "frames": self.frames,
            "commands": self.commands,
            "decisions": self.decisions,
            "provider": self.provider,
        }


class EpisodeListener:
    """Subscribes to the bridge's episodes and the planner's status."""

    def __init__(self) -> None:
        """Join the ROS graph that the environment names; signals stay the caller's."""
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("adawm_drive")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._node.create_subscription(String, qos.EPISODE_TOPIC, self._on_episode, qos.EPISODES)
        self._node.create_subscription(PlannerStatus, STATUS_TOPIC, self._on_status, qos.STATUS)
        self._episodes: list[EpisodeResult] = []
        self.done = False
        self.frames_without_command = 0
        """Frames for which the bridge waited in vain, by its own count."""
        self.adapters: list[str] = []
        """Every adapter that drove, in the order in which they began, by the planner's status (at most 1 s late)."""
        self.report: PlannerReport | None = None
        self.report_at = time.monotonic()
        """When the planner was last heard of; at first, since when it is listened for [s, monotonic]."""

    def spin(self, seconds: float) -> None:
        """Handle what arrives within `seconds` (one message at most)."""
        self._executor.spin_once(timeout_sec=seconds)

    def take(self) -> list[EpisodeResult]:
        """Episodes that ended since the last call."""
        taken, self._episodes = self._episodes, []
        return taken

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _on_episode(self, message: String) -> None:
        values = json.loads(message.data)
        if values.get("done"):
            self.done = True
            return
        self.frames_without_command += values.pop("missed_ticks")
        self._episodes.append(EpisodeResult.from_json(values))

    def _on_status(self, message: PlannerStatus) -> None:
        self.report_at = time.monotonic()
        named = [f"{each.name}-{each.digest[:DIGEST_SHOWN]}" for each in message.adapters]
        self.adapters += [name for name in named if name not in self.adapters]
        self.report = PlannerReport(
            digest=message.base_digest,
            provider=message.provider,
            reason=message.reason,
            frames=message.frames,
            commands=message.commands,
            decisions=message.decisions,
            missed_ticks=message.missed_ticks,
            swaps=message.swaps,
            latency_ms=(message.latency_p50_ms, message.latency_p99_ms, message.latency_max_ms),
        )
