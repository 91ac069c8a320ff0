"""What `adawm drive` hears of the planner: its counters, and every adapter that drove at some time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")

import rclpy
from adawm_msgs.msg import AdapterInfo, PlannerStatus
from rclpy.context import Context

from adawm_planner.ros import qos
from adawm_planner.ros.episode_listener import STATUS_TOPIC, EpisodeListener
from tests.patience import HANG_S
from tests.ros.stub_bridge import DOMAIN

pytestmark = pytest.mark.ros


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[EpisodeListener]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    listener = EpisodeListener()
    yield listener
    listener.close()


def test_every_adapter_that_drove_is_named_once_in_order(context: Context, listener: EpisodeListener) -> None:
    planner = rclpy.create_node("planner", context=context)
    status = planner.create_publisher(PlannerStatus, STATUS_TOPIC, qos.STATUS)
    first, second = (
        AdapterInfo(name=name, digest=digest * 64) for name, digest in (("dynamics", "a"), ("policy", "b"))
    )
    active = ([], [first], [first, second], [second])

    def hear(frames: int) -> None:
        end = time.monotonic() + HANG_S
        while listener.report is None or listener.report.frames != frames:
            assert time.monotonic() < end
            status.publish(PlannerStatus(frames=frames, adapters=active[frames]))
            listener.spin(0.05)

    for frames in range(len(active)):
        hear(frames)
    assert listener.adapters == [f"dynamics-{'a' * 12}", f"policy-{'b' * 12}"]
    planner.destroy_node()
