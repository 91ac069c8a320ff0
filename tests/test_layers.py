"""Who may import whom: read from the sources, and seen in the modules that an interpreter really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adawm_planner"
ROS_PACKAGES = {"rclpy", "launch", "launch_ros", "tf2_ros", "builtin_interfaces", "rcl_interfaces", "std_srvs"}
TRAINING_PACKAGES = {"torch", "peft", "transformers", "tensorboard"}
NODES = {
    "adawm_planner.ros.planner_node": TRAINING_PACKAGES | {"libsumo", "carla"},
    "adawm_planner.ros.gate_node": TRAINING_PACKAGES | {"libsumo", "carla", "onnxruntime", "cv2", "gymnasium"},
    "adawm_planner.ros.sim_bridge_node": TRAINING_PACKAGES,
    "adawm_planner.ros.finetuner_node": TRAINING_PACKAGES | {"libsumo", "carla"},
}
"""Node -> what must not be loaded when it is imported; the finetuner trains in a process of its own."""

DRIVERS = ("adawm_planner.ros.planner_node", "adawm_planner.ros.sim_bridge_node")

STORAGE = ("captured", "chunk", "replay_store", "episodes", "messages", "supervisor")
"""Modules of finetuning that keep experience and a worker: they run where nothing but numpy is at hand."""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """Absolute names imported anywhere in a module, functions included; type checking excluded."""
    tree = ast.parse(SOURCES[module].read_text())
    typing_only = {id(inner) for block in ast.walk(tree) if is_type_checking(block) for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def closure(start: str) -> set[str]:
    """All modules of the package that `start` imports, directly or not, at start-up or in a function."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += [name for name in imports(module) if name in SOURCES]
    return seen


def is_ros(name: str) -> bool:
    top = name.split(".")[0]
    return top in ROS_PACKAGES or top.endswith(("_msgs", "_waypoint_types"))


def loaded_after(code: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter after running code."""
    command = [
        sys.executable,
        "-c",
        f"{code}\nimport sys\nprint(' '.join(sorted({{n.split('.')[0] for n in sys.modules}})))",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_reader_sees_imports_inside_functions_and_follows_them() -> None:
    assert {"adawm_planner.paths", "adawm_planner.cli.options"} <= closure("adawm_planner.cli.doctor")
    assert len(SOURCES) > 30


@pytest.mark.parametrize("module", [name for name in SOURCES if not name.startswith("adawm_planner.ros.")])
def test_only_ros_imports_ros(module: str) -> None:
    assert [name for name in imports(module) if is_ros(name)] == []


def test_everything_outside_ros_loads_without_ros() -> None:
    outside = [name for name in SOURCES if not name.startswith("adawm_planner.ros.") and not name.endswith("__main__")]
    code = "import sys\nsys.modules['rclpy'] = None\n" + "\n".join(f"import {name}" for name in outside)
    loaded = loaded_after(code)
    assert "adawm_planner" in loaded
    assert not [name for name in loaded - {"rclpy"} if is_ros(name)]


@pytest.mark.parametrize("node", NODES)
def test_nothing_a_node_can_reach_names_a_training_package(node: str) -> None:
    reached = closure(node)
    guilty = {
        (module, name)
        for module in reached
        for name in imports(module)
        if name.split(".")[0] in NODES[node] & TRAINING_PACKAGES
    }
    assert guilty == set()


@pytest.mark.ros
@pytest.mark.parametrize("node", NODES)
def test_importing_a_node_loads_no_training_package(node: str) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("adawm_msgs")
    loaded = loaded_after(f"import {node}")
    assert "rclpy" in loaded
    assert loaded & NODES[node] == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("adawm_planner.runtime.")])
def test_runtime_knows_nothing_of_adaptation(module: str) -> None:
    assert not [name for name in imports(module) if name.startswith("adawm_planner.adaptation")]


def test_simulator_and_planner_meet_only_through_topics() -> None:
    reached = closure("adawm_planner.ros.planner_node")
    assert not [module for module in reached for name in imports(module) if name.split(".")[0] == "libsumo"]
    assert not [module for module in reached if module.startswith("adawm_planner.simulator")]
    for module in (name for name in SOURCES if name.startswith("adawm_planner.simulator.")):
        assert not [
            name for name in imports(module) if name.split(".")[1:2] in (["runtime"], ["world_model"], ["policy"])
        ]


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("adawm_planner.adapters.")])
def test_adapters_are_checked_without_what_makes_them(module: str) -> None:
    """A vehicle checks bundles: nothing that trains, simulates or evaluates is reached from there."""
    makers = {"adaptation", "pretraining", "policy", "world_model", "simulator", "evaluation", "ros", "cli"}
    for reached in closure(module):
        assert not [name for name in imports(reached) if name.split(".")[0] in TRAINING_PACKAGES], reached
        assert reached.split(".")[1:2] == [] or reached.split(".")[1] not in makers, reached


def test_storing_experience_needs_no_more_than_numpy() -> None:
    stored = [f"adawm_planner.finetuning.{name}" for name in STORAGE]
    reached = {name.split(".")[0] for module in stored for each in closure(module) for name in imports(each)}
    third_party = reached - set(sys.stdlib_module_names) - {"adawm_planner", "numpy", "yaml"}
    assert third_party == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("adawm_planner.safety.")])
def test_safety_needs_no_more_than_numpy_and_nothing_of_the_planners_model(module: str) -> None:
    reached = closure(module)
    third_party = {name.split(".")[0] for each in reached for name in imports(each)} - set(sys.stdlib_module_names)
    assert third_party <= {"adawm_planner", "numpy"}
    own = {name.split(".")[1] for name in reached if "." in name}
    assert own <= {"safety", "angles", "config", "control", "data_types", "dims", "observation"}


@pytest.mark.parametrize("node", DRIVERS)
def test_finetuning_is_out_of_the_drivers_reach(node: str) -> None:
    assert not [module for module in closure(node) if module.startswith("adawm_planner.finetuning")]


@pytest.mark.parametrize("module", [name for name in SOURCES if not name.startswith("adawm_planner.cli.")])
def test_only_commands_import_commands(module: str) -> None:
    assert not [name for name in imports(module) if name.startswith("adawm_planner.cli")]
