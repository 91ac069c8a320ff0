"""`adawm story`: the whole of it once, in the real ROS stack, on the console and as a figure.

The base model drives well; the vehicle or the task shifts; success falls; the finetuner says what no longer fits,
repairs it and pushes adapters; success comes back; the operator rolls back and pins. Between the nominal and the
shifted world the simulator's bridge is another process; nothing else is started again. What ends a phase is the
matter of `story.phases`.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.keys import read_private_key
from adawm_planner.cli.options import SEED, check_seeds, json_option, mistake_in, model_options, writable_folder
from adawm_planner.cli.story_view import Now, View, summary, verdict
from adawm_planner.config.finetuning import STRATEGIES, TRAINING_PACKAGES
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.config.story import load_story
from adawm_planner.origin import Start
from adawm_planner.paths import default_model_dir, install_extra
from adawm_planner.processes import (
    ChildDied,
    Children,
    Interrupted,
    held,
    interruptible,
    module_command,
    release,
    ros_environment,
)
from adawm_planner.result_file import write_json
from adawm_planner.ros.node_table import (
    FINETUNER,
    PLANNER,
    SIM_BRIDGE,
    STACKS,
    NodeSpec,
    check_parameter_file,
    node_command,
)
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.stack import (
    SOURCE_DIR,
    absolute,
    account,
    await_last_report,
    check_alive,
    finetuner_settings,
    require_ros,
    start,
)
from adawm_planner.story.events import Event, Measured, Offered
from adawm_planner.story.phases import Phase, Turn, next_turn
from adawm_planner.story.record import Record, Setting, World

if TYPE_CHECKING:
    from adawm_planner.ros.story_listener import StoryListener

NOMINAL = World("right_turn_moderate", "nominal")
"""What the base model was trained on."""

SHIFT = "right_turn_moderate:worn_brakes"
RUNS = Path("runs/story")
SHIFTED_BRIDGE = "sim_bridge_shifted"
"""Name of the second bridge's process and of its log; as a node it is called as the first."""

PACKAGES = ("torch", "peft", "onnxruntime", "ros-rclpy", "ros-fastrtps", "libsumo")
"""Whose versions a story names."""

STALL_S = 300.0
"""Longest wait for an episode before the story is given up [s]; the longest episode has 80 s of driving."""

ROUND_S = 180.0
"""Longest wait for the measurement at home [s]; the finetuner's worker may still be at its start."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Files:
    """Where a story leaves what it made; all below one folder."""

    folder: Path

    @property
    def logs(self) -> Path:
        """Of all processes."""
        return self.folder / "logs"

    @property
    def state(self) -> Path:
        """Replay, bundles, progress, the planner's store and the key of this story alone."""
        return self.folder / "state"

    @property
    def document(self) -> Path:
        """The JSON."""
        return self.folder / "story.json"

    @property
    def figure(self) -> Path:
        """The picture."""
        return self.folder / "story.png"


def parameter_file(node: NodeSpec) -> dict[str, Any]:
    """An option for a node's parameter file, which is looked at before anything is driven."""

    def check(context: click.Context, option: click.Parameter, file: Path | None) -> Path | None:
        with mistake_in(option.opts[0]):
            check_parameter_file(file, node)
        return file

    return {"type": FILE, "callback": check}


@click.command()
@click.option(
    "--shift",
    default=SHIFT,
    show_default=True,
    callback=lambda context, option, shift: parse_shift(shift),
    help="TASK:VEHICLE that the world becomes; names or files.",
)
@click.option(
    "--seed",
    type=SEED,
    default=EVALUATION_SEED,
    show_default=True,
    help="Seed of the first episode; the others follow by 1, through all phases.",
)
@click.option("--preset", default="default", show_default=True, help="Length of the phases: default or debug.")
@click.option(
    "--run",
    "run_folder",
    type=click.Path(file_okay=False, path_type=Path),
    callback=writable_folder,
    help="New folder of figure, JSON, logs and state [default: runs/story/TIME].",
)
@click.option(
    "--strategy", type=click.Choice(STRATEGIES), default="adawm", show_default=True, help="What the finetuner repairs."
)
@click.option(
    "--signing-key", type=FILE, help="Private key of the finetuner [default: made for this story, in its folder]."
)
@click.option(
    "--source-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=SOURCE_DIR,
    show_default=True,
    help="The base model's source rollouts; driven once where they are missing.",
)
@click.option(
    "--finetuner-params", **parameter_file(FINETUNER), help="ROS parameter file of the finetuner, over the shipped one."
)
@click.option(
    "--planner-params", **parameter_file(PLANNER), help="ROS parameter file of the planner, over the shipped one."
)
@model_options
@json_option
def story(
    shift: World,
    seed: int,
    preset: str,
    run_folder: Path | None,
    strategy: str,
    signing_key: Path | None,
    source_dir: Path,
    finetuner_params: Path | None,
    planner_params: Path | None,
    model_dir: Path | None,
    provider: str,
    json_file: Path | None,
) -> None:
    """Show the whole story: drive, shift, fall, find the cause, adapt, recover, roll back, pin."""
    config, console = load_story(preset), Console(highlight=False)
    check_seeds(seed, config.most_episodes)  # all that the phases may take
    record = Record(Setting(NOMINAL, shift, seed, config))
    require_ros()
    require_training()
    files = Files(run_folder or RUNS / time.strftime("%Y%m%d-%H%M%S"))
    check_new(files)
    if signing_key is not None:
        read_private_key(signing_key)
    model = model_dir or default_model_dir()
    # Before the folder is made: what fails here must not be in the way of the next call.
    prepare(model, source_dir, preset, console)
    make_folder(files)
    vehicle = load_vehicle(NOMINAL.vehicle)
    settings = {
        **finetuner_settings(signing_key, files.state, source_dir),
        **vars(NOMINAL),
        "vehicle.length_m": vehicle.length,
        "vehicle.width_m": vehicle.width,
        "strategy": strategy,
        "seed": seed,
        "episodes": config.nominal_episodes,
        "provider": provider,
        "model_dir": str(model.resolve()),
    }
    more = {
        PLANNER.name: tuple(filter(None, [planner_params])),
        FINETUNER.name: tuple(filter(None, [finetuner_params])),
    }
    os.environ.update(ros_environment(os.environ))
    console.print(f"ROS domain {os.environ['ROS_DOMAIN_ID']}; figure, JSON, logs and state in {files.folder}")
    telling = Telling(record, settings, more, files, console)
    try:
        with interruptible(), Children(files.logs) as children:
            telling.tell(children)
    except Interrupted as error:
        telling.finish(json_file)
        console.print(f"[yellow]{error}; all processes are ended[/]")
        raise SystemExit(128 + error.signum) from error
    except (ChildDied, OSError) as error:
        telling.finish(json_file)
        raise click.ClickException(f"{error}\nall other processes are ended") from error
    telling.finish(json_file)


def parse_shift(shift: str) -> World:
    """The world of TASK:VEHICLE.

    Raises:
        BadParameter: it is not of this form, is no shift, changes what the planner cannot be told while it drives, or
            names an unknown task or vehicle or a wrong file.
    """
    words = shift.split(":")
    if len(words) != 2:
        raise click.BadParameter(f"'{shift}' is not TASK:VEHICLE, as in {SHIFT}")
    with mistake_in("--shift"):
        before, after = load_vehicle(NOMINAL.vehicle), load_vehicle(words[1])
        load_task(words[0])
    if words == [NOMINAL.task, NOMINAL.vehicle]:
        raise click.BadParameter(f"'{shift}' is what the story begins with; name another task or vehicle")
    for name in ("length", "width"):
        if getattr(before, name) != getattr(after, name):
            raise click.BadParameter(
                f"vehicle '{words[1]}' has {name} {getattr(after, name)} m, '{NOMINAL.vehicle}' has "
                f"{getattr(before, name)} m: the planner is told once; give both the same"
            )
    return World(absolute(words[0]), absolute(words[1]))


def require_training() -> None:
    """Raise ClickException naming the packages of the finetuner and the figure that are not installed."""
    missing = [name for name in (*TRAINING_PACKAGES, "matplotlib") if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the story needs the finetuner: {', '.join(missing)} not installed; `make drive` installs them, or "
            f"{install_extra('train')}. `adawm drive` drives without them"
        )


def check_new(files: Files) -> None:
    """Raises ClickException where the story's folder holds something: stories are not mixed."""
    if files.folder.exists() and any(files.folder.iterdir()):
        raise click.ClickException(f"{files.folder} is not empty; give another --run, or remove it")


def make_folder(files: Files) -> None:
    """Make the story's own folder; raises ClickException as `check_new` does."""
    check_new(files)
    files.logs.mkdir(parents=True)
    files.state.mkdir()


def prepare(model: Path, source_dir: Path, preset: str, console: Console) -> None:
    """Drive the base model's source rollouts where they are missing, in a process of its own: it needs torch.

    Raises:
        ClickException: it failed.
    """
    console.print("source rollouts of the base model: checked, and driven once where they are missing")
    words = ["baseline", "--rollouts-only", "--preset", preset, "--model-dir", str(model), "--cache", str(source_dir)]
    done = subprocess.run([*module_command("adawm_planner.cli.main"), *words], check=False)
    if done.returncode != 0:
        raise click.ClickException(f"the source rollouts could not be made: `adawm {' '.join(words)}` failed")


class Telling:
    """One story, from the first process to the figure."""

    def __init__(
        self,
        record: Record,
        settings: dict[str, Any],
        more: dict[str, tuple[Path, ...]],
        files: Files,
        console: Console,
    ) -> None:
        """Start nothing yet.

        Args:
            record: empty.
            settings: of the nodes, in the nominal world.
            more: parameter files by node, over the shipped one.
            files: where everything goes.
            console: for people.
        """
        self._record, self._settings, self._more, self._files = record, settings, more, files
        self._console, self._view = console, View(console, record)
        self._ros: dict[str, Any] = {}
        self._origin = Start.now()
        self._began = time.monotonic()
        self._episode_at = self._began

    @property
    def wall_s(self) -> float:
        """Since the story began [s]."""
        return time.monotonic() - self._began

    def tell(self, children: Children) -> None:
        """Start the stack and follow it through all phases.

        Raises:
            ChildDied: a process ended or fell silent.
            OSError: a service does not answer.
        """
        self._start(children)
        # Only after the children: they are forked from this process, which must not have threads by then.
        from adawm_planner.ros.story_listener import StoryListener

        listener = StoryListener()
        self._began = self._episode_at = time.monotonic()
        try:
            with self._view:
                while (turn := self._follow(listener, children)) is None or self._next(turn, listener, children):
                    pass
            await_last_report(listener)
            self._ros = account(listener)
        finally:
            listener.close()

    def _start(self, children: Children) -> None:
        """Start all processes; the second bridge waits for its turn."""
        config, world = self._record.setting.config, self._record.setting.shifted
        rounds = self._files.logs / "story.param.yaml"
        rounds.write_text(f"{FINETUNER.name}:\n  ros__parameters:\n    round_decisions: {config.round_decisions}\n")
        more = {**self._more, FINETUNER.name: (rounds, *self._more[FINETUNER.name])}
        for node in (*STACKS["sim"], FINETUNER):
            start(node, self._settings, children, more.get(node.name, ()))
        seed = self._record.setting.seed + config.nominal_episodes
        shifted = {**self._settings, **vars(world), "seed": seed, "episodes": 0}
        words = node_command(SIM_BRIDGE, SHIFTED_BRIDGE, shifted, self._files.logs)
        os.mkfifo(self._gate)
        children.start(SHIFTED_BRIDGE, held(words, self._gate), os.environ)

    @property
    def _gate(self) -> Path:
        return self._files.logs / f"{SHIFTED_BRIDGE}.begin"

    def _follow(self, listener: StoryListener, children: Children) -> Turn | None:
        """Take in what happens for a moment; tells when the phase is over."""
        listener.spin(0.05)
        for event in listener.events():
            self._take(event)
        report = listener.report
        missed, frames = (report.missed_ticks, report.frames) if report is not None else (0, 0)
        self._view.now(Now(listener.finetuner, listener.swap, missed, frames), self.wall_s)
        children.check()
        check_alive(listener, children.log_dir)
        silent = time.monotonic() - self._episode_at
        if silent > STALL_S:
            raise ChildDied(f"no episode has ended for {silent:.0f} s (limit {STALL_S:.0f} s); see {children.log_dir}")
        return next_turn(self._record.facts(), self._record.setting.config)

    def _take(self, event: Event) -> None:
        episodes = self._record.episodes
        self._view.event(self._record.take(event, self.wall_s))
        if self._record.episodes != episodes:
            self._episode_at = time.monotonic()

    def _next(self, turn: Turn, listener: StoryListener, children: Children) -> bool:
        """End a phase and begin the next; tells whether there is one."""
        if turn.after is Phase.SHIFTED:
            self._measure(listener, children)
        self._record.turn(turn, self.wall_s)
        self._view.turn(turn, self.wall_s)
        if turn.after is Phase.SHIFTED:
            children.end(SIM_BRIDGE.name)
            release(self._gate, SHIFTED_BRIDGE)
        elif turn.after is Phase.ROLLED_BACK:
            newest = self._newest()
            for answer in (listener.roll_back(), *map(listener.pin, PARTS), listener.load(newest)):
                self._view.event(self._record.take(answer, self.wall_s))
        return turn.after is not None

    def _measure(self, listener: StoryListener, children: Children) -> None:
        """Have the mismatch measured at home, for what is measured after the shift to be compared with."""
        answer = listener.measure()
        self._view.event(self._record.take(answer, self.wall_s))
        end = time.monotonic() + (ROUND_S if answer.success else 0.0)
        while not self._record.events(Measured) and time.monotonic() < end:
            self._episode_at = time.monotonic()  # no episode is to come
            self._follow(listener, children)

    def _newest(self) -> Path:
        """Newest bundle in the planner's store, of those that drive if any does: what the pin must keep out."""
        offered = [each.event for each in self._record.events(Offered) if isinstance(each.event, Offered)]
        driving = [each for each in offered if each.name in self._record.driving]
        digest = (driving or offered)[-1].digest  # without one, no adapter would have driven since the shift
        return (self._files.state / "planner" / "bundles" / digest).resolve()

    def finish(self, json_file: Path | None) -> None:
        """Write document and figure, and print the table."""
        if self._record.episodes == 0:
            return
        # Only here: it would load a plotting library into a process that forks.
        from adawm_planner.story.figure import draw

        digest = self._ros.pop("digest", None)
        told = self._record.document(self._ros, self.wall_s)
        document = told | {"model_digest": digest} | self._origin.origin(PACKAGES)
        for file in filter(None, (self._files.document, json_file)):
            write_json(file, document, indent=1)
        draw(document, self._files.figure)
        self._console.print(summary(document))
        self._console.print(verdict(document))
        if self._ros:
            self._console.print(
                f"missed ticks {self._ros['missed_ticks']} of {self._ros['frames']}, frames without a command "
                f"{self._ros['frames_without_command']}, {self._ros['adapters_swapped']} swaps"
            )
        self._console.print(f"{self._files.figure} and {self._files.document.name}", soft_wrap=True)
