"""Rows of the node table in, launch arguments and node actions out, for the files in launch/.

Imports `launch` and `launch_ros`, so only a ROS 2 installation that has them can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from adawm_planner.paths import launch_dir
from adawm_planner.ros.node_table import SETTINGS, NodeSpec

PACKAGE = "adawm_planner"


def arguments(nodes: Iterable[NodeSpec], **defaults: Any) -> list[DeclareLaunchArgument]:
    """Declare the settings of these nodes as launch arguments, each once.

    Args:
        nodes: rows of the table.
        defaults: by setting, where this launch file's default differs from the table's.
    """
    nodes = list(nodes)
    names = dict.fromkeys(name for node in nodes for name in node.settings)
    declared = [_argument(name, defaults.get(name, SETTINGS[name].default)) for name in names]
    files = [
        DeclareLaunchArgument(
            f"{node.name}_params",
            default_value=str(launch_dir() / "params" / node.parameter_file),
            description=f"parameter file of {node.name}",
        )
        for node in nodes
    ]
    namespace = DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes' own names")
    return [*declared, *files, namespace]


def _argument(name: str, default: Any) -> DeclareLaunchArgument:
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return DeclareLaunchArgument(name, default_value=text, description=SETTINGS[name].description)


def node_action(node: NodeSpec, remappings: Sequence[tuple[Any, Any]] = ()) -> Node:
    """Start one row of the table; the whole launch ends with it."""
    settings = {
        name: ParameterValue(LaunchConfiguration(name), value_type=SETTINGS[name].kind) for name in node.settings
    }
    return Node(
        package=PACKAGE,
        executable=node.executable,
        name=node.name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[ParameterFile(LaunchConfiguration(f"{node.name}_params")), settings],
        remappings=list(remappings),
        output="screen",
        on_exit=Shutdown(reason=f"{node.name} ended"),
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
