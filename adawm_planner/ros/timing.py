"""Stages in, what is told of them out: values for the diagnostics, histograms on ~/timing while somebody listens."""

from __future__ import annotations

from array import array
from typing import Any

from adawm_msgs.msg import StageTimes, Timing
from rclpy.lifecycle import LifecycleNode

from adawm_planner.ros import qos
from adawm_planner.runtime.stages import GROWTH, LEAST_S, Durations, Stages, levels

PLANNER_TIMING_TOPIC = "/adawm_planner/timing"
GATE_TIMING_TOPIC = "/adawm_gate/timing"


class TimingTopic:
    """A node's ~/timing."""

    def __init__(self, node: LifecycleNode) -> None:
        """Open the topic."""
        self._node = node
        self._publisher = node.create_publisher(Timing, "~/timing", qos.STATUS)

    def publish(self, stages: Stages) -> None:
        """Tell everything that was counted, if somebody listens."""
        if self._publisher.get_subscription_count() > 0:
            self._publisher.publish(timing_message(stages, self._node.get_clock().now().to_msg()))

    def destroy(self) -> None:
        """Close the topic."""
        self._node.destroy_publisher(self._publisher)


def stage_values(stages: Stages) -> dict[str, str]:
    """Levels and maximum of every stage that was measured since the node was configured, as values of a diagnostic."""
    values = {}
    for stage, durations in stages.durations().items():
        if durations.counts:
            for name, seconds in levels(durations).items():
                values[f"{stage}_{name}_ms"] = f"{1e3 * seconds:.3f}"
    return values


def timing_message(stages: Stages, stamp: Any) -> Timing:
    """All histograms as they go over the wire."""
    message = Timing(least=LEAST_S, growth=GROWTH, stages=[_stage(*one) for one in stages.durations().items()])
    message.header.stamp = stamp
    return message


def durations_from(message: Timing) -> dict[str, Durations]:
    """Read the histograms, by stage.

    Raises:
        ValueError: their buckets are not those of this version, or a histogram contradicts itself.
    """
    if (message.least, message.growth) != (LEAST_S, GROWTH):
        raise ValueError(
            f"timing has buckets from {message.least:g} s that grow by {message.growth:g}, must be {LEAST_S:g} s and "
            f"{GROWTH:g}: its node is of another version"
        )
    return {one.stage: _durations(one) for one in message.stages}


def _stage(name: str, durations: Durations) -> StageTimes:
    return StageTimes(
        stage=name,
        sum=durations.sum_s,
        max=durations.max_s,
        buckets=array("H", durations.counts.keys()),
        counts=array("Q", durations.counts.values()),
    )


def _durations(one: StageTimes) -> Durations:
    buckets, counts = list(one.buckets), list(one.counts)
    if len(buckets) != len(counts) or buckets != sorted(set(buckets)) or 0 in counts:
        raise ValueError(
            f"timing of stage '{one.stage}': {len(buckets)} buckets, {len(counts)} counts, or not ascending"
        )
    return Durations(dict(zip(buckets, counts, strict=True)), one.sum, one.max)
