"""`adawm export`: a trained agent as ONNX, and its model card."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from adawm_planner.cli.options import (
    json_option,
    overwrite_option,
    refuse_to_replace,
    writable_folder,
)
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import write_json

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--agent", type=FOLDER, default=None, help="Folder with config.yaml and weights.safetensors.")
@click.option("--run", "run_folder", type=FOLDER, default=None, help="Pretraining run: its result, its facts.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_model_dir,
    show_default="models/base",
    callback=writable_folder,
    help="Model folder to write.",
)
@click.option("--scores", type=FILE, multiple=True, help="JSON of `adawm evaluate` for the card; repeat for more.")
@overwrite_option
@json_option
def export(
    agent: Path | None,
    run_folder: Path | None,
    output: Path,
    scores: tuple[Path, ...],
    overwrite: bool,
    json_file: Path | None,
) -> None:
    """Write planner.onnx, imagine.onnx, weights, config and the model card, all together or nothing."""
    from adawm_planner.pretraining.model_card import write_card
    from adawm_planner.pretraining.pipeline import FINAL_FOLDER
    from adawm_planner.runtime.export import export_model
    from adawm_planner.runtime.model_files import MODEL_FILES, digest

    if agent is None and run_folder is None:
        raise click.UsageError("give --agent or --run")
    if scores and run_folder is None:
        raise click.UsageError("--scores go into the model card, which is of a run: give --run as well")
    refuse_to_replace(output, overwrite)
    source = agent or (run_folder or Path()) / FINAL_FOLDER

    def complete(folder: Path) -> None:
        if run_folder is not None:
            write_card(folder, run_folder, list(scores))

    export_model(source, output, complete)
    sizes = {name: (output / name).stat().st_size for name in MODEL_FILES}
    Console().print(f"{output}: " + ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
    write_json(json_file, {"schema": "adawm.export/1", "digest": digest(output), "bytes": sizes})
