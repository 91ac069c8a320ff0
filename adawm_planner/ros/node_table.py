"""The table of the stack's nodes and of what may be set on them; `adawm drive` and the launch files read it.

Settings in, command lines and parameter files out. Imports nothing of ROS, so that both can use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.config.yaml_file import read_mapping
from adawm_planner.paths import launch_dir
from adawm_planner.processes import module_command


@dataclass(frozen=True)
class Setting:
    """One thing a user may set on the whole stack: a launch argument, and a parameter of the nodes that take it."""

    name: str
    kind: type  # str, int, float or bool
    default: Any
    description: str


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("role_name", str, "ego_vehicle", "role of the ego vehicle, as in /carla/<role_name>/odometry"),
        Setting("use_sim_time", bool, True, "take time from /clock"),
        Setting("model_dir", str, "", "folder of the base model; empty: the one that was installed"),
        Setting("provider", str, "auto", "where inference runs: auto, cpu, cuda or tensorrt"),
        Setting("autostart", bool, True, "configure and activate the nodes at start, without a lifecycle manager"),
        Setting("vehicle.length_m", float, 4.7, "length of the ego vehicle [m], which no topic tells"),
        Setting("vehicle.width_m", float, 1.85, "width of the ego vehicle [m], which no topic tells"),
        Setting("control_topic", str, "", "where commands go; empty: /carla/<role_name>/vehicle_control_cmd"),
        Setting("use_gate", bool, False, "let the safety gate check and publish the planner's commands"),
        Setting("use_world_status", bool, True, "believe /carla/status that the world is paused or stepped"),
        Setting("await_planner", bool, False, "the gate commands nothing before a planner is there"),
        Setting("release_on_new_episode", bool, False, "a new route releases the gate from a stop"),
        Setting("wait_s", float, 0.2, "wait of a frame for the planner's proposal [s of wall time]"),
        Setting("adapters.store", str, "", "folder of adapters the planner accepted; empty: adapters are not taken"),
        Setting("adapters.trust", str, "", "public key (.pub), or a folder of them, whose adapters are accepted"),
        Setting("task", str, "right_turn_moderate", "task: built-in name or YAML file"),
        Setting("vehicle", str, "nominal", "ego vehicle preset: built-in name or YAML file"),
        Setting("seed", int, EVALUATION_SEED, "seed of the first episode; the others follow by 1"),
        Setting("episodes", int, 0, "episodes to drive; 0 drives on for ever"),
        Setting("state_dir", str, "~/.ros/adawm_finetuner", "folder of the finetuner's replay, bundles and progress"),
        Setting("source_dir", str, "", "folder of the base model's source rollouts; empty: state_dir"),
        Setting("signing_key", str, "", "private key file that adapters are signed with; empty: none are made"),
        Setting(
            "vehicle_id", str, "", "id of this vehicle, which adapters are bound to; empty: they are bound to none"
        ),
        Setting("strategy", str, "adawm", "what finetuning repairs: none, model, policy, alternate or adawm"),
        Setting("realtime", bool, False, "pace the frames to the wall clock; else as fast as possible"),
    )
}


@dataclass(frozen=True)
class NodeSpec:
    """One node of the stack."""

    name: str  # ROS node name
    executable: str  # console script, as `ros2 run adawm_planner <executable>` finds it
    module: str  # run as `python -m <module>` where there is no ROS installation
    parameter_file: str  # below launch/params: everything else that may be tuned
    settings: tuple[str, ...]  # names in SETTINGS that are parameters of this node and override the file

    def parameters(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """This node's parameters: what was chosen, else the default.

        Raises:
            ValueError: a chosen value is not of the setting's kind.
        """
        return {name: checked(SETTINGS[name], chosen.get(name, SETTINGS[name].default)) for name in self.settings}


PLANNER = NodeSpec(
    name="adawm_planner",
    executable="planner_node",
    module="adawm_planner.ros.planner_node",
    parameter_file="planner.param.yaml",
    settings=(
        "role_name",
        "use_sim_time",
        "autostart",
        "model_dir",
        "provider",
        "control_topic",
        "use_gate",
        "use_world_status",
        "vehicle.length_m",
        "vehicle.width_m",
        "adapters.store",
        "adapters.trust",
        "vehicle_id",
    ),
)
GATE = NodeSpec(
    name="adawm_gate",
    executable="gate_node",
    module="adawm_planner.ros.gate_node",
    parameter_file="gate.param.yaml",
    settings=(
        "role_name",
        "use_sim_time",
        "autostart",
        "control_topic",
        "use_world_status",
        "await_planner",
        "release_on_new_episode",
        "wait_s",
        "vehicle.length_m",
        "vehicle.width_m",
    ),
)
SIM_BRIDGE = NodeSpec(
    name="sim_bridge",
    executable="sim_bridge_node",
    module="adawm_planner.ros.sim_bridge_node",
    parameter_file="sim_bridge.param.yaml",
    settings=("role_name", "task", "vehicle", "seed", "episodes", "realtime"),
)
FINETUNER = NodeSpec(
    name="adawm_finetuner",
    executable="finetuner_node",
    module="adawm_planner.ros.finetuner_node",
    parameter_file="finetuner.param.yaml",
    settings=(
        "use_sim_time",
        "autostart",
        "model_dir",
        "state_dir",
        "source_dir",
        "signing_key",
        "vehicle_id",
        "strategy",
    ),
)

STACKS = {"sim": (PLANNER, SIM_BRIDGE), "carla": (PLANNER,), "vehicle": (PLANNER,)}
"""Which nodes run where: on the embedded simulator, beside carla_ros_bridge, on a vehicle."""

GUARDS = (GATE,)
"""Nodes that stand between planner and vehicle in any stack, unless `use_gate` is false."""

SIDECARS = (FINETUNER,)
"""Nodes that any stack may have beside it; it drives on when one of them dies."""

START_LIMIT_S = 60.0
"""Longest wait for the planner's first sign of life, and for the first commands that let the vehicle drive [s]."""


def known_parameters() -> set[str]:
    """Names of the parameters of all nodes: the settings, and what the shipped files hold beside them.

    Raises:
        OSError: the shipped files are not there.
    """
    files = [launch_dir() / "params" / node.parameter_file for node in (*STACKS["sim"], *GUARDS, *SIDECARS)]
    shipped = [yaml.safe_load(file.read_text(encoding="utf-8"))["/**"]["ros__parameters"] for file in files]
    return set(SETTINGS).union(*shipped)


def check_parameter_file(file: Path | None, node: NodeSpec) -> None:
    """Look at a node's parameter file before anything is started; None is no file.

    Raises:
        ValueError: it is not laid out as a ROS parameter file, or holds a setting, which would be overridden by the
            stack's; names it.
    """
    if file is None:
        return
    parts = read_mapping(file)
    if not all(map(_holds_parameters, parts.values())):
        raise ValueError(f"{file}: is no ROS parameter file; below the name of each node must stand ros__parameters")
    names = {name for key, part in parts.items() for name in _names(part, str(key), node)}
    overridden = sorted(names & set(node.settings))
    if overridden:
        raise ValueError(
            f"{file}: {', '.join(overridden)} of {node.name} would be overridden, as the whole stack is told it at its "
            "start; remove it there and give it as a launch argument or an option of adawm"
        )


def _names(part: Any, key: str, node: NodeSpec) -> set[str]:
    """Names of the parameters that a node's part of a parameter file, or a namespace with such parts, has for `node`.

    A name with dots may also be written as nested mappings.
    """
    if "ros__parameters" not in part:
        return {name for inner, entries in part.items() for name in _names(entries, str(inner), node)}
    if key.rsplit("/", 1)[-1] not in (node.name, "*", "**"):
        return set()
    return set(_dotted(part["ros__parameters"] or {}))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the leaves of nested mappings."""
    return [
        name
        for key, value in values.items()
        for name in (_dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def _holds_parameters(entries: Any) -> bool:
    """Whether this is a node's part of a parameter file, or a namespace with such parts."""
    if not isinstance(entries, dict) or not entries:
        return False
    if "ros__parameters" in entries:
        return isinstance(entries["ros__parameters"], dict | None)
    return all(map(_holds_parameters, entries.values()))


def checked(setting: Setting, value: Any) -> Any:
    """The value, if it is of the setting's kind.

    Raises:
        ValueError: naming setting, value and kind.
    """
    if type(value) is not setting.kind:
        raise ValueError(f"{setting.name} is {value!r}, must be of type {setting.kind.__name__}")
    return value


def command(node: NodeSpec, parameter_files: Sequence[str]) -> list[str]:
    """Command line that starts the node with this process's interpreter and imports; later files win."""
    files = [word for file in parameter_files for word in ("--params-file", file)]
    return [*module_command(node.module), "--ros-args", "-r", f"__node:={node.name}", *files]


def node_command(
    node: NodeSpec, name: str, settings: Mapping[str, Any], folder: Path, more: tuple[Path, ...] = ()
) -> list[str]:
    """Command line of a node.

    Args:
        node: its row of the table.
        name: of the file with this run's parameters, beside the logs.
        settings: this run's parameters; they win over the files.
        folder: of the logs.
        more: parameter files that win over the shipped one.
    """
    shipped = launch_dir() / "params" / node.parameter_file
    chosen = folder / f"{name}.param.yaml"
    chosen.write_text(yaml.safe_dump(parameter_document(node, settings)), encoding="utf-8")
    return command(node, [str(file) for file in (shipped, *more, chosen)])


def parameter_document(node: NodeSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The node's settings in the layout of a ROS parameter file."""
    return {node.name: {"ros__parameters": node.parameters(chosen)}}
