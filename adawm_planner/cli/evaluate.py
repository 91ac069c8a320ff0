"""`adawm evaluate`: tasks and drivers in, one table line and one JSON document per pair out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adawm_planner.cli.options import (
    check_seeds,
    episodes_option,
    json_option,
    model_options,
    seed_option,
    vehicle_option,
)
from adawm_planner.config.seeds import EVALUATION_SEED, episode_seeds
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.closed_loop import CutShort, EvaluationConfig, check
from adawm_planner.evaluation.closed_loop import evaluate as run
from adawm_planner.evaluation.compare import compare, matching
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.evaluation.pilots import PILOTS, WORLD_MODEL
from adawm_planner.evaluation.report import Evaluation, read_json, table, to_document, write_evaluations
from adawm_planner.origin import Start
from adawm_planner.simulator.tasks import BUILT_IN_TASKS, load_task, load_vehicle

PACKAGES = ("libsumo", "onnxruntime", "numpy")
"""Whose versions a result names."""

INTERRUPTED_EXIT = 130
LOG_PERIOD_S = 10.0
"""Least time between two progress lines where there is no terminal [s]."""


@click.command()
@click.option(
    "--task",
    "tasks",
    multiple=True,
    default=("right_turn_moderate",),
    show_default=True,
    help="Task name, a YAML file, or 'all'; may be given several times.",
)
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    default=(WORLD_MODEL,),
    show_default=True,
    type=click.Choice(PILOTS),
    help="Who drives; may be given several times.",
)
@episodes_option(20)
@seed_option(EVALUATION_SEED)
@vehicle_option
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to use.")
@model_options
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Adapter bundle to drive with; once per part.",
)
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Public key of the bundles' signer, or a folder of them.",
)
@click.option(
    "--gate/--no-gate",
    default=False,
    show_default=True,
    help="Let the safety gate decide what reaches the vehicle, and count its interventions.",
)
@click.option("--allow-unsigned", is_flag=True, help="Take bundles without asking for a signature.")
@click.option(
    "--compare",
    "reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON of an earlier `evaluate` or `drive`: show where the outcome of a seed differs.",
)
@json_option
def evaluate(
    tasks: tuple[str, ...],
    drivers: tuple[str, ...],
    episodes: int,
    seed: int,
    vehicle: str,
    workers: int,
    model_dir: Path | None,
    provider: str,
    adapters: tuple[Path, ...],
    trust: tuple[Path, ...],
    gate: bool,
    allow_unsigned: bool,
    reference: Path | None,
    json_file: Path | None,
) -> None:
    """Drive episodes in closed loop, in process, without ROS, and print a table of the results."""
    check_seeds(seed, episodes)
    check_signers(adapters, trust, allow_unsigned)
    start, references = Start.now(), read_json(reference) if reference else []
    configs = [
        EvaluationConfig(
            task, vehicle, driver, episodes, seed, workers, model_dir, provider, adapters, trust, allow_unsigned, gate
        )
        for task in expand(tasks)
        for driver in drivers
    ]
    check(configs)
    check_comparable(configs, references)
    console, documents, interrupted = Console(), [], False
    try:
        for config in configs:
            evaluation = with_progress(config)
            documents.append(to_document(evaluation) | start.origin(PACKAGES))
            if interrupted := len(evaluation.episodes) < evaluation.requested:
                break
    except KeyboardInterrupt:
        interrupted = True
    except CutShort as error:
        documents.append(to_document(error.evaluation) | start.origin(PACKAGES))
        raise
    finally:  # after an error too: what was driven before it is not lost
        finish(console, documents, references, json_file)
    if interrupted:
        console.print("[yellow]interrupted: only the finished episodes are reported[/]")
        raise SystemExit(INTERRUPTED_EXIT)


def expand(tasks: tuple[str, ...]) -> list[str]:
    """Replace 'all' by the built-in tasks, each task once."""
    return list(dict.fromkeys(name for task in tasks for name in (BUILT_IN_TASKS if task == "all" else (task,))))


def check_signers(adapters: Sequence[Path], trust: Sequence[Path], allow_unsigned: bool) -> None:
    """Raise UsageError where bundles come without a word about their signers, or the other way round."""
    if not adapters and (trust or allow_unsigned):
        raise click.UsageError("--trust and --allow-unsigned are about bundles: give --adapter DIR as well")
    if adapters and not trust and not allow_unsigned:
        raise click.UsageError("bundles are verified: give --trust with the signer's .pub, or --allow-unsigned")


def check_comparable(configs: Sequence[EvaluationConfig], references: list[dict[str, Any]]) -> None:
    """Raise ValueError where the earlier run that a comparison would take shares no seed with what will be driven."""
    for config in configs:
        pair = {"task": load_task(config.task).name, "vehicle": load_vehicle(config.vehicle).name}
        other = matching({**pair, "driver": config.driver}, references)
        if other is None:
            continue
        seeds, earlier = episode_seeds(config.seed, config.episodes), sorted(each["seed"] for each in other["detail"])
        if not any(seed in seeds for seed in earlier):
            advice = f"its first is {earlier[0]}: give --seed {earlier[0]}" if earlier else "it has no episode at all"
            raise ValueError(
                f"--compare: {pair['task']} with {pair['vehicle']} would be driven on seeds {seeds[0]} to {seeds[-1]}, "
                f"the earlier run has none of them; {advice}"
            )


def with_progress(config: EvaluationConfig) -> Evaluation:
    """Run one evaluation under a progress bar; a log file instead gets a line now and then."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("success {task.fields[success]}"), console=console) as progress:
        name = escape(f"{config.task} {config.driver}")
        bar = progress.add_task(name, total=config.episodes, success=0)
        done, successes, shown = 0, 0, -LOG_PERIOD_S

        def advance(episode: EpisodeResult) -> None:
            nonlocal done, successes, shown
            done, successes = done + 1, successes + (episode.outcome is Outcome.SUCCESS)
            progress.update(bar, advance=1, success=successes)
            if not console.is_terminal and time.monotonic() - shown >= LOG_PERIOD_S:
                shown = time.monotonic()
                console.print(f"{name}: {done} of {config.episodes}, success {successes}")

        return run(config, advance)


def finish(
    console: Console, documents: list[dict[str, Any]], references: list[dict[str, Any]], json_file: Path | None
) -> None:
    """Write the JSON of what was finished and print the tables: in this order, as a console may fail."""
    if not documents:
        return
    reasons = [add_comparison(document, references) for document in documents]
    if json_file is not None:
        write_evaluations(json_file, documents)
    console.print(table(documents))
    for document in documents:
        show_interventions(console, document)
    for document, reason in zip(documents, reasons, strict=True):
        show_comparison(console, document, matching(document, references), reason)


def add_comparison(document: dict[str, Any], references: list[dict[str, Any]]) -> str:
    """Compare with the earlier run of the same task and vehicle.

    Returns:
        Why it cannot be compared, in which case the document is kept as it is; "" where it is, or nobody asked for it.
    """
    other = matching(document, references)
    if other is None:
        return f"nothing to compare {document['task']} with {document['vehicle']} to" if references else ""
    try:
        document["comparison"] = compare(document, other).to_json()
    except ValueError as error:  # an interrupted run may not have come to the earlier one's seeds
        return f"{document['task']} with {document['vehicle']} is not compared: {error}"
    return ""


def show_interventions(console: Console, document: dict[str, Any]) -> None:
    """Print how often each rule of the gate changed a command, if there was a gate."""
    task = escape(document["task"])
    for rule, count in document.get("interventions", {}).items():
        console.print(f"{task}, gate: {rule} changed {count['frames']} commands in {count['episodes']} episodes")


def show_comparison(console: Console, document: dict[str, Any], other: dict[str, Any] | None, reason: str) -> None:
    """Print how far this run agrees with an earlier one, and the seeds where it does not; or why nobody can say."""
    if reason:
        console.print(f"[yellow]{escape(reason)}[/]")
    if other is None or "comparison" not in document:
        return
    pair = document["comparison"]
    console.print(
        f"{escape(document['task'])}: same outcome for {pair['same_outcome']} of {pair['seeds']} seeds "
        f"(McNemar p = {pair['mcnemar_p']:.3g})"
    )
    if not pair["differing"]:
        return
    view = Table("seed", f"this run ({document['driver']})", f"earlier ({other['driver']})", box=SIMPLE_HEAD)
    for row in pair["differing"]:
        view.add_row(str(row["seed"]), row["first"], row["second"])
    console.print(view)
