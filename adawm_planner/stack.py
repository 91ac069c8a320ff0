"""Settings in, a stack of processes over DDS out: started, and watched until its last report.

What every command and benchmark that drives the real ROS stack has in common; who listens, and to what, is theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adawm_planner.adapters.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX, complete_pair, generate_key, read_private_key
from adawm_planner.processes import ChildDied, Children
from adawm_planner.result_file import check_folder
from adawm_planner.ros.node_table import START_LIMIT_S, NodeSpec, node_command
from adawm_planner.simulator.tasks import load_vehicle

if TYPE_CHECKING:
    from adawm_planner.ros.episode_listener import EpisodeListener

SILENCE_LIMIT_S = 20.0
"""Longest silence of the planner, which reports every second, before the run is given up [s]."""

LAST_REPORT_S = 2.5
"""How long the planner's account of the last frames is waited for [s]."""

SOURCE_DIR = Path("data/adaptation")
"""Where `adawm baseline --rollouts-only` keeps the base model's source rollouts, unless told otherwise."""


def require_ros() -> None:
    """Check that the modules of ROS that the stack needs can be imported.

    Raises:
        ModuleNotFoundError: naming the first that cannot.
    """
    for module in ("rclpy", "carla_msgs", "derived_object_msgs", "adawm_msgs"):
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"no module '{module}'", name=module)


def stack_settings(
    task: str, vehicle: str, episodes: int, seed: int, realtime: bool, gate: bool, model_dir: Path | None, provider: str
) -> dict[str, Any]:
    """Settings of bridge, planner and gate; arguments as the options of `adawm drive`.

    Raises:
        ValueError, OSError: there is no such vehicle, or its file is wrong.
    """
    preset = load_vehicle(vehicle)
    return {
        "task": absolute(task),
        "vehicle": absolute(vehicle),
        "episodes": episodes,
        "seed": seed,
        "realtime": realtime,
        "provider": provider,
        "model_dir": str(model_dir.resolve()) if model_dir else "",
        "vehicle.length_m": preset.length,
        "vehicle.width_m": preset.width,
        "use_gate": gate,
        "await_planner": gate,
        "release_on_new_episode": gate,
        "wait_s": 0.2 if realtime else 0.8,  # a world that is not paced stands still while it waits
    }


def finetuner_settings(chosen: Path | None, state_dir: Path, source_dir: Path = SOURCE_DIR) -> dict[str, Any]:
    """Settings of a finetuner, and of a planner that takes its adapters.

    Args:
        chosen: its private key; None: the one in `state_dir`, which is made if missing.
        state_dir: of the finetuner; the planner's store is in it.
        source_dir: source rollouts of the base model.

    Raises:
        ValueError: as `key_of`, or `state_dir` cannot be written.
        OSError: the folder of the keys cannot be written.
    """
    check_folder(state_dir)
    key = key_of(chosen, state_dir).resolve()
    return {
        "state_dir": str(state_dir.resolve()),
        "source_dir": str(source_dir.resolve()),
        "signing_key": str(key),
        "adapters.store": str(state_dir.resolve() / "planner"),
        "adapters.trust": str(key.with_suffix(PUBLIC_SUFFIX)),
    }


def key_of(chosen: Path | None, state_dir: Path) -> Path:
    """The finetuner's private key: the chosen one, else the one in its folder, which is made with mode 0600 if missing.

    Raises:
        ValueError: the chosen file, or the one in the folder whose public key is missing, holds no private key.
        OSError: the folder cannot be written.
    """
    if chosen is not None:
        read_private_key(chosen)
        complete_pair(chosen)
        return chosen
    stem = state_dir / "keys" / "finetuner"
    private = stem.with_suffix(PRIVATE_SUFFIX)
    if not private.is_file():
        return generate_key(stem)[0]
    complete_pair(private)
    return private


def absolute(name_or_path: str) -> str:
    """A path that means the same file in another process; names stay names."""
    path = Path(name_or_path)
    return str(path.resolve()) if path.is_file() else name_or_path


def start(node: NodeSpec, settings: Mapping[str, Any], children: Children, more: tuple[Path, ...] = ()) -> None:
    """Start one node; arguments as of `node_command`."""
    children.start(node.name, node_command(node, node.name, settings, children.log_dir, more), os.environ)


def check_alive(listener: EpisodeListener, log_dir: Path) -> None:
    """Give up on a planner that runs but says nothing.

    Raises:
        ChildDied: the limit has passed.
    """
    limit = START_LIMIT_S if listener.report is None else SILENCE_LIMIT_S
    silence = time.monotonic() - listener.report_at
    if silence > limit:
        raise ChildDied(f"planner has been silent for {silence:.0f} s (limit {limit:.0f} s); see the logs in {log_dir}")


def await_last_report(listener: EpisodeListener) -> None:
    """Wait for the planner's account that includes the last frame."""
    deadline = time.monotonic() + LAST_REPORT_S
    seen = listener.report_at
    while time.monotonic() < deadline and listener.report_at == seen:
        listener.spin(0.1)


def account(listener: EpisodeListener) -> dict[str, Any]:
    """The "ros" block and the base model's digest by the newest account of planner and bridge; empty before one."""
    if listener.report is None:
        return {}
    waited = listener.frames_without_command
    return {**listener.report.to_json(), "frames_without_command": waited, "digest": listener.report.digest}
