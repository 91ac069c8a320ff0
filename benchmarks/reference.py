"""All drivers on all built-in tasks, on seeds never used for tuning: the table in docs/tasks.md and the README.

`adawm benchmark reference --json benchmarks/results/reference/all_drivers.json`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adawm_planner.cli.evaluate import with_progress
from adawm_planner.cli.options import episodes_option, json_option, model_options, seed_option, vehicle_option
from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.closed_loop import EvaluationConfig
from adawm_planner.evaluation.pilots import PILOTS
from adawm_planner.evaluation.report import table, to_document
from adawm_planner.result_file import write_json
from adawm_planner.simulator.tasks import BUILT_IN_TASKS
from benchmarks.record import ROOT, with_origin

RESULTS = ROOT / "benchmarks" / "results" / "reference"
EPISODE_FIELDS = ("seed", "outcome", "duration_s", "ttc_min_s")
DIGITS = 4


@click.command()
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    default=PILOTS,
    show_default=True,
    type=click.Choice(PILOTS),
    help="Who drives; may be given several times.",
)
@episodes_option(200)
@seed_option(EVALUATION_SEED)
@vehicle_option
@model_options
@json_option
def reference(
    drivers: tuple[str, ...],
    episodes: int,
    seed: int,
    vehicle: str,
    model_dir: Path | None,
    provider: str,
    json_file: Path | None,
) -> None:
    """Drive all built-in tasks with all drivers, and print one table."""
    documents = []
    for task in BUILT_IN_TASKS:
        for driver in drivers:
            config = EvaluationConfig(task, vehicle, driver, episodes, seed, 1, model_dir, provider)
            documents.append(to_document(with_progress(config)))
    Console().print(table(documents))
    results = [compact(document) for document in documents]
    write_json(json_file, with_origin("reference", {"results": results}, ("libsumo", "onnxruntime", "numpy")))


def compact(document: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation with rounded figures, and of each episode what pairing and timing need."""
    kept = {key: _rounded(value) for key, value in document.items() if key not in ("detail", "comfort_detail")}
    detail = [{key: _rounded(one[key]) for key in EPISODE_FIELDS} for one in document["detail"]]
    return {**kept, "detail": detail}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def committed() -> list[dict[str, Any]]:
    """Results of the committed files."""
    files = sorted(RESULTS.glob("*.json"))
    return [one for file in files for one in json.loads(file.read_text(encoding="utf-8"))["results"]]


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Success with its Wilson interval by task and driver, and how long both good drivers take when they succeed."""
    found = {(one["task"], one["driver"]): one for one in results}
    lines = ["| task | blind | random moment | expert | world model | expert takes | world model takes |"]
    lines.append("|---" * 7 + "|")
    for task in BUILT_IN_TASKS:
        row = {driver: found[(task, driver)] for driver in ("blind", "random", "expert", "world_model")}
        times = [_time_of_success(row[driver]) for driver in ("expert", "world_model")]
        lines.append("| " + " | ".join((f"`{task}`", *map(_success, row.values()), *times)) + " |")
    return "\n".join(lines)


def _time_of_success(one: Mapping[str, Any]) -> str:
    """Mean over the episodes that succeed: one that ends in a crash is short for another reason."""
    times = [each["duration_s"] for each in one["detail"] if each["outcome"] == Outcome.SUCCESS.value]
    return f"{sum(times) / len(times):.1f} s"


def _success(one: Mapping[str, Any]) -> str:
    low, high = one["success_ci95"]
    return f"{100.0 * one['success_rate']:.1f} % ({100.0 * low:.1f}-{100.0 * high:.1f})"
