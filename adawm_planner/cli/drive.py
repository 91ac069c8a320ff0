"""`adawm drive`: the real ROS stack, separate processes over DDS, driven and scored.

Starts the nodes of the table, listens to their topics, and ends them; the episodes come back as the same
document as `adawm evaluate` gives.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from adawm_planner.adapters.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX, complete_pair, generate_key, read_private_key
from adawm_planner.cli.options import (
    check_seeds,
    episodes_option,
    json_option,
    model_options,
    seed_option,
    vehicle_option,
    writable_folder,
)
from adawm_planner.config.finetuning import TRAINING_PACKAGES
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.evaluation.report import Evaluation, episode_line, table, to_document, write_evaluations
from adawm_planner.origin import Start
from adawm_planner.paths import install_extra
from adawm_planner.processes import ChildDied, Children, Interrupted, interruptible, ros_environment
from adawm_planner.result_file import check_folder
from adawm_planner.ros.node_table import FINETUNER, GUARDS, SIM_BRIDGE, STACKS, START_LIMIT_S, NodeSpec, node_command
from adawm_planner.simulator.tasks import load_task, load_vehicle

if TYPE_CHECKING:
    from adawm_planner.ros.episode_listener import EpisodeListener

SILENCE_LIMIT_S = 20.0
"""Longest silence of the planner, which reports every second, before the run is given up [s]."""

LAST_REPORT_S = 2.5
"""How long the planner's account of the last frames is waited for [s]."""


FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SOURCE_DIR = Path("data/adaptation")
"""Where `adawm baseline --rollouts-only` keeps the base model's source rollouts, unless told otherwise."""

PACKAGES = ("onnxruntime", "ros-rclpy", "ros-fastrtps", "numpy", "libsumo")
"""Whose versions a result names."""


@dataclass
class Run:
    """What one run of the stack has given so far."""

    task: str
    vehicle: str
    settings: Mapping[str, Any]
    finetuner: bool = False  # whether one is to be started beside the stack
    finetuner_ended: bool = False
    started: float = field(default_factory=time.monotonic)
    start: Start = field(default_factory=Start.now)
    episodes: list[EpisodeResult] = field(default_factory=list)
    adapters: tuple[str, ...] = ()  # all that drove at some time
    report: dict[str, Any] = field(default_factory=dict)  # the planner's newest account


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task name, or a YAML file.")
@episodes_option(5)
@seed_option(EVALUATION_SEED)
@vehicle_option
@click.option("--realtime", is_flag=True, help="Pace the frames to the wall clock; else as fast as possible.")
@model_options
@click.option(
    "--gate/--no-gate",
    default=True,
    show_default=True,
    help="Let the safety gate check and publish the planner's commands.",
)
@click.option(
    "--finetuner/--no-finetuner",
    default=None,
    show_default="if it can run",
    help="Learn from the driving, and push adapters to the planner.",
)
@click.option(
    "--signing-key",
    type=FILE,
    show_default="one made in --state-dir",
    help="Private key of the finetuner, from `adawm adapter keygen`; asks for one as --finetuner does.",
)
@click.option(
    "--state-dir",
    type=FOLDER,
    default=Path("data/finetuner"),
    show_default=True,
    help="Replay, bundles and progress of the finetuner, kept between runs.",
)
@click.option(
    "--log-dir",
    type=FOLDER,
    callback=writable_folder,
    show_default="a new folder in the system's own",
    help="Where the logs of the processes go.",
)
@json_option
def drive(
    task: str,
    episodes: int,
    seed: int,
    vehicle: str,
    realtime: bool,
    model_dir: Path | None,
    provider: str,
    gate: bool,
    finetuner: bool | None,
    signing_key: Path | None,
    state_dir: Path,
    log_dir: Path | None,
    json_file: Path | None,
) -> None:
    """Drive episodes in the real ROS stack: planner and simulator bridge as processes of their own, over DDS."""
    # Read here too: a wrong file is told in one line and not in a node's log.
    task_name, preset_name = load_task(task).name, load_vehicle(vehicle).name
    check_seeds(seed, episodes)
    require_ros()
    settings = stack_settings(task, vehicle, episodes, seed, realtime, gate, model_dir, provider)
    console = Console(highlight=False)
    run = Run(task_name, preset_name, settings, wants_finetuner(finetuner, signing_key, console))
    if run.finetuner:
        settings |= finetuner_settings(signing_key, state_dir)
    log_dir = log_dir or Path(tempfile.mkdtemp(prefix="adawm_drive_"))
    os.environ.update(ros_environment(os.environ))
    console.print(f"ROS domain {os.environ['ROS_DOMAIN_ID']}, logs in {log_dir}")
    try:
        with interruptible(), Children(log_dir) as children:
            drive_stack(run, children, console)
    except Interrupted as error:
        finish(console, run, json_file)
        console.print(f"[yellow]{error}; all processes are ended[/]")
        raise SystemExit(128 + error.signum) from error
    except ChildDied as error:
        finish(console, run, json_file)
        raise click.ClickException(f"{error}\nall other processes are ended") from error
    finish(console, run, json_file)


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


def wants_finetuner(asked: bool | None, key: Path | None, console: Console, source_dir: Path = SOURCE_DIR) -> bool:
    """Whether a finetuner is to be started; says in one line why not.

    Args:
        asked: what the user asked for; None: start it if it can run, or in any case where `key` was given.
        key: its private key; None: one is made.
        console: where the line goes.
        source_dir: source rollouts of the base model.

    Raises:
        ClickException: the user asked for one that cannot run.
        UsageError: a key was given for one that is not to run.
    """
    if asked is False:
        if key is not None:
            raise click.UsageError("--signing-key is the finetuner's: give it, or --no-finetuner")
        return False
    asked = asked or key is not None
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    reason = ""
    if missing:
        reason = f"{', '.join(missing)} not installed (`make setup`, or {install_extra('train')})"
    elif key is not None and not key.is_file():
        reason = f"no key {key} (`adawm adapter keygen {key.with_suffix('')}` makes one)"
    elif not any(source_dir.glob("source-*.npz")):
        reason = f"no source rollouts in {source_dir} (`adawm baseline --rollouts-only` drives them)"
    if asked and reason:
        raise click.ClickException(f"the finetuner cannot run: {reason}")
    if reason:
        console.print(f"no finetuner: {reason}", markup=False, soft_wrap=True)
    return not reason


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


def drive_stack(run: Run, children: Children, console: Console) -> None:
    """Start the stack and follow it until its last episode; what it tells is in `run`, also when this is cut short.

    Raises:
        ChildDied: a process ended, or the planner fell silent.
    """
    gate, sidecars = GUARDS if run.settings["use_gate"] else (), (FINETUNER,) if run.finetuner else ()
    nodes = (*STACKS["sim"], *gate, *sidecars)
    for node in nodes:
        start(node, run.settings, children)
    # Only after the children: they are forked from this process, which must not have threads by then.
    from adawm_planner.ros.episode_listener import EpisodeListener

    listener = EpisodeListener()
    try:
        while not listener.done:
            listener.spin(0.1)
            collect(listener, run, console)
            children.check(frozenset({SIM_BRIDGE.name} if listener.done else ()), frozenset({FINETUNER.name}))
            tell_finetuners_end(run, children, console)
            check_alive(listener, children.log_dir)
        await_last_report(listener)
    finally:
        collect(listener, run, console)
        listener.close()


def start(node: NodeSpec, settings: Mapping[str, Any], children: Children, more: tuple[Path, ...] = ()) -> None:
    """Start one node; arguments as of `node_command`."""
    children.start(node.name, node_command(node, node.name, settings, children.log_dir, more), os.environ)


def tell_finetuners_end(run: Run, children: Children, console: Console) -> None:
    """Say once that the finetuner is gone; the stack drives on without it."""
    ending = None if run.finetuner_ended else children.ended(FINETUNER.name)
    if ending is not None:
        run.finetuner_ended = True
        console.print(f"[yellow]driving on without a finetuner: {ending}[/]")


def collect(listener: EpisodeListener, run: Run, console: Console) -> None:
    """Show the episodes that ended, and note which adapters drove and what the planner says of itself."""
    run.adapters, run.report = tuple(listener.adapters), account(listener)
    for episode in listener.take():
        run.episodes.append(episode)
        console.print(f"{len(run.episodes):>4}  {episode_line(episode)}")


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


def finish(console: Console, run: Run, json_file: Path | None) -> None:
    """Write the JSON of the episodes that were driven and print the table: in this order, as a console may fail."""
    if not run.episodes:
        return
    ros = dict(run.report)
    digest = ros.pop("digest", None)
    evaluation = Evaluation(
        task=run.task,
        vehicle=run.vehicle,
        driver="world_model",
        adapters=run.adapters,
        seed=run.settings["seed"],
        requested=run.settings["episodes"],
        wall_s=time.monotonic() - run.started,
        episodes=tuple(sorted(run.episodes, key=lambda episode: episode.seed)),
        model_digest=digest,
        ros=ros,
        gate=run.settings["use_gate"],
    )
    document = to_document(evaluation) | run.start.origin(PACKAGES)
    if json_file is not None:
        write_evaluations(json_file, [document])
    console.print(table([document]))
    if ros:
        latency = ros["latency_ms"]
        console.print(
            f"planner, input to command: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms, "
            f"max {latency['max']:.1f} ms; missed ticks {ros['missed_ticks']} of {ros['frames']}, "
            f"frames without a command {ros['frames_without_command']}"
        )
