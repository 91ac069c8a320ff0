"""The planner as its own process: starts by itself, ends cleanly on signals, and never imports torch."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import HANG_S

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from adawm_msgs.msg import PlannerStatus
from rclpy.context import Context
from rclpy.node import Node

from adawm_planner.ros import qos
from adawm_planner.ros.lifecycle import REFUSED
from tests.ros.spinner import end
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


def is_driven(bench: Bench, bridge: StubBridge) -> bool:
    """Whether frames are answered by driving; the first ones find a planner that still waits for route or vehicle."""
    reasons: list[str] = []
    bridge.create_subscription(
        PlannerStatus, "/adawm_planner/status", lambda status: reasons.append(status.reason), qos.STATUS
    )
    end = time.monotonic() + HANG_S
    for k in itertools.count(1):
        before = len(bridge.commands)
        bridge.publish_world(k)
        bridge.publish_frame(k)
        assert bench.spin_until(lambda before=before: len(bridge.commands) > before)
        if bridge.commands[-1].throttle > 0.0:
            return True
        if time.monotonic() > end:
            print(f"frame {k} and all before are braked for: {reasons[-1:]}")
            break
        bench.spin_for(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_the_vehicle_braking_and_exits_with_zero(context: Context, number: signal.Signals) -> None:
    planner = start("-p", "use_map:=false")
    bridge = StubBridge("ego_vehicle", context)
    bench = Bench(context, Node("idle", context=context), bridge)
    try:
        bench.connect()
        bridge.publish_vehicle()
        bridge.publish_route(1000)
        assert is_driven(bench, bridge)
        driven = len(bridge.commands)
        planner.send_signal(number)
        assert bench.spin_until(lambda: len(bridge.commands) > driven)
        assert bridge.commands[-1].brake > 0.0 and bridge.commands[-1].throttle == 0.0
        output, _ = planner.communicate(timeout=HANG_S)
    finally:
        end(planner)
        bench.close()
    assert planner.returncode == 0, output
    assert "Traceback" not in output


def test_refused_start_is_one_line_and_an_exit_status_of_its_own() -> None:
    refused = {
        ("-p", "fault_brake:=3.0"): "fault_brake",
        ("-p", "fault_brak:=0.5"): "unknown parameter fault_brak, did you mean fault_brake?",
        ("-p", "role_name:='1a'"): "role_name is '1a', must be a letter or underscore",
        ("-p", "control_topic:='a b'"): "control_topic is 'a b', must be empty or the name of a topic",
        ("--params-file", "nope.yaml"): "nope.yaml",
        ("--no-such-flag",): "--no-such-flag",
    }
    started = [(start(*arguments), words) for arguments, words in refused.items()]
    for planner, words in started:
        try:
            output, _ = planner.communicate(timeout=HANG_S)
        finally:
            end(planner)
        assert planner.returncode == REFUSED and words in output and "Traceback" not in output, output
        ours = [line for line in output.strip().splitlines() if "[rcl]" not in line]
        assert len(ours) == 1, output


def test_import_closure_has_no_torch() -> None:
    code = "import sys, adawm_planner.ros.planner_node; print('torch' in sys.modules, 'libsumo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
