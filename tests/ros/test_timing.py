"""Stages over the wire: the same histograms come out, and what cannot be a histogram is refused."""

from __future__ import annotations

from array import array

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")

import rclpy
from adawm_msgs.msg import Timing
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message

from adawm_planner.ros import qos
from adawm_planner.ros.timing import TimingTopic, durations_from, stage_values, timing_message
from adawm_planner.runtime.stages import Stages

pytestmark = pytest.mark.ros
STAMP = Timing().header.stamp


def stages() -> Stages:
    made = Stages(("receive", "gate"))
    for milliseconds in (1.0, 2.0, 2.0, 50.0):
        made.add("receive", 1e-3 * milliseconds)
    return made


def test_histograms_survive_the_wire() -> None:
    made = stages()
    message = deserialize_message(serialize_message(timing_message(made, STAMP)), Timing)
    assert durations_from(message) == made.durations()


@pytest.mark.parametrize(("buckets", "counts"), [([1, 2], [1]), ([2, 1], [1, 1]), ([1, 1], [1, 1]), ([1, 2], [1, 0])])
def test_what_is_no_histogram_is_refused_by_its_stage(buckets: list[int], counts: list[int]) -> None:
    message = timing_message(stages(), STAMP)
    message.stages[0].buckets, message.stages[0].counts = array("H", buckets), array("Q", counts)
    with pytest.raises(ValueError, match="stage 'receive'"):
        durations_from(message)


def test_buckets_of_another_version_are_refused() -> None:
    message = timing_message(stages(), STAMP)
    message.growth = 1.5
    with pytest.raises(ValueError, match="grow by 1.5.*another version"):
        durations_from(message)


def test_diagnostics_have_the_levels_of_what_was_measured() -> None:
    values = stage_values(stages())
    assert list(values) == [f"receive_{level}_ms" for level in ("p50", "p99", "p99.9", "max")]
    assert float(values["receive_p50_ms"]) == pytest.approx(2.0, rel=0.01)
    assert values["receive_max_ms"] == "50.000"


def test_a_node_tells_its_stages_to_who_listens(context: Context) -> None:
    node = rclpy.create_node("adawm_gate", context=context)
    topic, heard, made = TimingTopic(node), list[Timing](), stages()
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(Timing, "/adawm_gate/timing", heard.append, qos.STATUS)
    for _ in range(100):
        topic.publish(made)
        executor.spin_once(timeout_sec=0.1)
        if heard:
            break
    assert durations_from(heard[0]) == made.durations()
    topic.destroy()
    assert node.count_publishers("/adawm_gate/timing") == 0
