"""The whole stack for an hour: simulated driving in real time over DDS with the sidecar, and what it uses and misses.

Bridge, planner, gate and finetuner as `adawm drive` starts them, on a vehicle that the base model does not fit, so that
there is something to learn and adapters come. Memory and processor of every process are sampled all along. A run that
is ended early has its result too, which says how long it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from adawm_planner.cli.drive import FOLDER, wants_finetuner
from adawm_planner.cli.options import SEED, FiniteRange, json_option, model_options
from adawm_planner.cli.story import FILE, STALL_S, Files, make_folder
from adawm_planner.data_types import Outcome
from adawm_planner.dims import FRAME_S
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.processes import ChildDied, Children, Interrupted, interruptible, ros_environment
from adawm_planner.result_file import write_json
from adawm_planner.ros.node_table import FINETUNER, GUARDS, PLANNER, STACKS
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.stack import (
    SOURCE_DIR,
    await_last_report,
    check_alive,
    finetuner_settings,
    require_ros,
    stack_settings,
    start,
)
from adawm_planner.story.events import Driving, Drove, Event, Measured, Moved, Offered, Refused
from benchmarks.latency import stage_figures
from benchmarks.record import LEVELS, with_origin

if TYPE_CHECKING:
    from benchmarks.process_use import ProcessWatch
    from benchmarks.soak_listener import SoakListener

RUNS = Path("runs/soak")
RESULT = "soak.json"
SAY_S = 60.0
"""Time between two lines on the console [s]."""

OVER = "the time was over"
PACKAGES = ("onnxruntime", "torch", "peft", "ros-rclpy", "ros-fastrtps", "numpy", "libsumo")


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    task: str
    vehicle: str
    seed: int
    minutes: float
    warm_up_minutes: float  # before memory and processor count
    every_s: float  # between two samples


@dataclass
class Account:
    """What happened, counted."""

    outcomes: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)  # by what they trained
    stages: Counter[str] = field(default_factory=Counter)  # that adapters came to
    offered: int = 0
    refusals: int = 0
    swaps: int = 0
    last_refusal: str = ""

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Drove():
                self.outcomes[event.result.outcome.value] += 1
            case Measured():
                self.rounds[event.trained] += 1
            case Offered():
                self.offered += 1
            case Moved():
                self.stages[event.stage] += 1
            case Driving():
                self.swaps = event.swaps
            case Refused():
                self.refusals, self.last_refusal = event.count, event.text

    @property
    def episodes(self) -> int:
        """That have ended."""
        return sum(self.outcomes.values())

    def figures(self) -> dict[str, Any]:
        """Counts for the document."""
        successes = self.outcomes[Outcome.SUCCESS.value]
        rate = successes / self.episodes if self.episodes else None
        interval = list(wilson_interval(successes, self.episodes)) if self.episodes else None
        return {
            "episodes": {
                "count": self.episodes,
                "outcomes": dict(self.outcomes),
                "success_rate": rate,
                "success_ci95": interval,
            },
            "finetuning": {
                "rounds": dict(self.rounds),
                "offered": self.offered,
                "came_to": dict(self.stages),
                "swaps": self.swaps,
                "refusals": self.refusals,
                "last_refusal": self.last_refusal,
            },
        }


@click.command()
@click.option("--minutes", type=FiniteRange(min=0.05), default=60.0, show_default=True, help="Length of the run.")
@click.option(
    "--warm-up",
    type=FiniteRange(min=0.0),
    default=10.0,
    show_default=True,
    help="Minutes before memory and processor count.",
)
@click.option(
    "--every",
    type=FiniteRange(min=0.5),
    default=5.0,
    show_default=True,
    help="Seconds between two samples of memory and processor.",
)
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task name, or a YAML file.")
@click.option("--vehicle", default="worn_brakes", show_default=True, help="Vehicle preset, or a YAML file.")
@click.option(
    "--seed", type=SEED, default=5000, show_default=True, help="Seed of the first episode; the others follow by 1."
)
@click.option(
    "--run", "run_folder", type=FOLDER, help="New folder of result, logs and state [default: runs/soak/TIME]."
)
@click.option(
    "--after",
    "earlier",
    type=FOLDER,
    help="Folder of an earlier soak: begin with a copy of its replay, progress and adapters.",
)
@click.option(
    "--source-dir",
    type=FOLDER,
    default=SOURCE_DIR,
    show_default=True,
    help="The base model's source rollouts, which `adawm baseline --rollouts-only` drives.",
)
@click.option("--finetuner-params", type=FILE, help="ROS parameter file of the finetuner, over the shipped one.")
@click.option("--planner-params", type=FILE, help="ROS parameter file of the planner, over the shipped one.")
@model_options
@json_option
def soak(
    minutes: float,
    warm_up: float,
    every: float,
    task: str,
    vehicle: str,
    seed: int,
    run_folder: Path | None,
    earlier: Path | None,
    source_dir: Path,
    finetuner_params: Path | None,
    planner_params: Path | None,
    model_dir: Path | None,
    provider: str,
    json_file: Path | None,
) -> None:
    """Real-time driving with the sidecar for an hour: memory, processor, missed ticks, swaps."""
    plan = Plan(load_task(task).name, load_vehicle(vehicle).name, seed, minutes, warm_up, every)
    require_ros()
    if find_spec("psutil") is None:
        raise ModuleNotFoundError("no module 'psutil'", name="psutil")
    console = Console(highlight=False)
    wants_finetuner(True, None, console, source_dir)
    params = {PLANNER.name: planner_params, FINETUNER.name: finetuner_params}
    texts = {name: file.read_text(encoding="utf-8") for name, file in params.items() if file is not None}
    files = Files(run_folder or RUNS / time.strftime("%Y%m%d-%H%M%S"))
    after = None if earlier is None else told_of(earlier)
    make_folder(files)
    if earlier is not None:
        shutil.copytree(Files(earlier).state, files.state, dirs_exist_ok=True)
    settings = stack_settings(task, vehicle, 0, seed, True, True, model_dir, provider)
    settings |= finetuner_settings(None, files.state, source_dir)
    os.environ.update(ros_environment(os.environ))
    console.print(f"ROS domain {os.environ['ROS_DOMAIN_ID']}; result, logs and state in {files.folder}")
    run = Run(plan, settings, {name: (file,) for name, file in params.items() if file is not None}, console)
    targets = tuple(filter(None, (files.folder / RESULT, json_file)))
    ended, code = OVER, 0
    try:
        with interruptible(), Children(files.logs) as children:
            run.drive(children)
    except Interrupted as error:
        ended, code = str(error), 128 + error.signum
    except ChildDied as error:
        ended, code = str(error), 1
    finish(run, {"ended": ended.splitlines()[0], "parameters": texts, "after": after}, targets, console)
    if code:
        console.print(f"{ended}\nall processes are ended", style="yellow", markup=False, soft_wrap=True)
        raise SystemExit(code)


def told_of(earlier: Path) -> dict[str, Any]:
    """What an earlier soak says of itself. Raises ClickException for a folder that is none."""
    file = earlier / RESULT
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {name: document[name] for name in ("commit", "task", "vehicle", "seed", "ran_s", "finetuning")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"{file} is not the result of a soak ({error!r}); --after takes a soak's folder"
        ) from error


class Run:
    """One soak, from the first process to the last."""

    def __init__(
        self, plan: Plan, settings: Mapping[str, Any], more: Mapping[str, tuple[Path, ...]], console: Console
    ) -> None:
        """Start nothing yet; `more` are parameter files by node, over the shipped one."""
        self.plan, self._settings, self._more, self._console = plan, settings, more, console
        self.account = Account()
        self.watch: ProcessWatch | None = None  # None: it has not begun
        self.ran_s = 0.0
        self._heard: dict[str, Any] = {}
        self._alone = False  # the finetuner is gone
        self._frames_before = 0  # that the planner had seen when it was first heard of

    def drive(self, children: Children) -> None:
        """Start the stack and follow it until the time is over.

        Raises:
            ChildDied: a process that the driving needs ended or fell silent.
        """
        for node in (*STACKS["sim"], *GUARDS, FINETUNER):
            start(node, self._settings, children, self._more.get(node.name, ()))
        # Only after the children: they are forked from this process, which must not have threads by then.
        from benchmarks.process_use import ProcessWatch
        from benchmarks.soak_listener import SoakListener

        listener = SoakListener()
        try:
            while listener.report is None:
                self._follow(listener, children)
            self._frames_before = listener.report.frames
            self.watch = ProcessWatch({**children.pids(), "benchmark": os.getpid()})
            self._soak(listener, children, self.watch)
            await_last_report(listener)
        finally:
            self._hear(listener, children)
            listener.close()

    def _soak(self, listener: SoakListener, children: Children, watch: ProcessWatch) -> None:
        began = episode_at = time.monotonic()
        sample_due = say_due = 0.0
        while self.ran_s < 60.0 * self.plan.minutes:
            episodes = self.account.episodes
            self._follow(listener, children)
            now = time.monotonic()
            self.ran_s = now - began
            if self.account.episodes != episodes:
                episode_at = now
            if now - episode_at > STALL_S:
                raise ChildDied(f"no episode has ended for {STALL_S:.0f} s; see the logs in {children.log_dir}")
            if self.ran_s >= sample_due:
                watch.sample(self.ran_s)
                sample_due += self.plan.every_s
            if self.ran_s >= say_due:
                self._console.print(self._line(listener, watch), soft_wrap=True, markup=False)
                say_due += SAY_S

    def _follow(self, listener: SoakListener, children: Children) -> None:
        """Take in what happens for a moment."""
        listener.spin(0.05)
        for event in listener.events():
            self.account.take(event)
        children.check(may_die=frozenset({FINETUNER.name}))
        check_alive(listener, children.log_dir)
        ending = None if self._alone else children.ended(FINETUNER.name)
        if ending is not None:
            self._alone = True
            self._console.print(f"driving on without a finetuner: {ending}", style="yellow", markup=False)

    def _line(self, listener: SoakListener, watch: ProcessWatch) -> str:
        report, memory = listener.report, watch.uses.get(PLANNER.name)
        parts = [f"{self.account.episodes} episodes"]
        if report is not None:
            parts.append(f"{report.missed_ticks} missed ticks of {report.frames}, {report.swaps} swaps")
        if memory is not None:
            parts.append(f"planner {memory.rss[-1] / 2**20:.1f} MiB")
        if listener.finetuner:
            parts.append(listener.finetuner)
        return f"{self.ran_s / 60.0:5.1f} min: {'; '.join(parts)}"

    def _hear(self, listener: SoakListener, children: Children) -> None:
        """Keep what the nodes said last of themselves, before they are ended."""
        for event in listener.events():
            self.account.take(event)
        report = listener.report
        finetuner = children.ended(FINETUNER.name)
        self._heard = {
            "planner": {} if report is None else report.to_json(),
            "model_digest": None if report is None else report.digest,
            "frames_without_command": listener.frames_without_command,
            "gate": listener.gate,
            "stages_ms": {node: stage_figures(found) for node, found in listener.stages.items()},
            "finetuner_ended": None if finetuner is None else finetuner.splitlines()[0],
            "worker_deaths": listener.worker_deaths,
        }

    def figures(self) -> dict[str, Any]:
        """The document, without its origin; the run must have begun."""
        from benchmarks.process_use import summary

        assert self.watch is not None
        plan = self.plan
        frames = self._heard["planner"].get("frames", self._frames_before) - self._frames_before
        return {
            "task": plan.task,
            "vehicle": plan.vehicle,
            "seed": plan.seed,
            "minutes": plan.minutes,
            "warm_up_minutes": plan.warm_up_minutes,
            "every_s": plan.every_s,
            "ran_s": self.ran_s,
            "real_time_factor": frames * FRAME_S / self.ran_s if self.ran_s else 0.0,
            **self._heard,
            **self.account.figures(),
            "processes": {name: summary(use, 60.0 * plan.warm_up_minutes) for name, use in self.watch.uses.items()},
        }


def finish(run: Run, more: dict[str, Any], targets: tuple[Path, ...], console: Console) -> None:
    """Print the figures, with `more` beside them, and write them to every target, if the run had begun."""
    if run.watch is None:
        console.print("ended before the driving began: there is nothing to write")
        return
    figures = {**run.figures(), **more}
    show(figures, console)
    document = with_origin("soak", figures, PACKAGES)
    for file in targets:
        write_json(file, document)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print what was counted, and a row per process."""
    view = Table(title=f"{figures['ran_s'] / 60.0:.1f} minutes of {figures['task']}, {figures['vehicle']}")
    for column in ("process", "CPU %", "max", "RSS MiB", "max", "PSS MiB", "growth %/h"):
        view.add_column(column, justify="left" if column == "process" else "right")
    for name, found in figures["processes"].items():
        cpu, rss, pss = found["cpu_percent"], found["rss_mib"], found["pss_mib"]
        view.add_row(
            name,
            f"{cpu['mean']:.1f}",
            f"{cpu['max']:.1f}",
            f"{rss['median']:.1f}",
            f"{rss['max']:.1f}",
            "-" if pss is None else f"{pss:.1f}",
            grown(found["growth"]),
        )
    console.print(view)
    for node, stages in figures["stages_ms"].items():
        for name, found in stages.items():
            console.print(f"{node} {name} ms: " + ", ".join(f"{level} {found[level]:.2f}" for level in LEVELS))
    for name in ("planner", "gate", "episodes", "finetuning", "frames_without_command", "worker_deaths"):
        console.print(f"{name}: {json.dumps(figures[name])}", soft_wrap=True, markup=False)


def grown(growth: dict[str, Any] | None) -> str:
    """A growth with its interval."""
    if growth is None:
        return "too short a run"
    low, high = growth["ci95"]
    return f"{growth['percent_per_hour']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    soak()
