"""SIGKILL of the finetuner at random moments while the planner drives: what is left on the disk, and who notices.

The whole stack over DDS as `adawm drive` starts it, on a vehicle that the base model does not fit, so that rounds,
bundles and swaps are under way when a kill comes. After each kill, and before the next life, everything on the disk is
read: the replay, the memory of the rounds, and every bundle against its signature.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify_folder
from adawm_planner.cli.drive import FOLDER, wants_finetuner
from adawm_planner.cli.options import SEED, FiniteRange, json_option, model_options
from adawm_planner.cli.story import FILE, Files, make_folder, prepare
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.finetuning.memory import Known, bundle_folder, read_known
from adawm_planner.finetuning.replay_store import ReplayStore
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import ChildDied, Children, Interrupted, interruptible, release, ros_environment
from adawm_planner.result_file import write_json
from adawm_planner.ros.node_table import FINETUNER, GUARDS, STACKS, node_command
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
from benchmarks.record import with_origin
from benchmarks.soak import Account

if TYPE_CHECKING:
    from benchmarks.soak_listener import SoakListener

RUNS = Path("runs/kills")
RESULT = "kills.json"
PACKAGES = ("onnxruntime", "torch", "peft", "ros-rclpy", "ros-fastrtps", "libsumo")
START_S, END_S, LAST_S = 30.0, 20.0, 600.0
"""Longest wait [s] for a life to begin; for all its processes to be gone, and for the planner's next account then; and
for the round that shows at the end that it goes on."""

AGAIN = 'while read -r _ < "$0"; do "$@"; done'
"""A life of the finetuner for each line that comes down the named pipe $0: who is killed is not asked to start again
before the disk has been looked at."""


@dataclass(frozen=True)
class Disk:
    """What a kill left."""

    decisions: int = 0  # in the replay
    quarantined: int = 0  # torn chunks that were set aside
    known: Known = field(default_factory=lambda: Known(""))
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Life:
    """One life of the finetuner."""

    lived_s: float
    doing: str  # phase that it told last; empty: none yet
    round: int  # done, in all lives
    bundles: int  # made, in all lives
    decisions: int  # on disk
    quarantined: int
    frames: int  # that the planner answered, in all


@click.command()
@click.option("--kills", "count", type=click.IntRange(min=1), default=200, show_default=True, help="How many.")
@click.option(
    "--longest", type=FiniteRange(min=0.5), default=40.0, show_default=True, help="Longest life of the finetuner [s]."
)
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task name, or a YAML file.")
@click.option("--vehicle", default="worn_brakes", show_default=True, help="Vehicle preset, or a YAML file.")
@click.option("--preset", default="quick", show_default=True, help="The finetuner's.")
@click.option(
    "--seed", type=SEED, default=EVALUATION_SEED, show_default=True, help="Of the first episode and the moments."
)
@click.option("--run", "run_folder", type=FOLDER, help="New folder of logs and state [default: runs/kills/TIME].")
@click.option("--source-dir", type=FOLDER, default=SOURCE_DIR, show_default=True, help="Source rollouts of the model.")
@click.option("--finetuner-params", type=FILE, help="ROS parameter file of the finetuner, over the shipped one.")
@model_options
@json_option
def kills(
    count: int,
    longest: float,
    task: str,
    vehicle: str,
    preset: str,
    seed: int,
    run_folder: Path | None,
    source_dir: Path,
    finetuner_params: Path | None,
    model_dir: Path | None,
    provider: str,
    json_file: Path | None,
) -> None:
    """SIGKILL of the finetuner at random moments beside a driving planner: what it costs, and what is lost."""
    plan = {"task": load_task(task).name, "vehicle": load_vehicle(vehicle).name, "preset": preset, "longest_s": longest}
    require_ros()
    if find_spec("psutil") is None:
        raise ModuleNotFoundError("no module 'psutil'", name="psutil")
    console, model = Console(highlight=False), model_dir or default_model_dir()
    prepare(model, source_dir, preset, console)
    wants_finetuner(True, None, console, source_dir)
    files = Files(run_folder or RUNS / time.strftime("%Y%m%d-%H%M%S"))
    make_folder(files)
    settings = stack_settings(task, vehicle, 0, seed, False, True, model, provider)
    settings |= finetuner_settings(None, files.state, source_dir)
    rounds = files.logs / "kills.param.yaml"
    rounds.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"preset": preset, "round_decisions": 500}}}))
    more = tuple(filter(None, (rounds, finetuner_params)))
    os.environ.update(ros_environment(os.environ))
    console.print(f"ROS domain {os.environ['ROS_DOMAIN_ID']}; logs and state in {files.folder}", soft_wrap=True)
    run, ended, code = Run(files, settings, more, random.Random(seed), console), "all kills were done", 0
    try:
        with interruptible(), Children(files.logs) as children:
            run.drive(children, count, longest)
    except Interrupted as error:
        ended, code = str(error), 128 + error.signum
    except ChildDied as error:
        ended, code = str(error), 1
    figures = {**plan, "seed": seed, "ended": ended.splitlines()[0], **run.figures()}
    for file in filter(None, (files.folder / RESULT, json_file)):  # also of a campaign that was cut short
        write_json(file, with_origin("kills", figures, PACKAGES))
    show(figures, console)
    if code:
        console.print(f"{ended}\nall processes are ended", style="yellow", markup=False, soft_wrap=True)
    if code or figures["problems"]:
        raise SystemExit(code or 1)


class Run:
    """One campaign."""

    def __init__(
        self, files: Files, settings: dict[str, Any], more: tuple[Path, ...], rng: random.Random, console: Console
    ) -> None:
        """Start nothing yet; `more` are parameter files of the finetuner, over the shipped one."""
        self._files, self._settings, self._more, self._rng, self._console = files, settings, more, rng, console
        base = read_base_model(Path(settings["model_dir"]))
        self._context = Context(base, read_trust([Path(settings["adapters.trust"])]))
        self.account, self.lives, self.problems = Account(), list[Life](), list[str]()
        self._disk = Disk(known=Known(base.digest))
        self._heard: dict[str, Any] = {}

    @property
    def _gate(self) -> Path:
        return self._files.logs / f"{FINETUNER.name}.begin"

    def drive(self, children: Children, count: int, longest: float) -> None:
        """Start the stack, kill its finetuner so often, and let it live at last.

        Raises:
            ChildDied: a process that the driving needs ended or fell silent, or a life did not begin.
        """
        for node in (*STACKS["sim"], *GUARDS):
            start(node, self._settings, children)
        words = node_command(FINETUNER, FINETUNER.name, self._settings, children.log_dir, self._more)
        os.mkfifo(self._gate)
        shell = children.start(FINETUNER.name, ["sh", "-c", AGAIN, str(self._gate), *words], os.environ)
        # Only after the children: they are forked from this process, which must not have threads by then.
        from benchmarks.soak_listener import SoakListener

        listener = SoakListener()
        try:
            while listener.report is None:
                self._follow(listener, children)
            for number in range(1, count + 1):
                self._live(listener, children, shell, self._rng.uniform(0.0, longest))
                if number % 10 == 0 or number == count:
                    self._console.print(
                        f"{number} kills: {self.lives[-1]}; {len(self.problems)} problems", soft_wrap=True
                    )
            self._go_on(listener, children)
            await_last_report(listener)
        finally:
            report = listener.report
            self._heard = {
                "planner": {} if report is None else report.to_json(),
                "frames_without_command": listener.frames_without_command,
            }
            listener.close()

    def _live(self, listener: SoakListener, children: Children, shell: int, seconds: float) -> None:
        """One life, its end, and a look at what is left."""
        processes = self._begin(listener, children, shell)
        began = time.monotonic()
        listener.finetuner = ""
        while time.monotonic() - began < seconds:
            self._follow(listener, children)
        doing = listener.finetuner.partition(":")[0]
        processes = [*processes, *(each for one in processes for each in one.children(recursive=True))]
        processes[0].kill()
        self._await_end(processes)
        frames = self._driven_on(listener, children)
        disk = look(self._files.state, self._context, self._disk)
        for problem in disk.problems:
            self._problem(problem)
        known, self._disk = disk.known, disk
        self.lives.append(
            Life(round(seconds, 3), doing, known.round, len(known.made), disk.decisions, disk.quarantined, frames)
        )

    def _begin(self, listener: SoakListener, children: Children, shell: int) -> list[Any]:
        """Begin a life; the node's process, in a list."""
        import psutil

        deadline = time.monotonic() + START_S
        begin(self._gate, deadline)
        while not (found := psutil.Process(shell).children()):
            if time.monotonic() > deadline:
                raise ChildDied(f"the finetuner did not start within {START_S:.0f} s; see {children.log_dir}")
            self._follow(listener, children)
        return list(found[:1])

    def _await_end(self, processes: list[Any]) -> None:
        """Wait until all of a life's processes are gone, which nobody but the kernel ends."""
        import psutil

        _, alive = psutil.wait_procs(processes, timeout=END_S)
        if alive:
            self._problem(f"{len(alive)} processes outlived their node by {END_S:.0f} s")
            for each in alive:
                each.kill()

    def _driven_on(self, listener: SoakListener, children: Children) -> int:
        """Frames that the planner has answered, some of them after the kill: two of its accounts since then say so."""
        await_last_report(listener)
        assert listener.report is not None
        before, deadline = listener.report.frames, time.monotonic() + END_S
        while listener.report.frames == before and time.monotonic() < deadline:
            self._follow(listener, children)
        if listener.report.frames == before:
            self._problem(f"the planner answered no frame for {END_S:.0f} s")
        return int(listener.report.frames)

    def _problem(self, text: str) -> None:
        self.problems.append(f"kill {len(self.lives) + 1}: {text}")

    def _go_on(self, listener: SoakListener, children: Children) -> None:
        """Let it live until it has done a round."""
        rounds, deadline = sum(self.account.rounds.values()), time.monotonic() + LAST_S
        begin(self._gate, deadline)
        while sum(self.account.rounds.values()) <= rounds and time.monotonic() < deadline:
            self._follow(listener, children)
        if sum(self.account.rounds.values()) <= rounds:
            self.problems.append(f"after the last kill no round was done within {LAST_S:.0f} s")

    def _follow(self, listener: SoakListener, children: Children) -> None:
        """Take in what happens for a moment."""
        listener.spin(0.05)
        for event in listener.events():
            self.account.take(event)
        children.check()
        check_alive(listener, children.log_dir)

    def figures(self) -> dict[str, Any]:
        """The document, without its origin."""
        return {
            "kills": len(self.lives),
            "problems": self.problems,
            "killed_while": dict(Counter(life.doing or "starting" for life in self.lives)),
            "rounds_done": self._disk.known.round,
            "bundles_made": len(self._disk.known.made),
            "decisions": self._disk.decisions,
            "torn_chunks": sum(life.quarantined for life in self.lives),
            "lives": [asdict(life) for life in self.lives],
            **self._heard,
            **self.account.figures(),
        }


def begin(gate: Path, deadline: float) -> None:
    """Begin a life as soon as the shell waits for it. Raises ChildDied after the deadline (time.monotonic)."""
    while True:
        try:
            return release(gate, "the finetuner")
        except ChildDied:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def look(state: Path, context: Context, before: Disk) -> Disk:
    """Read all that the finetuner keeps, as its next life would.

    Args:
        state: its folder.
        context: whose bundles are believed.
        before: what was there after the kill before; nothing of it may be lost.
    """
    problems, decisions, quarantined = list[str](), before.decisions, 0
    try:
        with ReplayStore(state / "replay") as store:
            decisions, quarantined = sum(1 for _ in store.read()), len(store.quarantined)
    except (ValueError, OSError, RuntimeError) as error:
        problems.append(f"the replay cannot be read: {error}")
    if decisions < before.decisions:
        problems.append(f"the replay lost {before.decisions - decisions} decisions that it had")
    known = before.known
    try:
        known = read_known(state, context.base.digest) or Known(context.base.digest)
    except (ValueError, OSError) as error:
        problems.append(f"the memory cannot be read: {error}")
    if known.round < before.known.round or known.made[: len(before.known.made)] != before.known.made:
        problems.append(f"rounds went back from {before.known.round} to {known.round}, or bundles were forgotten")
    for one in known.made:
        found = verify_folder(bundle_folder(state, one), context, int(time.time()), one.digest)
        if not isinstance(found, VerifiedAdapter):
            problems.append(f"{one.part}-{one.counter}: {found}")
    return Disk(decisions, quarantined, known, tuple(problems))


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the counts, and every problem."""
    planner = figures["planner"]
    console.print(
        f"{figures['kills']} kills ({figures['killed_while']}), {len(figures['problems'])} problems, "
        f"{figures['rounds_done']} rounds, {figures['bundles_made']} bundles, {figures['decisions']} decisions, "
        f"{figures['torn_chunks']} torn chunks set aside; missed ticks {planner.get('missed_ticks')} of "
        f"{planner.get('frames')}, frames without a command {figures['frames_without_command']}",
        soft_wrap=True,
    )
    for problem in figures["problems"]:
        console.print(problem, style="red", markup=False, soft_wrap=True)


if __name__ == "__main__":
    kills()
