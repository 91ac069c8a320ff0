"""The planner as its own process: starts by itself, ends cleanly on signals, and never imports torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from rclpy.context import Context
from rclpy.node import Node

from tests.ros.stub_bridge import DOMAIN, Bench, StubBridge

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ros.fake_planner", "--ros-args", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_driven(bench: Bench, bridge: StubBridge, number: int) -> bool:
    """Whether a frame is answered by driving."""
    before = len(bridge.commands)
    bridge.publish_frame(number)
    assert bench.spin_until(lambda: len(bridge.commands) > before)
    return bool(bridge.commands[-1].throttle > 0.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_the_vehicle_braking_and_exits_with_zero(context: Context, number: signal.Signals) -> None:
    planner = start("-p", "use_map:=false")
    bridge = StubBridge("ego_vehicle", context)
    bench = Bench(context, Node("idle", context=context), bridge)
    try:
        bench.connect()
        bridge.publish_world(1)
        bridge.publish_vehicle()
        bridge.publish_route()
        assert any(is_driven(bench, bridge, k) for k in range(1, 20)), "it brakes for a frame that comes in pieces"
        driven = len(bridge.commands)
        planner.send_signal(number)
        assert bench.spin_until(lambda: len(bridge.commands) > driven)
        assert bridge.commands[-1].brake > 0.0 and bridge.commands[-1].throttle == 0.0
        output, _ = planner.communicate(timeout=20)
    finally:
        planner.kill()
        bench.close()
    assert planner.returncode == 0, output
    assert "Traceback" not in output


def test_refused_parameter_ends_with_one_line() -> None:
    planner = start("-p", "fault_brake:=3.0")
    output, _ = planner.communicate(timeout=30)
    assert planner.returncode == 1 and "fault_brake" in output and "Traceback" not in output


def test_import_closure_has_no_torch() -> None:
    code = "import sys, adawm_planner.ros.planner_node; print('torch' in sys.modules, 'libsumo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
