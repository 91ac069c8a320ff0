"""The end of a lifecycle node's process: its last braking command leaves, whatever ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.patience import HANG_S

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from carla_msgs.msg import CarlaEgoVehicleControl
from rclpy.context import Context
from rclpy.node import Node

from adawm_planner.ros import convert, lifecycle, qos
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC
from tests.ros.spinner import end
from tests.ros.stub_bridge import DOMAIN, FRAME_NS, Bench, StubBridge
from tests.ros.test_watched_node import Recorder

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def node(context: Context) -> Iterator[Recorder]:
    node = Recorder(context)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


def spin(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spin the node into an error of ours."""
    monkeypatch.setattr(lifecycle.rclpy, "ok", lambda: True)
    executor = Mock(spin_once=Mock(side_effect=RuntimeError("in a callback")))
    lifecycle._spin(node, executor, Mock(is_set=False))


def test_an_error_in_a_callback_shuts_the_node_down_and_ends_it(
    node: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="in a callback"):
        spin(node, monkeypatch)
    assert node.calls == ["open 1", "start", "stop", "close"]


def test_a_shutdown_that_fails_too_does_not_hide_the_first_error(
    node: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutdown = Mock(side_effect=OSError("in the shutdown"))
    monkeypatch.setattr(node, "trigger_shutdown", shutdown)
    with pytest.raises(RuntimeError, match="in a callback"):
        spin(node, monkeypatch)
    shutdown.assert_called_once_with()


def test_a_node_that_was_shut_down_by_request_ends_and_is_not_shut_down_again(
    node: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.trigger_shutdown()
    monkeypatch.setattr(lifecycle.rclpy, "ok", lambda: True)
    executor = Mock(spin_once=Mock(side_effect=AssertionError("it spins on")))
    lifecycle._spin(node, executor, Mock(is_set=False))
    assert node.calls == ["open 1", "start", "stop", "close"]


def test_a_gate_that_ends_with_an_error_brakes_with_its_last_command(context: Context) -> None:
    command = [sys.executable, "-m", "tests.ros.failing_gate"]
    env = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}
    gate = subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    bridge = StubBridge("ego_vehicle", context)
    proposals = bridge.create_publisher(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM)
    bench = Bench(context, Node("idle", context=context), bridge)
    try:
        bench.connect()
        assert bench.spin_until(lambda: proposals.get_subscription_count() > 0)
        bridge.publish_vehicle()
        bridge.publish_route(length=400)
        bench.spin_for(0.3)
        for k in range(1, 200):  # the gate may find the bridge later than the bridge finds the gate
            bridge.publish_frame(k)
            proposals.publish(CarlaEgoVehicleControl(header=convert.make_header(k * FRAME_NS, "map"), throttle=0.25))
            bench.spin_for(0.05)
            if bridge.commands and bridge.commands[-1].throttle > 0.0:
                break
        assert bridge.commands[-1].throttle > 0.0
        proposals.publish(CarlaEgoVehicleControl(gear=7))
        assert bench.spin_until(lambda: gate.poll() is not None and bridge.commands[-1].brake == 1.0), "full brake"
        output, _ = gate.communicate(timeout=HANG_S)
    finally:
        end(gate)
        bench.close()
    assert gate.returncode == 1 and "RuntimeError: planted" in output
