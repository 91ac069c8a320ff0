"""Launch files: their structure everywhere, their meaning where `launch` can be imported."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from adawm_planner.paths import launch_dir
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
    known_parameters,
)
from tests.ros.conftest import context

__all__ = ["context"]
LAUNCH = launch_dir()
FILES = {"sim": "sim.launch.py", "carla": "carla.launch.py", "vehicle": "vehicle.launch.py"}
ALONE = "finetuner.launch.py"
"""Starts no stack: the finetuner for a computer beside the vehicle's."""


@pytest.mark.parametrize("stack", FILES)
def test_file_reads_the_node_table_and_names_no_node_itself(stack: str) -> None:
    tree = ast.parse((LAUNCH / FILES[stack]).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "generate_launch_description" in [function.name for function in functions]
    assert f"STACKS['{stack}']" in ast.unparse(tree)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not texts & {node.executable for node in (*STACKS["sim"], *GUARDS, *SIDECARS)}


@pytest.mark.parametrize("stack", FILES)
def test_a_vehicle_and_only_a_vehicle_believes_nobody_that_the_world_is_paused(stack: str) -> None:
    calls = [node for node in ast.walk(ast.parse((LAUNCH / FILES[stack]).read_text())) if isinstance(node, ast.Call)]
    given = {each.arg: ast.unparse(each.value) for call in calls for each in call.keywords}
    assert given.get("use_world_status") == ("False" if stack == "vehicle" else None)
    assert SETTINGS["use_world_status"].default is True


def test_every_launch_file_is_covered_here() -> None:
    assert sorted(path.name for path in LAUNCH.glob("*.launch.py")) == sorted([*FILES.values(), ALONE])


@pytest.mark.parametrize("node", (*STACKS["sim"], *GUARDS, *SIDECARS), ids=lambda node: node.name)
def test_parameter_file_holds_what_the_settings_do_not(node: NodeSpec) -> None:
    content = yaml.safe_load((LAUNCH / "params" / node.parameter_file).read_text())
    values = content["/**"]["ros__parameters"]
    assert values
    assert not set(values) & set(node.settings)


@pytest.mark.ros
def test_files_show_every_other_parameter_with_its_own_default() -> None:
    pytest.importorskip("rclpy")
    from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
    from adawm_planner.ros.gate_parameters import GATE_PARAMETERS
    from adawm_planner.ros.planner_parameters import PLANNER_PARAMETERS

    for node, table in ((PLANNER, PLANNER_PARAMETERS), (GATE, GATE_PARAMETERS), (FINETUNER, FINETUNER_PARAMETERS)):
        declared = {each.name: each.default for each in table if each.name not in node.settings}
        values = yaml.safe_load((LAUNCH / "params" / node.parameter_file).read_text())["/**"]["ros__parameters"]
        assert values == declared


@pytest.mark.ros
def test_files_tell_of_each_parameter_what_its_descriptor_tells() -> None:
    pytest.importorskip("rclpy")
    from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
    from adawm_planner.ros.gate_parameters import GATE_PARAMETERS
    from adawm_planner.ros.planner_parameters import PLANNER_PARAMETERS

    for node, table in ((PLANNER, PLANNER_PARAMETERS), (GATE, GATE_PARAMETERS), (FINETUNER, FINETUNER_PARAMETERS)):
        lines = (LAUNCH / "params" / node.parameter_file).read_text().splitlines()
        told = {f"{each.name}: ": each.description + (f" [{each.unit}]" if each.unit else "") for each in table}
        for line in (line.strip() for line in lines if line.startswith("    ")):
            assert line.endswith("  # " + told[line[: line.index(": ") + 2]])


@pytest.mark.ros
def test_each_description_can_be_read_by_itself() -> None:
    """`ros2 param describe` shows one, and not the one above it."""
    pytest.importorskip("rclpy")
    from adawm_planner.ros.bridge_parameters import PARAMETERS as BRIDGE_PARAMETERS
    from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
    from adawm_planner.ros.gate_parameters import GATE_PARAMETERS
    from adawm_planner.ros.planner_parameters import PLANNER_PARAMETERS

    backward = re.compile(r"\b(the same\b|such (?!as)|(share|time|rise) of (it|them|that)\b)")
    for table in (PLANNER_PARAMETERS, GATE_PARAMETERS, FINETUNER_PARAMETERS, BRIDGE_PARAMETERS):
        assert [each.name for each in table if backward.search(each.description)] == []


@pytest.mark.ros
def test_every_setting_is_a_parameter_of_its_node() -> None:
    pytest.importorskip("rclpy")
    from adawm_planner.ros.bridge_parameters import PARAMETERS as BRIDGE_PARAMETERS
    from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
    from adawm_planner.ros.gate_parameters import GATE_PARAMETERS
    from adawm_planner.ros.planner_parameters import PLANNER_PARAMETERS

    tables = (
        (PLANNER, PLANNER_PARAMETERS),
        (GATE, GATE_PARAMETERS),
        (SIM_BRIDGE, BRIDGE_PARAMETERS),
        (FINETUNER, FINETUNER_PARAMETERS),
    )
    for node, table in tables:
        declared = {each.name: each for each in table}
        for name in set(node.settings) - {"use_sim_time"}:  # which rclpy declares itself
            assert declared[name].type is SETTINGS[name].kind, name
            assert declared[name].default == SETTINGS[name].default, name
    bridge = yaml.safe_load((LAUNCH / "params" / SIM_BRIDGE.parameter_file).read_text())["/**"]["ros__parameters"]
    problems = [each.problem(bridge[each.name]) for each in BRIDGE_PARAMETERS if each.name in bridge]
    assert problems == [None] * len(bridge)
    assert known_parameters() == {each.name for _, table in tables for each in table} | {"use_sim_time"}


def test_rviz_shows_the_planners_own_topics_with_the_durability_they_have() -> None:
    displays = yaml.safe_load((LAUNCH / "rviz" / "adawm.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {each["Topic"]["Value"]: each["Topic"]["Durability Policy"] for each in displays if "Topic" in each}
    assert {"/adawm_planner/plan", "/adawm_planner/bev", "/adawm_planner/imagined"} <= set(topics)
    assert topics["/carla/ego_vehicle/waypoints"] == "Transient Local"


@pytest.mark.ros
@pytest.mark.parametrize("stack", FILES)
def test_description_starts_each_node_with_its_typed_settings(stack: str) -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import Node
    from launch_ros.utilities import evaluate_parameters

    from adawm_planner.ros.launch_actions import leave_to_the_gate

    description = runpy.run_path(str(LAUNCH / FILES[stack]))["generate_launch_description"]()
    context = LaunchContext()
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    nodes = [entity for entity in description.entities if isinstance(entity, Node) and entity.condition is None]
    assert [node.node_executable for node in nodes] == [node.executable for node in STACKS[stack]]
    for node, spec in zip(nodes, STACKS[stack], strict=True):
        _, settings = evaluate_parameters(context, node._Node__parameters)
        assert set(settings) == set(spec.settings)
        for name, value in settings.items():
            assert type(value) is SETTINGS[name].kind, name
        if "use_sim_time" in settings:
            assert settings["use_sim_time"] is (stack != "vehicle")
        if "use_world_status" in settings:
            assert settings["use_world_status"] is (stack != "vehicle")
    beside = [entity for entity in description.entities if isinstance(entity, Node) and entity.condition is not None]
    beside = [node for node in beside if node.node_executable != "rviz2"]
    between, beside = beside[: len(GUARDS)], beside[len(GUARDS) :]
    assert [node.node_executable for node in between] == [node.executable for node in GUARDS]
    assert all(node.condition.evaluate(context) for node in between)
    for node, spec in zip(between, GUARDS, strict=True):
        _, settings = evaluate_parameters(context, node._Node__parameters)
        assert set(settings) == set(spec.settings)
        assert settings["use_world_status"] is (stack != "vehicle")
        assert settings["await_planner"] is settings["release_on_new_episode"] is (stack == "sim")
        assert settings["wait_s"] == (0.8 if stack == "sim" else 0.2)
    assert nodes[0].node_executable == PLANNER.executable
    assert nodes[0]._ExecuteLocal__on_exit is leave_to_the_gate
    assert all(node._ExecuteLocal__on_exit is not leave_to_the_gate for node in nodes[1:])
    assert evaluate_parameters(context, nodes[0]._Node__parameters)[1]["use_gate"] is True
    context.launch_configurations["use_gate"] = "false"
    assert not any(node.condition.evaluate(context) for node in between)
    assert [node.node_executable for node in beside] == [node.executable for node in SIDECARS]
    assert not any(node.condition.evaluate(context) for node in beside)
    context.launch_configurations["finetuner"] = "true"
    assert all(node.condition.evaluate(context) for node in beside)
    for node, spec in zip(beside, SIDECARS, strict=True):
        assert set(evaluate_parameters(context, node._Node__parameters)[1]) == set(spec.settings)


@pytest.mark.ros
def test_the_finetuner_alone_has_every_argument_that_it_has_beside_a_stack() -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import Node
    from launch_ros.utilities import evaluate_parameters

    from adawm_planner.ros.launch_actions import leave_if_refused

    description = runpy.run_path(str(LAUNCH / ALONE))["generate_launch_description"]()
    declared = [each for each in description.entities if isinstance(each, DeclareLaunchArgument)]
    assert {each.name for each in declared} == {*FINETUNER.settings, f"{FINETUNER.name}_params", "namespace"}
    context = LaunchContext()
    for each in declared:
        each.execute(context)
    (node,) = [each for each in description.entities if isinstance(each, Node)]
    assert node.node_executable == FINETUNER.executable and node.condition is None
    assert node._ExecuteLocal__on_exit is leave_if_refused and node._ExecuteLocal__respawn
    _, settings = evaluate_parameters(context, node._Node__parameters)
    assert set(settings) == set(FINETUNER.settings) and settings["use_sim_time"] is False
    assert all(type(value) is SETTINGS[name].kind for name, value in settings.items())


@pytest.mark.ros
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"realtime": "true"}, 0.2),
        ({"realtime": "1"}, 0.2),
        ({"realtime": "false"}, 0.8),
        ({"realtime": "true", "wait_s": "0.1"}, 0.1),
    ],
)
def test_a_simulation_that_is_paced_waits_no_longer_than_a_vehicle(chosen: dict[str, str], expected: float) -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import Node
    from launch_ros.utilities import evaluate_parameters

    description = runpy.run_path(str(LAUNCH / FILES["sim"]))["generate_launch_description"]()
    context = LaunchContext()
    context.launch_configurations.update(chosen)
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    (gate,) = (each for each in description.entities if isinstance(each, Node) and each.node_executable == "gate_node")
    assert evaluate_parameters(context, gate._Node__parameters)[1]["wait_s"] == expected


def _planner_of(stack: str, chosen: dict[str, str]) -> tuple[Any, Any]:
    """The planner that a launch file starts with these arguments, and the context to ask it in."""
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import Node

    description = runpy.run_path(str(LAUNCH / FILES[stack]))["generate_launch_description"]()
    context = LaunchContext()
    context.launch_configurations.update(chosen)
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    nodes = [each for each in description.entities if isinstance(each, Node)]
    return next(each for each in nodes if each.node_executable == PLANNER.executable), context


@pytest.mark.ros
@pytest.mark.parametrize(
    ("chosen", "length", "width"),
    [
        ({}, 4.7, 1.85),
        ({"vehicle": "overloaded"}, 5.2, 2.0),
        ({"vehicle": "heavy", "vehicle.length_m": "4.9"}, 4.9, 2.0),
    ],
)
def test_in_the_simulator_the_planner_is_told_the_size_of_the_vehicle(
    chosen: dict[str, str], length: float, width: float
) -> None:
    pytest.importorskip("launch_ros")
    from launch_ros.utilities import evaluate_parameters

    planner, context = _planner_of("sim", chosen)
    values = evaluate_parameters(context, planner._Node__parameters)[1]
    assert (values["vehicle.length_m"], values["vehicle.width_m"]) == (length, width)


@pytest.mark.ros
def test_a_parameter_file_with_what_a_launch_argument_says_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("launch_ros")
    from launch_ros.utilities import evaluate_parameters

    file = tmp_path / "mine.yaml"
    file.write_text("adawm_planner: {ros__parameters: {vehicle: {length_m: 5.2}}}")
    planner, context = _planner_of("vehicle", {"adawm_planner_params": str(file)})
    with pytest.raises(ValueError, match=r"mine.yaml: vehicle.length_m of adawm_planner would be overridden"):
        evaluate_parameters(context, planner._Node__parameters)


@pytest.mark.ros
@pytest.mark.parametrize(
    ("how", "status", "starts", "ends"),
    [
        ("end_if_refused", 78, 1, True),
        ("leave_if_refused", 78, 1, False),
        ("end_if_refused", 1, 2, False),
        ("leave_if_refused", 1, 2, False),
    ],
)
def test_a_node_that_refuses_its_start_is_not_started_again(
    how: str, status: int, starts: int, ends: bool, tmp_path: Path
) -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchDescription, LaunchService
    from launch.actions import ExecuteProcess, OpaqueFunction, Shutdown, TimerAction

    from adawm_planner.ros import launch_actions
    from adawm_planner.ros.lifecycle import REFUSED

    assert REFUSED == 78
    log, late = tmp_path / "starts", tmp_path / "late"
    command = ["sh", "-c", f"echo >> {log}; exit {status}"]
    node = ExecuteProcess(cmd=command, respawn=True, respawn_delay=0.2, on_exit=getattr(launch_actions, how))
    end = [OpaqueFunction(function=lambda _: late.touch()), Shutdown()]
    service = LaunchService(argv=[])
    service.include_launch_description(LaunchDescription([node, TimerAction(period=2.0, actions=end)]))
    service.run()
    count = len(log.read_text().splitlines())
    assert count == 1 if starts == 1 else count >= starts
    assert late.exists() is not ends


@pytest.mark.ros
@pytest.mark.parametrize(
    ("use_gate", "status", "starts", "ends"),
    [
        ("true", 1, 2, False),
        ("true", -9, 2, False),
        ("true", 78, 1, False),
        ("false", 1, 1, True),
        ("false", 78, 1, True),
    ],
)
def test_a_gate_outlives_its_planner(use_gate: str, status: int, starts: int, ends: bool, tmp_path: Path) -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchDescription, LaunchService
    from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown, TimerAction
    from launch.substitutions import LaunchConfiguration

    from adawm_planner.ros.launch_actions import leave_to_the_gate

    log, late = tmp_path / "starts", tmp_path / "late"
    dies = f"exit {status}" if status >= 0 else f"kill {status} $$"
    planner = ExecuteProcess(
        cmd=["sh", "-c", f"echo >> {log}; {dies}"],
        respawn=LaunchConfiguration("use_gate"),
        respawn_delay=0.2,
        on_exit=leave_to_the_gate,
    )
    end = TimerAction(period=2.0, actions=[OpaqueFunction(function=lambda _: late.touch()), Shutdown()])
    service = LaunchService(argv=[])
    asked = DeclareLaunchArgument("use_gate", default_value=use_gate)
    service.include_launch_description(LaunchDescription([asked, planner, end]))
    service.run()
    count = len(log.read_text().splitlines())
    assert count == 1 if starts == 1 else count >= starts
    assert late.exists() is not ends


def _inputs() -> set[str]:
    """INPUTS of vehicle.launch.py, read without `launch`."""
    tree = ast.parse((LAUNCH / FILES["vehicle"]).read_text())
    given = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "INPUTS"]
    return set(ast.literal_eval(given[0]))


@pytest.mark.ros
def test_the_inputs_that_can_be_renamed_are_all_that_planner_and_gate_read_below_the_role(context: Any) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("adawm_msgs")
    from adawm_planner.ros.gate_node import GateNode
    from adawm_planner.ros.planner_node import PlannerNode
    from tests.runtime.fake_engine import FakeEngine

    below = "/carla/ego_vehicle/"
    read = set()
    for node in (PlannerNode(lambda values: FakeEngine(), context=context), GateNode(context=context)):
        node.trigger_configure()
        topics = [each.topic_name for each in node.subscriptions]
        read |= {name.removeprefix(below) for name in topics if name.startswith(below)}
        node.destroy_node()
    assert read == _inputs()


@pytest.mark.ros
def test_planner_and_gate_take_the_new_name_of_every_input() -> None:
    pytest.importorskip("launch_ros")
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
    from launch_ros.actions import Node

    def text(name: Any) -> str:
        return perform_substitutions(context, normalize_to_list_of_substitutions(name))

    description = runpy.run_path(str(LAUNCH / FILES["vehicle"]))["generate_launch_description"]()
    context = LaunchContext()
    context.launch_configurations.update({name: f"/mine/{name}" for name in _inputs()})
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    wanted = {f"/carla/ego_vehicle/{name}": f"/mine/{name}" for name in _inputs()}
    driving = {node.executable for node in (*STACKS["vehicle"], *GUARDS)}
    nodes = [each for each in description.entities if isinstance(each, Node) and each.node_executable in driving]
    assert len(nodes) == len(driving)
    for node in nodes:
        assert {text(old): text(new) for old, new in node._Node__remappings} == wanted
