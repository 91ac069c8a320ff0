"""Named quality-of-service profiles, one per kind of topic, equal to carla_ros_bridge's own.

Everything is reliable and keep-last: the bridge and its clients never use best effort. What is sent once
is transient-local at both ends, else a late subscriber misses it.
"""

from __future__ import annotations

from typing import Final

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE, durability=durability
    )


STREAM: Final = _profile(10, DurabilityPolicy.VOLATILE)
"""Per-tick topics: odometry, objects, vehicle_status, status, vehicle_control_cmd, collision, images."""

SENT_ONCE: Final = _profile(10, DurabilityPolicy.TRANSIENT_LOCAL)
"""vehicle_info, world_info, map, traffic lights."""

ROUTE: Final = _profile(1, DurabilityPolicy.TRANSIENT_LOCAL)
"""waypoints and manual override: only the newest one counts, also for who comes later."""

EXPERIENCE: Final = _profile(100, DurabilityPolicy.VOLATILE)
"""Experience: a busy finetuner may lag 20 s behind without loss."""

STATUS: Final = _profile(10, DurabilityPolicy.VOLATILE)
"""Own status and diagnostics."""

TRANSFORMS: Final = _profile(100, DurabilityPolicy.VOLATILE)
"""/tf, as tf2's broadcaster offers it."""

EPISODE_TOPIC: Final = "/sim_bridge/episode"
EPISODES: Final = _profile(1000, DurabilityPolicy.TRANSIENT_LOCAL)
"""Scores of finished episodes: a listener that starts late still gets every one."""

ADAPTER: Final = _profile(1, DurabilityPolicy.TRANSIENT_LOCAL)
"""AdapterUpdate: a planner that starts late gets the newest, and never one after the other."""

MISMATCH: Final = _profile(10, DurabilityPolicy.VOLATILE)
"""MismatchReport: one per round, and that of an earlier run's last round once more."""
