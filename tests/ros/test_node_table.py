"""The node table: typed settings, and a command line of this interpreter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from adawm_planner.paths import launch_dir
from adawm_planner.processes import module_command
from adawm_planner.ros.node_table import (
    FINETUNER,
    GATE,
    GUARDS,
    PLANNER,
    SETTINGS,
    SIDECARS,
    SIM_BRIDGE,
    STACKS,
    NodeSpec,
    check_parameter_file,
    command,
    parameter_document,
)


def test_importing_the_table_needs_no_ros() -> None:
    code = "import sys, adawm_planner.ros.node_table; sys.exit('rclpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("node", [PLANNER, GATE, SIM_BRIDGE, FINETUNER], ids=lambda node: node.name)
def test_node_exists_and_its_settings_are_known(node: NodeSpec) -> None:
    assert importlib.util.find_spec(node.module) is not None
    assert set(node.settings) <= set(SETTINGS)


def test_parameters_are_the_chosen_ones_over_the_defaults() -> None:
    document = parameter_document(SIM_BRIDGE, {"task": "left_turn_dense", "seed": 7, "provider": "cpu"})
    values = document["sim_bridge"]["ros__parameters"]
    assert values == {
        "role_name": "ego_vehicle",
        "task": "left_turn_dense",
        "vehicle": "nominal",
        "seed": 7,
        "episodes": 0,
        "realtime": False,
    }


def test_a_parameter_file_may_have_wildcards_and_namespaces(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**: {ros__parameters: {threads: 2}}\nfleet: {adawm_planner: {ros__parameters: {threads: 2}}}\n")
    check_parameter_file(file, PLANNER)
    check_parameter_file(None, PLANNER)
    for node in (PLANNER, GATE, SIM_BRIDGE, FINETUNER):
        check_parameter_file(launch_dir() / "params" / node.parameter_file, node)


@pytest.mark.parametrize(
    "text",
    [
        "/**: {ros__parameters: {vehicle.length_m: 5.2, vehicle.width_m: 2.0}}",
        "adawm_planner: {ros__parameters: {vehicle: {length_m: 5.2, width_m: 2.0}}}",
        "/fleet/adawm_planner: {ros__parameters: {vehicle.length_m: 5.2, vehicle.width_m: 2.0}}",
        "fleet: {'*': {ros__parameters: {vehicle.length_m: 5.2, vehicle.width_m: 2.0}}}",
    ],
)
def test_a_setting_in_a_parameter_file_is_refused_since_it_would_be_overridden(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    told = r"params.yaml: vehicle.length_m, vehicle.width_m of adawm_planner would be overridden"
    with pytest.raises(ValueError, match=told):
        check_parameter_file(file, PLANNER)
    check_parameter_file(file, FINETUNER)  # which has no such setting


@pytest.mark.parametrize("content", ["[1, 2]", "text", "3", "[]"])
def test_parameters_that_are_no_mapping_are_no_parameter_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"adawm_planner: {{ros__parameters: {content}}}\n")
    with pytest.raises(ValueError, match=r"params\.yaml: is no ROS parameter file"):
        check_parameter_file(file, PLANNER)
    file.write_text("adawm_planner: {ros__parameters: }\n")
    check_parameter_file(file, PLANNER)


@pytest.mark.parametrize(("name", "value"), [("seed", True), ("seed", "7"), ("task", 7), ("realtime", 1)])
def test_a_setting_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value!r}, must be of type"):
        SIM_BRIDGE.parameters({name: value})


def test_command_runs_the_module_with_later_files_last() -> None:
    words = command(PLANNER, ["shipped.yaml", "chosen.yaml"])
    assert words[:4] == module_command("adawm_planner.ros.planner_node")
    assert words.index("shipped.yaml") < words.index("chosen.yaml")
    assert "__node:=adawm_planner" in words


def test_the_vehicle_runs_no_simulator() -> None:
    assert SIM_BRIDGE in STACKS["sim"]
    assert all(SIM_BRIDGE not in STACKS[stack] for stack in ("carla", "vehicle"))


def test_the_gate_may_stand_in_every_stack_and_is_part_of_none() -> None:
    assert GUARDS == (GATE,)
    assert all(GATE not in stack for stack in STACKS.values())
    assert {"use_gate", "control_topic"} <= set(PLANNER.settings) and "control_topic" in GATE.settings


def test_no_stack_needs_its_sidecar() -> None:
    assert FINETUNER in SIDECARS
    assert all(not set(SIDECARS) & set(stack) for stack in STACKS.values())
