"""Shifts x strategies x seeds: what each way to adapt is worth, from the same data and updates.

Every run is an `adawm adapt` of its own; as many go on at a time as there are workers. A finished run is never
repeated and a killed one goes on, so this command is called again until its table is whole.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adawm_planner.adaptation.harness import Cell, baseline_of, first_difference
from adawm_planner.adaptation.rollouts import check_place
from adawm_planner.adaptation.strategies import STRATEGIES
from adawm_planner.cli.adapt import run_options
from adawm_planner.cli.options import json_option, mistake_in
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation, with_steps
from adawm_planner.config.mapping import to_mapping
from adawm_planner.origin import checkout
from adawm_planner.processes import Interrupted, interruptible
from adawm_planner.result_file import write_json, write_text
from adawm_planner.runtime.model_files import digest
from benchmarks.record import ROOT, with_origin
from benchmarks.table_report import UNSEEDED, compact, figures, summarise, to_markdown

SHIFTS = {
    ("right_turn_dense", "nominal"): 0.5,
    ("left_turn_moderate", "nominal"): 1.0,
    ("left_turn_dense", "nominal"): 1.5,
    ("roundabout_moderate", "nominal"): 0.5,
    ("right_turn_moderate", "overloaded"): 0.5,
    ("right_turn_moderate", "worn_brakes"): 0.5,
    ("right_turn_moderate", "late_brakes"): 0.5,
    ("roundabout_moderate", "worn_brakes"): 1.0,
}
"""Task and vehicle of each shift: four of the task, three of the vehicle, one of both; and which share of the
configured rounds it gets, the same for every strategy: a left turn is learnt half as fast, and so are two shifts at
once. The milder vehicle presets and low friction cost the base model nothing, see docs/adaptation.md."""

UNUSED = {
    "none": ("select", "lora", "actor_lora", "subunits", "policy_adapter", "trial"),
    "full": ("select", "lora", "actor_lora", "subunits", "policy_adapter"),
    "model": ("select", "actor_lora", "subunits", "policy_adapter"),
    "policy": ("select", "lora"),
    "alternate": ("select",),
}
"""Parts of the configuration that make no difference to a strategy: it does not obey the decision, which is only
written down then; it trains nothing, no policy, or all weights."""

RESULTS = ROOT / "benchmarks" / "results" / "adaptation"
POLL_S = 1.0
UNKNOWN = {"commit": None, "clean_checkout": None}
"""In place of a `checkout` that nobody noted."""


@dataclass(frozen=True)
class Wanted:
    """What a result has to be of."""

    model_digest: str
    config: AdaptationConfig

    def steps(self, task: str, vehicle: str) -> int:
        """Decisions of a run at a shift; a shift that is not of the table gets all rounds."""
        rounds = round(SHIFTS.get((task, vehicle), 1.0) * self.config.rounds)
        return max(1, rounds) * self.config.rollouts.decisions

    def settings(self, task: str, vehicle: str) -> dict[str, Any]:
        """What such a result says of its model and configuration."""
        config = with_steps(self.config, self.steps(task, vehicle))
        return {"model_digest": self.model_digest, "config": to_mapping(config)}


@dataclass(frozen=True)
class Where:
    """Files of the benchmark."""

    runs: Path
    results: Path

    def result(self, cell: Cell) -> Path:
        """Compact result of a finished run."""
        return self.results / "runs" / f"{cell.name}.json"

    def log(self, cell: Cell) -> Path:
        """What the run printed."""
        return self.runs / f"{cell.name}.log"

    def driven(self, cell: Cell) -> Path:
        """Full result of the run."""
        return self.runs / cell.name / "adaptation.json"

    def checkouts(self, cell: Cell) -> Path:
        """What the run was driven with: a list of `checkout`, the one it began with first."""
        return self.runs / f"{cell.name}.checkouts.json"


@click.command()
@click.option(
    "--shift",
    "shifts",
    multiple=True,
    callback=lambda context, option, shifts: parse(shifts),
    help="TASK:VEHICLE; may be given several times [default: all eight].",
)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    type=click.Choice(list(STRATEGIES)),
    default=list(STRATEGIES),
    help="May be given several times [default: all].",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Runs per cell; of `none` one, whose seed changes nothing.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Runs at a time, one core each."
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/table"),
    show_default=True,
    help="Folder of the runs.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder of results, table and figures [default: benchmarks/results/adaptation, or with a preset "
    "the folder of its runs].",
)
@run_options
@json_option
def table(
    shifts: list[tuple[str, str]],
    strategies: tuple[str, ...],
    seeds: int,
    workers: int,
    runs: Path,
    results: Path | None,
    preset: str,
    config_file: Path | None,
    model_dir: Path,
    cache: Path,
    json_file: Path | None,
) -> None:
    """Adapt with every strategy on every shift; finished runs are kept."""
    wanted = Wanted(digest(model_dir), load_adaptation(config_file, preset))
    baseline_of(
        model_dir, wanted.model_digest, wanted.config
    )  # what every run needs is missed here and not in each of their logs
    where = Where(runs / preset, results or (RESULTS if preset == "default" else runs / preset))
    cells = [
        Cell(*shift, strategy, seed)
        for seed in range(seeds)
        for shift in shifts
        for strategy in strategies
        if seed == 0 or strategy not in UNSEEDED
    ]
    shared = ["--preset", preset, "--model-dir", str(model_dir), "--cache", str(cache)]
    if config_file is not None:
        shared += ["--config", str(config_file)]
    console = Console()
    done = finished(cells, where, wanted)
    waiting = [
        (cell, [*shared, "--steps", str(wanted.steps(cell.task, cell.vehicle))]) for cell in cells if cell not in done
    ]
    try:
        with interruptible():
            failed = run_all(waiting, where, workers, console)
    except Interrupted as error:
        console.print(f"[yellow]{error}; the running ones are ended and go on when called again[/]")
        raise SystemExit(128 + error.signum) from error
    report(everything(where, wanted), failed, where, json_file, console)


def report(
    documents: list[dict[str, Any]], failed: list[str], where: Where, json_file: Path | None, console: Console
) -> None:
    """Write and print the table of the finished runs. Raises ClickException when there are none or some failed."""
    if not documents:
        raise click.ClickException(f"no run finished; see the logs in {where.runs}")
    summary = summarise(documents)
    write_text(where.results / "table.md", to_markdown(summary))
    figures(documents, where.results)
    console.print(to_markdown(summary), highlight=False)
    write_json(json_file or where.results / "table.json", with_origin("table", summary, ("torch", "peft", "libsumo")))
    if failed:
        raise click.ClickException(f"{len(failed)} runs failed: {', '.join(failed)}; see the logs in {where.runs}")


def parse(shifts: Sequence[str]) -> list[tuple[str, str]]:
    """Shifts from TASK:VEHICLE; all where none is given. Raises BadParameter for what is no known task and vehicle."""
    pairs = [tuple(shift.split(":")) for shift in shifts]
    for shift, pair in zip(shifts, pairs, strict=True):
        if len(pair) != 2:
            raise click.BadParameter(f"'{shift}' is not TASK:VEHICLE, as in left_turn_moderate:heavy")
        with mistake_in("--shift"):
            check_place(*pair)
    return [(task, vehicle) for task, vehicle in pairs] or list(SHIFTS)


def finished(cells: Sequence[Cell], where: Where, wanted: Wanted) -> set[Cell]:
    """Cells whose results are there already. Raises ValueError as `result_of`."""
    there = {cell for cell in cells if where.result(cell).exists()}
    for cell in there:
        result_of(where.result(cell), wanted, cell)
    return there


def everything(where: Where, wanted: Wanted) -> list[dict[str, Any]]:
    """All results that are there, whichever of them this call was asked for: a part never replaces the whole table.

    Raises ValueError as `result_of`.
    """
    documents = [result_of(path, wanted) for path in where.results.glob("runs/*.json")]

    def place(document: dict[str, Any]) -> tuple[int, str, str, int, int]:
        shift = (document["task"], document["vehicle"])
        order = list(SHIFTS).index(shift) if shift in SHIFTS else len(SHIFTS)
        return order, *shift, list(STRATEGIES).index(document["strategy"]), document["seed"]

    return sorted(documents, key=place)


def result_of(path: Path, wanted: Wanted, cell: Cell | None = None) -> dict[str, Any]:
    """A result, of this cell if one is given: a file's name has no folder of a task or vehicle given by path.

    Raises ValueError for a damaged one, or one of another cell, model or configuration.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        settings = wanted.settings(document["task"], document["vehicle"])
        settings |= asdict(cell) if cell else {}
        unused = UNUSED.get(document["strategy"], ())
        difference = first_difference(
            without(unused, {key: document[key] for key in settings}), without(unused, settings)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the result of a run ({error}); remove it") from error
    if difference:
        raise ValueError(f"{path}: of another run, {difference}; choose another --results or remove it")
    return document


def without(unused: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those parts of the configuration that a strategy does not use."""
    config = {name: value for name, value in settings["config"].items() if name not in unused}
    return {**settings, "config": config}


def run_all(cells: list[tuple[Cell, list[str]]], where: Where, workers: int, console: Console) -> list[str]:
    """Run the cells, each with its options, `workers` at a time; return the names of those that failed.

    None runs on after this.
    """
    waiting, running, failed = list(cells), dict[subprocess.Popen[bytes], Cell](), list[str]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                cell, options = waiting.pop(0)
                running[start(cell, where, options)] = cell
                console.print(f"{time.strftime('%H:%M:%S')} {cell.name}: started, {len(waiting)} wait", highlight=False)
            time.sleep(POLL_S)
            for process in [each for each in running if each.poll() is not None]:
                failed += finish(process, running.pop(process), where, console)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def driven_with(cell: Cell, where: Where) -> list[dict[str, Any]]:
    """Checkouts that drove a run so far; of one that was begun without noting it, the first is not known."""
    path = where.checkouts(cell)
    if path.exists():
        noted: list[dict[str, Any]] = json.loads(path.read_text())
        return noted
    return [UNKNOWN] if (where.runs / cell.name).exists() else []


def start(cell: Cell, where: Where, options: list[str]) -> subprocess.Popen[bytes]:
    """Start one run in a process of its own, and note the checkout that drives it from here on."""
    where.runs.mkdir(parents=True, exist_ok=True)
    earlier, now = driven_with(cell, where), checkout()
    if now not in earlier and not where.driven(cell).exists():
        write_json(where.checkouts(cell), [*earlier, now])
    folder = where.runs / cell.name
    words = ["--task", cell.task, "--vehicle", cell.vehicle, "--strategy", cell.strategy, "--seed", str(cell.seed)]
    command = [sys.executable, "-m", "adawm_planner.cli.main", "adapt", *words, *options, "--run", str(folder)]
    with where.log(cell).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], cell: Cell, where: Where, console: Console) -> list[str]:
    """Keep the compact result of a run that ended; return its name if it failed.

    It is of the commit that the run began with; `went_on_at` names the others, where a killed run went on with them.
    """
    source = where.driven(cell)
    if process.returncode != 0 or not source.exists():
        console.print(f"{cell.name}: failed, see {where.log(cell)}", highlight=False)
        return [cell.name]
    first, *later = driven_with(cell, where)
    document: dict[str, Any] = compact(json.loads(source.read_text())) | first
    if later:
        document["went_on_at"] = later
    write_json(
        where.result(cell),
        with_origin("adapt", document, ("torch", "peft", "libsumo")) | {"schema": document["schema"]},
    )
    rates = " -> ".join(f"{document[name]['success_rate']:.3f}" for name in ("before", "after"))
    console.print(f"{cell.name}: success {rates}", highlight=False)
    return []
