"""`adawm faults`: faults injected into planner and gate over DDS, one after another, and what came of each.

Every fault is a process of its own. What has been measured is kept, and not measured again: a campaign that was
interrupted goes on where it was.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adawm_planner.cli.drive import FOLDER, wants_finetuner
from adawm_planner.cli.options import (
    MOST_EPISODES,
    SEED,
    FiniteRange,
    check_seeds,
    json_option,
    mistake_in,
    writable,
    writable_folder,
)
from adawm_planner.faults.repeats import row_of, run_name
from adawm_planner.faults.report import catalogue, markdown, summarise, table, totals
from adawm_planner.faults.run import Settings
from adawm_planner.faults.table import FAULTS, FINETUNER, Fault, find
from adawm_planner.origin import Start, with_origin
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import Children, Interrupted, interruptible, module_command, ros_environment, tail
from adawm_planner.result_file import write_json, write_text
from adawm_planner.runtime.model_files import digest
from adawm_planner.simulator.tasks import load_task
from adawm_planner.stack import SOURCE_DIR, require_ros

BLOCK = 10
"""Normal episodes that are kept together; of an interrupted block nothing is."""

MOST_REPEATS = 1000

POLL_S = 0.2
PACKAGES = ("onnxruntime", "ros-rclpy", "ros-fastrtps", "numpy", "libsumo")


@click.command()
@click.option("--fault", "names", multiple=True, metavar="NAME", show_default="all", help="May be given several times.")
@click.option("--list", "only_list", is_flag=True, help="Show the faults and what is due, and end.")
@click.option(
    "--repeats",
    type=click.IntRange(1, MOST_REPEATS),
    default=1,
    show_default=True,
    help="Runs of each fault. What is done to a process comes at another moment of a frame in each.",
)
@click.option(
    "--episodes",
    type=click.IntRange(0, MOST_EPISODES),
    default=100,
    show_default=True,
    help="Normal episodes in real time, for the rate of needless stops.",
)
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task of the normal episodes.")
@click.option(
    "--seed",
    type=SEED,
    default=5000,
    show_default=True,
    help="Seed of the first normal episode; the others follow by 1.",
)
@click.option("--speed", type=FiniteRange(1.0, 20.0), default=13.89, show_default=True, help="At the fault [m/s].")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/faults"),
    show_default=True,
    callback=writable_folder,
    help="Folder of what has been measured, and of the logs.",
)
@click.option(
    "--source-dir",
    type=FOLDER,
    default=SOURCE_DIR,
    show_default=True,
    help="The base model's source rollouts, for the finetuner's fault.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Write docs/faults.md to this file.",
)
@json_option
def faults(
    names: tuple[str, ...],
    only_list: bool,
    repeats: int,
    episodes: int,
    task: str,
    seed: int,
    speed: float,
    runs: Path,
    source_dir: Path,
    page: Path | None,
    json_file: Path | None,
) -> None:
    """Inject faults into planner and gate, and measure how soon and how the vehicle is stopped."""
    with mistake_in("--fault"):
        chosen = [find(name) for name in names] or list(FAULTS)
    console = Console(highlight=False)
    if only_list:
        if page is not None or json_file is not None:
            raise click.UsageError("--list measures nothing: give it, or --json and --page")
        console.print(catalogue())
        return
    check_seeds(seed, max(episodes, 1))
    ros_environment(os.environ)  # a wrong domain is told before anything is measured
    require_ros()
    if any(fault.where == FINETUNER for fault in chosen):
        wants_finetuner(True, None, console, source_dir)
    start = Start.now()
    load_task(task)
    campaign = Campaign(Settings(speed_mps=speed), task, seed, runs, source_dir.resolve(), console)
    interrupted = None
    try:
        with interruptible():
            campaign.run(chosen, episodes, repeats)
    except Interrupted as error:
        interrupted = error
    report(campaign, chosen, page, json_file, start)
    if interrupted is not None:
        console.print(f"[yellow]{interrupted}; call this again to go on[/]")
        raise SystemExit(128 + interrupted.signum) from interrupted
    if campaign.failed:
        raise click.ClickException(f"could not be measured: {'; '.join(campaign.failed)}")
    if any(row["broken"] for row in campaign.rows(chosen)):
        raise SystemExit(1)


class Campaign:
    """Measures what is missing, and keeps it in a folder."""

    def __init__(
        self, settings: Settings, task: str, seed: int, runs: Path, source_dir: Path, console: Console
    ) -> None:
        """Open the folder.

        Raises:
            ValueError: it holds what was measured otherwise.
        """
        self.settings, self._task, self._seed, self._runs, self._console = settings, task, seed, runs, console
        self._source_dir = source_dir
        self.failed: list[str] = []
        self._normal = f"normal-{Path(task).stem}"  # the task may be a file with a path
        wanted = {"settings": asdict(settings), "task": task, "seed": seed, "model": digest(default_model_dir())}
        kept = runs / "campaign.json"
        if not any(file != kept for file in runs.glob("*.json")):  # nothing measured: any options will do
            write_json(kept, wanted)
        elif read_measured(kept) != wanted:
            raise ValueError(f"{runs} holds a campaign of another model or with other options; choose another --runs")

    def run(self, chosen: Sequence[Fault], episodes: int, repeats: int = 1) -> None:
        """Measure faults and normal episodes, as far as they are not there; every fault once before any again."""
        runs = [(fault.name, repeat) for repeat in range(repeats) for fault in chosen]
        blocks = [(first, min(BLOCK, episodes - first)) for first in range(0, episodes, BLOCK)]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task("", total=len(runs) + len(blocks))
            for fault, repeat in runs:
                name = run_name(fault, repeat)
                progress.update(bar, description=name)
                settings = json.dumps(asdict(self.settings))
                self._measure(name, "run", [fault, str(repeat), settings, str(self._source_dir)])
                progress.advance(bar)
            for first, count in blocks:
                progress.update(bar, description=f"normal episodes from {self._seed + first}")
                name = f"{self._normal}-{self._seed + first}-{count}"
                self._measure(name, "normal", [self._task, str(self._seed + first), str(count)])
                progress.advance(bar)

    def rows(self, chosen: Sequence[Fault]) -> list[dict[str, Any]]:
        """A row for each fault that has a run, in the order of the table, of all its runs that are there."""
        found = ([read_measured(file) for file in self._runs_of(fault.name)] for fault in chosen)
        return [row_of(outcomes) for outcomes in found if outcomes]

    def normal(self) -> dict[str, Any] | None:
        """All normal episodes that are there, each once, in one account."""
        files = distinct(self._runs.glob(f"{glob.escape(self._normal)}-*.json"))
        if not files:
            return None
        found = [read_measured(file) for file in files]
        total: dict[str, Any] = {"task": self._task, "seed": self._seed, "stops": {}, "responses": {}}
        for key in ("episodes", "needless"):
            total[key] = sum(each[key] for each in found)
        for key in ("stops", "responses"):
            for each in found:
                for rule, count in each[key].items():
                    total[key][rule] = total[key].get(rule, 0) + count
        return total

    def _runs_of(self, fault: str) -> list[Path]:
        """Files of a fault's runs, the first one first: asking for fewer of them hides none."""
        again = self._runs.glob(f"{fault}.[0-9]*.json")
        first = [file for file in (self._file(fault),) if file.is_file()]
        return first + sorted(again, key=lambda file: int(file.stem.rsplit(".", 1)[1]))

    def _file(self, name: str) -> Path:
        return self._runs / f"{name}.json"

    def _measure(self, name: str, module: str, words: Sequence[str]) -> None:
        """Run one measurement in a process of its own, which writes its result only when it is whole."""
        if self._file(name).is_file():
            return
        logs, part = self._runs / "logs" / name, self._runs / f"{name}.part"
        command = [*module_command(f"adawm_planner.faults.{module}"), *words, str(logs), str(part)]
        with Children(logs) as children:
            children.start("campaign", command, ros_environment(os.environ))
            while (ending := children.finished("campaign", POLL_S)) is None:
                pass
        if ending != 0:
            self.failed.append(name)
            self._console.print(f"[yellow]{name} could not be measured:[/]")
            self._console.print(tail(logs / "campaign.log", 3), markup=False, soft_wrap=True)
            return
        part.rename(self._file(name))


def distinct(blocks: Iterable[Path]) -> list[Path]:
    """Files of blocks of normal episodes, without those whose seeds are in a longer one: a campaign that was begun with
    fewer episodes has driven the first seeds of its last block in a shorter block as well."""
    seeds: dict[Path, range] = {}
    for file in blocks:
        first, count = map(int, file.stem.rsplit("-", 2)[1:])
        seeds[file] = range(first, first + count)
    kept: list[Path] = []
    counted: set[int] = set()
    for file in sorted(seeds, key=lambda each: (-len(seeds[each]), seeds[each].start)):
        if counted.isdisjoint(seeds[file]):
            counted.update(seeds[file])
            kept.append(file)
    return kept


def read_measured(file: Path) -> dict[str, Any]:
    """What a file of the campaign holds. Raises ValueError naming it where that is no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read ({error}); restore it, or choose another --runs") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}, must hold an object; choose another --runs")
    return content


def report(
    campaign: Campaign, chosen: Sequence[Fault], page: Path | None, json_file: Path | None, start: Start
) -> None:
    """Write JSON and page where they were asked for, and print the table: in this order, as a console may fail."""
    rows, normal = campaign.rows(chosen), campaign.normal()
    if not rows and normal is None:
        return
    figures = {
        "settings": asdict(campaign.settings),
        "summary": summarise(rows, normal),
        "normal": normal,
        "rows": rows,
    }
    document = with_origin("faults", figures, PACKAGES, start)
    write_json(json_file, document)
    if page is not None:
        write_text(page, markdown(document))
    console = Console()
    console.print(table(rows))
    for line in totals(document):
        console.print(line, highlight=False, soft_wrap=True)
