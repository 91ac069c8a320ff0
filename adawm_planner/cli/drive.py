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
from adawm_planner.ros.node_table import FINETUNER, GUARDS, SIM_BRIDGE, STACKS
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.stack import (
    SOURCE_DIR,
    account,
    await_last_report,
    check_alive,
    finetuner_settings,
    require_ros,
    stack_settings,
    start,
)

if TYPE_CHECKING:
    from adawm_planner.ros.episode_listener import EpisodeListener

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
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
