"""`adawm adapt`: one finetuning run in process; `adawm baseline`: what it measures mismatch against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adawm_planner.adaptation.strategies import STRATEGIES
from adawm_planner.cli.options import SEED, json_option, vehicle_option, writable_folder
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import write_json

FOLDER = click.Path(file_okay=False, path_type=Path)
MODEL_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
CACHE = Path("data/adaptation")
MOST_STEPS = 10**9
"""More decisions than anybody drives, six years of them; a count without a limit need not fit a float."""


def config_options(command: Any) -> Any:
    """`--preset`, `--config` and `--model-dir`: which model is adapted, and how."""
    options = (
        click.option("--preset", default="default", show_default=True, help="Named patch of the configuration."),
        click.option(
            "--config",
            "config_file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Configuration instead of the packaged adaptation.yaml.",
        ),
        click.option(
            "--model-dir",
            type=MODEL_FOLDER,
            default=default_model_dir,
            show_default="models/base",
            help="Folder of the base model.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Any) -> Any:
    """`config_options` and `--cache`, which every command takes that needs source rollouts."""
    text = "Source rollouts, kept for reuse."
    cached = click.option(
        "--cache", type=FOLDER, default=CACHE, show_default=True, callback=writable_folder, help=text
    )(command)
    return config_options(cached)


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task name, or a YAML file.")
@vehicle_option
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    default="adawm",
    show_default=True,
    help="What each round repairs.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, MOST_STEPS),
    default=None,
    help="Decisions to drive in all, in whole rounds: at least so many [default: the configuration's].",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the run.")
@click.option(
    "--run",
    "run_folder",
    type=FOLDER,
    default=None,
    callback=writable_folder,
    help="Folder of the run [default: runs/adapt/...].",
)
@run_options
@json_option
def adapt(
    task: str,
    vehicle: str,
    strategy: str,
    steps: int | None,
    seed: int,
    run_folder: Path | None,
    preset: str,
    config_file: Path | None,
    model_dir: Path,
    cache: Path,
    json_file: Path | None,
) -> None:
    """Finetune the base model on a task and vehicle; called again, a killed run goes on."""
    from adawm_planner.adaptation.harness import Adaptation, Cell
    from adawm_planner.config.adaptation import load_adaptation, with_steps

    config = load_adaptation(config_file, preset)
    if steps is not None:
        config = with_steps(config, steps)
    cell = Cell(task, vehicle, strategy, seed)
    folder = run_folder or Path("runs/adapt") / preset / cell.name
    document = Adaptation(cell, config, model_dir, cache, folder).execute()
    write_json(json_file, document)  # before it is shown, as a console may fail
    show(document, Console())


@click.command()
@click.option(
    "--rollouts-only",
    is_flag=True,
    help="Only drive the source rollouts, if they are missing; the baseline stays as it is.",
)
@run_options
@json_option
def baseline(
    rollouts_only: bool, preset: str, config_file: Path | None, model_dir: Path, cache: Path, json_file: Path | None
) -> None:
    """Measure the mismatch baseline of a model on its own pretraining task and keep it beside the model."""
    from adawm_planner.adaptation.harness import make_baseline, make_source
    from adawm_planner.adaptation.scores import to_document
    from adawm_planner.config.adaptation import load_adaptation
    from adawm_planner.pretraining.fit import Run

    if rollouts_only and json_file is not None:
        raise click.UsageError("--rollouts-only measures nothing: give it or --json")
    config = load_adaptation(config_file, preset)
    run = Run(Path("runs/adapt/baseline"), 0, config.threads, 1)
    if rollouts_only:
        make_source(model_dir, config, cache, run)
        return
    made = make_baseline(model_dir, config, cache, run)
    write_json(json_file, to_document(made))
    view = Table("score", "mean", "standard deviation", "episodes", box=SIMPLE_HEAD)
    for name, sample in made.samples.items():
        view.add_row(name, f"{sample.mean:.4f}", f"{sample.deviation:.4f}", str(sample.episodes))
    Console().print(view)


def show(document: dict[str, Any], console: Console) -> None:
    """Print rounds and scores of a run."""
    view = Table("round", "steps", "rollouts", "dynamics", "policy", "repaired", box=SIMPLE_HEAD)
    for each in document["rounds"]:
        scores = (f"{each[f'{name}_mismatch']:.4f}" for name in ("dynamics", "policy"))
        repaired = ", ".join(each["updated"]) or "nothing"
        view.add_row(str(each["round"]), str(each["env_steps"]), f"{each['rollout_success']:.2f}", *scores, repaired)
    console.print(view)
    trial = document["trial"]
    if trial["env_steps"]:
        counts = {each["round"]: each["trial"] for each in trial["students"]}
        tried = ", ".join(f"{index} {each['successes']} of {each['episodes']}" for index, each in counts.items())
        console.print(f"kept: round {trial['chosen']}; successes in {trial['env_steps']} trial steps after {tried}")
    for name in ("before", "after", "source_after"):
        values = document[name]
        low, high = values["success_ci95"]
        console.print(
            f"{name:>12}: success {values['success_rate']:.3f} [{low:.3f}, {high:.3f}], collisions "
            f"{values['collision_rate']:.3f}, timeouts {values['timeout_rate']:.3f} over {values['episodes']} episodes "
            f"of {escape(values['task'])}, {escape(values['vehicle'])}"
        )
