"""A node's command line: what rcl would leave unread is refused, and a usage is there for who asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adawm_planner.processes import module_command
from adawm_planner.ros.arguments import refuse_strays, strays
from adawm_planner.ros.node_table import FINETUNER, GATE, PLANNER, SIM_BRIDGE, NodeSpec, command
from tests.patience import HANG_S

ROOT = Path(__file__).resolve().parents[2]
NODES = (PLANNER, GATE, FINETUNER, SIM_BRIDGE)
CONFIG_STATUS = 78


def start(node: NodeSpec, *words: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("rclpy")
    pytest.importorskip("carla_msgs.msg")
    called = [sys.executable, "-m", node.module, *words]
    return subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.mark.parametrize(
    ("words", "outside"),
    [
        ([], []),
        (["--ros-args"], []),
        (["--ros-args", "-p", "a:=1", "--ros-args", "-r", "__node:=x"], []),
        (["--ros-args", "-p", "a:=1", "--", "--ros-args", "--log-level", "debug", "--"], []),
        (["--ros-args", "-p", "a:=1", "--", "b:=2"], ["b:=2"]),
        (["b:=2", "--ros-args", "-p", "a:=1"], ["b:=2"]),
        (["--", "-h"], ["--", "-h"]),
    ],
)
def test_all_that_stands_outside_ros_args_is_found(words: list[str], outside: list[str]) -> None:
    assert strays(words) == outside


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_the_stacks_own_command_lines_have_nothing_outside(node: NodeSpec) -> None:
    words = command(node, ["shipped.yaml", "chosen.yaml"])
    assert strays(words[len(module_command("node")) :]) == []


@pytest.mark.parametrize(
    ("found", "call"),
    [
        (["role_name:=hero", "use_gate:=true"], "`--ros-args -p role_name:=hero -p use_gate:=true`"),
        (["-p", "role_name:=hero"], "`--ros-args -p role_name:=hero`"),
        (["vehicle_id:=my car"], "`--ros-args -p 'vehicle_id:=my car'`"),
        (["__node:=other", "foo"], "`--ros-args -p NAME:=VALUE`"),
    ],
)
def test_the_right_call_is_named(found: list[str], call: str) -> None:
    with pytest.raises(ValueError, match="is not understood") as refused:
        refuse_strays(found)
    assert str(refused.value).endswith(call)


@pytest.mark.ros
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_a_parameter_without_ros_args_is_refused_in_one_line(node: NodeSpec) -> None:
    done = start(node, "role_name:=hero", "--ros-args", "-p", "autostart:=false")
    assert done.returncode == CONFIG_STATUS == os.EX_CONFIG
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1), done.stderr
    assert "start refused: role_name:=hero" in done.stderr and "--ros-args -p role_name:=hero" in done.stderr


@pytest.mark.ros
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_help_is_printed_and_nothing_started(node: NodeSpec) -> None:
    done = start(node, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {node.executable} [--ros-args")
