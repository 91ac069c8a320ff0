"""`adawm pretrain`: from nothing to a model folder that drives."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from adawm_planner.cli.options import json_option, overwrite_option, refuse_to_replace, writable_folder
from adawm_planner.result_file import write_json

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--preset", default="default", show_default=True, help="Named patch of the configuration.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration instead of the packaged pretraining.yaml.",
)
@click.option(
    "--data", type=FOLDER, default=None, callback=writable_folder, help="Driven episodes [default: data/PRESET]."
)
@click.option(
    "--run",
    "run_folder",
    type=FOLDER,
    default=None,
    callback=writable_folder,
    help="Checkpoints and logs [default: runs/PRESET].",
)
@click.option(
    "--output", type=FOLDER, default=None, callback=writable_folder, help="Model folder to write [default: RUN/model]."
)
@overwrite_option
@json_option
def pretrain(
    preset: str,
    config_file: Path | None,
    data: Path | None,
    run_folder: Path | None,
    output: Path | None,
    overwrite: bool,
    json_file: Path | None,
) -> None:
    """Train world model and policy from nothing; called again, a killed run goes on."""
    from adawm_planner.config.presets import load_pretraining
    from adawm_planner.pretraining.collect import rig_factory
    from adawm_planner.pretraining.model_card import write_card
    from adawm_planner.pretraining.pipeline import FACTS_FILE, read_facts
    from adawm_planner.pretraining.pipeline import pretrain as run_pipeline
    from adawm_planner.runtime.export import export_model

    if output is not None:  # the run's own folder is written again when a run that was killed there goes on
        refuse_to_replace(output, overwrite)
    config = load_pretraining(config_file, preset)
    data, run_folder = data or Path("data") / preset, run_folder or Path("runs") / preset
    output = output or run_folder / "model"
    console = Console()
    factory = rig_factory(config.collection.task, config.collection.vehicle)
    final = run_pipeline(config, data, run_folder, factory, console)
    export_model(final, output, lambda folder: write_card(folder, run_folder, []))
    console.print(f"Model written to {output}; score it with: adawm evaluate --model-dir {output}")
    facts = read_facts(run_folder / FACTS_FILE)
    write_json(json_file, {"schema": "adawm.pretraining/1", "model": str(output), "facts": facts})
