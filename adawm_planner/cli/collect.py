"""`adawm collect`: driven and labelled episodes, without any training."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adawm_planner.cli.options import SEED, json_option, writable_folder
from adawm_planner.result_file import write_json

MOST_ROUNDS = 1_000_000


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task, or a YAML file.")
@click.option("--vehicle", default="nominal", show_default=True, help="Vehicle preset, or a YAML file.")
@click.option("--decisions", type=click.IntRange(min=1), default=20000, show_default=True, help="Decisions to store.")
@click.option(
    "--round", "round_index", type=click.IntRange(0, MOST_ROUNDS), default=0, show_default=True, help="Round to fill."
)
@click.option(
    "--weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Drive with this clone or model instead of expert and bad drivers.",
)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes; 0: this one.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Decides which episodes.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data/collected"),
    show_default=True,
    callback=writable_folder,
    help="Folder to store in.",
)
@json_option
def collect(
    task: str,
    vehicle: str,
    decisions: int,
    round_index: int,
    weights: Path | None,
    workers: int,
    seed: int,
    output: Path,
    json_file: Path | None,
) -> None:
    """Drive episodes and store them with the expert's labels; called again, it goes on."""
    from adawm_planner.config.presets import load_pretraining
    from adawm_planner.pretraining.collect import Fleet, Round, collect_round, rig_factory

    config = replace(load_pretraining().collection, task=task, vehicle=vehicle)
    plan = Round(config, seed, round_index, str(weights or ""), sample=weights is not None)
    with Fleet(rig_factory(task, vehicle), workers) as fleet, Progress() as bar:
        line = bar.add_task("drive", total=decisions)
        report = collect_round(
            fleet, plan, output, decisions, lambda done: bar.update(line, completed=min(done, decisions))
        )
        # Before anything is printed, the bar's last line too, as a console may fail.
        write_json(json_file, {"schema": "adawm.collection/1", **asdict(report)})
    table = Table("decisions", "episodes", "outcomes", "seconds")
    table.add_row(str(report.decisions), str(report.episodes), str(report.outcomes), f"{report.seconds:.0f}")
    Console().print(table)
