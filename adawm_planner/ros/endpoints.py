"""rclpy's endpoint descriptions in, diagnosis/graph.py's out."""

from __future__ import annotations

import math
from typing import Any

from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from adawm_planner.diagnosis.graph import Endpoint, Quality

NEVER_NS = 9_000_000_000_000_000_000
"""Period from which on a policy asks for nothing [ns]: 285 years; the middleware tells 2**63 - 1, or 0."""


def endpoint(topic: str, info: TopicEndpointInfo, publishes: bool) -> Endpoint:
    """What the graph tells of one endpoint."""
    told = getattr(info, "topic_type_hash", None)  # absent before Jazzy
    text = "" if told is None or str(told).startswith("INVALID") else str(told)
    node = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
    return Endpoint(topic, node, publishes, info.topic_type, quality(info.qos_profile), text)


def quality(profile: QoSProfile) -> Quality:
    """The policies of a profile that decide about a match."""
    return Quality(
        reliable=profile.reliability != ReliabilityPolicy.BEST_EFFORT,
        lasting=profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        deadline_s=_period(profile.deadline),
        manual=profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC,
        lease_s=_period(profile.liveliness_lease_duration),
    )


def _period(duration: Any) -> float:
    """Seconds of a policy's period, infinite where none is set."""
    ns = duration.nanoseconds
    return math.inf if ns <= 0 or ns >= NEVER_NS else ns * 1e-9
