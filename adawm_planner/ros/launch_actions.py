"""Rows of the node table in, launch arguments and node actions out, for the files in launch/.

Imports `launch` and `launch_ros`, so only a ROS 2 installation that has them can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from launch import Condition, LaunchContext, Substitution
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, Shutdown
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from adawm_planner.paths import launch_dir
from adawm_planner.ros.lifecycle import REFUSED
from adawm_planner.ros.node_table import GUARDS, PLANNER, SETTINGS, SIDECARS, NodeSpec, check_parameter_file
from adawm_planner.simulator.tasks import load_vehicle

PACKAGE = "adawm_planner"
GUARD_RESPAWN_S = 0.1
"""Wait before a gate that ended is started again [s]: nothing reaches the vehicle meanwhile."""

PLANNER_RESPAWN_S = 1.0
"""Wait before a planner that ended is started again [s]: starting over and over would take the gate's processor."""

RESPAWN_S = 5.0
"""Wait before a sidecar that ended is started again [s]."""


class VehicleSize(Substitution):
    """A length of the simulated vehicle, whose preset is the launch argument `vehicle`."""

    def __init__(self, name: str) -> None:
        """`name` is `length` or `width` [m]."""
        super().__init__()
        self._name = name

    def describe(self) -> str:
        """For `--show-args`."""
        return f"the vehicle's {self._name}"

    def perform(self, context: LaunchContext) -> str:
        """Raises ValueError for a preset that cannot be used."""
        preset = load_vehicle(LaunchConfiguration("vehicle").perform(context))
        return str(getattr(preset, self._name))


class CheckedFile(Substitution):
    """The parameter file that a node is given."""

    def __init__(self, node: NodeSpec) -> None:
        """Of this node."""
        super().__init__()
        self._node = node

    def perform(self, context: LaunchContext) -> str:
        """Raises ValueError for one that is none, or that says what only a launch argument can."""
        path: str = LaunchConfiguration(f"{self._node.name}_params").perform(context)
        check_parameter_file(Path(path), self._node)
        return path


def arguments(nodes: Iterable[NodeSpec], **defaults: Any) -> list[DeclareLaunchArgument]:
    """Declare the settings of these nodes as launch arguments, each once.

    Args:
        nodes: rows of the table.
        defaults: by setting, where this launch file's default differs from the table's.
    """
    nodes = list(nodes)
    chosen = {name: defaults.get(name, SETTINGS[name].default) for node in nodes for name in node.settings}
    # What another argument decides can only be declared after it.
    names = sorted(chosen, key=lambda name: isinstance(chosen[name], Substitution))
    declared = [_argument(name, chosen[name]) for name in names]
    files = map(_parameter_file, nodes)
    namespace = DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes' own names")
    return [*declared, *files, namespace]


def _parameter_file(node: NodeSpec) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(
        f"{node.name}_params",
        default_value=str(launch_dir() / "params" / node.parameter_file),
        description=f"parameter file of {node.name}",
    )


def _argument(name: str, default: Any) -> DeclareLaunchArgument:
    if isinstance(default, Substitution):
        return DeclareLaunchArgument(name, default_value=default, description=SETTINGS[name].description)
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return DeclareLaunchArgument(name, default_value=text, description=SETTINGS[name].description)


def drivers(stack: Iterable[NodeSpec], remappings: Sequence[tuple[Any, Any]] = ()) -> list[Node]:
    """Start the nodes of a stack. The launch ends with any but a planner that has a gate.

    The gate brings the vehicle to a stop when the planner dies and holds it, so it must outlive the planner. A planner
    that died is started again, later than the gate's stop is final by default, so that only a release lets it drive.
    One that refuses what it was started with is not, and the gate goes on.

    Args:
        stack: the nodes.
        remappings: of their topics.
    """
    renamed = list(remappings)
    return [
        _node(
            node,
            remappings=renamed,
            respawn=LaunchConfiguration("use_gate"),
            respawn_delay=PLANNER_RESPAWN_S,
            on_exit=leave_to_the_gate,
        )
        if node is PLANNER
        else _node(node, remappings=renamed, on_exit=Shutdown(reason=f"{node.name} ended"))
        for node in stack
    ]


def sidecars(stack: Iterable[NodeSpec]) -> list[Any]:
    """`finetuner:=true` starts the finetuner beside a stack, which drives on when it dies.

    Args:
        stack: whose `arguments` are declared already.
    """
    known = {name for node in stack for name in node.settings}
    names = [name for node in SIDECARS for name in node.settings if name not in known]
    asked = DeclareLaunchArgument(
        "finetuner", default_value="false", description="also learn from the driving; needs the training packages"
    )
    declared = [_argument(name, SETTINGS[name].default) for name in names]
    started = beside(IfCondition(LaunchConfiguration("finetuner")))
    return [asked, *declared, *map(_parameter_file, SIDECARS), *started]


def beside(condition: Condition | None = None) -> list[Node]:
    """Start the finetuner, and start it again when it dies, unless it refuses what it was started with."""
    how = {"respawn": True, "respawn_delay": RESPAWN_S, "on_exit": leave_if_refused}
    return [_node(node, condition=condition, **how) for node in SIDECARS]


def guards(stack: Iterable[NodeSpec], remappings: Sequence[tuple[Any, Any]] = (), **defaults: Any) -> list[Any]:
    """Start the gate, unless `use_gate:=false`; when it dies it is started again, and stands by, braking.

    The launch ends where it refuses what it was started with: nothing would ever reach the vehicle.

    Args:
        stack: whose `arguments` are declared already.
        remappings: of the stack's topics.
        defaults: as those of `arguments`; a substitution may read what the stack's arguments declare.
    """
    known = {name for node in stack for name in node.settings}
    names = [name for node in GUARDS for name in node.settings if name not in known]
    asked = IfCondition(LaunchConfiguration("use_gate"))
    started = [
        _node(
            node,
            condition=asked,
            remappings=list(remappings),
            respawn=True,
            respawn_delay=GUARD_RESPAWN_S,
            on_exit=end_if_refused,
        )
        for node in GUARDS
    ]
    declared = [_argument(name, defaults.get(name, SETTINGS[name].default)) for name in names]
    return [*declared, *map(_parameter_file, GUARDS), *started]


def end_if_refused(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the whole launch where a node refuses what it was started with."""
    return Shutdown(reason=f"{event.process_name} refused its start") if event.returncode == REFUSED else None


def leave_to_the_gate(event: ProcessExited, context: LaunchContext) -> list[Any] | Shutdown | None:
    """End the whole launch where no gate is left to stop the vehicle; else as `leave_if_refused`."""
    if not IfCondition(LaunchConfiguration("use_gate")).evaluate(context):
        return Shutdown(reason=f"{event.process_name} ended, and there is no gate")
    left = leave_if_refused(event, context)
    if left is None:
        return None
    told = f"{event.process_name} refused its start and is not started again; the gate goes on. End with Ctrl-C"
    return [LogInfo(msg=told), left]


def leave_if_refused(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """Start a node no more where it refuses what it was started with; a shutdown asked for ends launch's waiting."""
    if event.returncode != REFUSED:
        return None
    return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))


def _node(node: NodeSpec, **how: Any) -> Node:
    settings = {
        name: ParameterValue(LaunchConfiguration(name), value_type=SETTINGS[name].kind) for name in node.settings
    }
    return Node(
        package=PACKAGE,
        executable=node.executable,
        name=node.name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[ParameterFile(CheckedFile(node)), settings],
        output="screen",
        **how,
    )


def rviz() -> list[Any]:
    """`rviz:=true` shows vehicle, traffic, route, plan and what the planner sees and imagines."""
    return [
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz with this project's view"),
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(launch_dir() / "rviz" / "adawm.rviz")],
            parameters=[
                {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)},
            ],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ]
