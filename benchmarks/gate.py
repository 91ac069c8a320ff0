"""The shipped model with the safety gate against the same model without it, seed by seed.

The side without is the committed result of `adawm benchmark reference`: an evaluation is repeatable to the last bit.
Speed is compared where both arrive, because an episode that ends in a crash ends early and at speed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from scipy import stats

from adawm_planner.cli.evaluate import with_progress
from adawm_planner.cli.options import episodes_option, json_option, seed_option
from adawm_planner.config.seeds import EVALUATION_SEED, episode_seeds
from adawm_planner.evaluation.closed_loop import EvaluationConfig
from adawm_planner.evaluation.compare import compare, matching
from adawm_planner.evaluation.report import to_document
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import write_json
from adawm_planner.runtime.model_files import digest
from adawm_planner.simulator.tasks import BUILT_IN_TASKS
from benchmarks.record import with_origin
from benchmarks.reference import committed, compact

Document = Mapping[str, Any]


@click.command()
@click.option(
    "--task",
    "tasks",
    multiple=True,
    type=click.Choice(BUILT_IN_TASKS),
    default=BUILT_IN_TASKS,
    show_default="all",
    help="May be given several times.",
)
@episodes_option(200)
@seed_option(EVALUATION_SEED)
@json_option
def gate(tasks: tuple[str, ...], episodes: int, seed: int, json_file: Path | None) -> None:
    """What the safety gate costs and prevents on the built-in tasks."""
    model, rows = digest(default_model_dir()), []
    without = [without_gate(task, model, episode_seeds(seed, episodes)) for task in tasks]  # all of it before the drive
    for task, other in zip(tasks, without, strict=True):
        config = EvaluationConfig(task, "nominal", "world_model", episodes, seed, gate=True)
        rows.append(row(other, compact(to_document(with_progress(config)))))
    Console().print(markdown(rows), soft_wrap=True)
    write_json(json_file, with_origin("gate", {"rows": rows}, ("libsumo", "onnxruntime", "numpy")))


def without_gate(task: str, model: str, seeds: range) -> Document:
    """The committed result. Raises ClickException where there is none of this model and all of these seeds."""
    found = matching({"task": task, "vehicle": "nominal", "driver": "world_model"}, committed())
    if found is None or found["model_digest"] != model:
        raise click.ClickException(
            f"no committed result of model {model[:12]} on {task}; run `adawm benchmark reference --driver world_model`"
        )
    known = {each["seed"] for each in found["detail"]}
    missing = next((seed for seed in seeds if seed not in known), None)
    if missing is not None:
        raise click.ClickException(
            f"the committed result on {task} is of seeds {min(known)} to {max(known)}, seed {missing} is not among "
            "them; give --seed and --episodes within them"
        )
    return found


def row(without: Document, with_gate: Document) -> dict[str, Any]:
    """Both sides of a task, paired by seed."""
    paired = compare(dict(without), dict(with_gate))
    pairs = [(seed, a, b) for seed, a, b in paired.differing]
    return {
        "task": with_gate["task"],
        "success_without": rate(without, paired.seeds, with_gate, "success"),
        "success_with": rate(with_gate, paired.seeds, with_gate, "success"),
        "collisions_without": rate(without, paired.seeds, with_gate, "collision"),
        "collisions_with": rate(with_gate, paired.seeds, with_gate, "collision"),
        "collisions_prevented": sum(a == "collision" for _, a, _ in pairs),
        "collisions_caused": sum(b == "collision" for _, _, b in pairs),
        "duration_ratio": duration_ratio(without, with_gate),
        **paired.to_json(),
        "interventions": with_gate["interventions"],
        "with_gate": with_gate,
    }


def rate(document: Document, seeds: int, common: Document, outcome: str) -> float:
    """Share of an outcome over the common seeds."""
    kept = {each["seed"] for each in common["detail"]}
    return sum(bool(each["outcome"] == outcome) and each["seed"] in kept for each in document["detail"]) / seeds


def duration_ratio(without: Document, with_gate: Document) -> dict[str, Any] | None:
    """Geometric mean of duration with over without, with a 95 % interval; None below two seeds where both arrive.

    Both drive the same way, so it is the inverse ratio of their mean speeds.
    """
    took = [
        {e["seed"]: e["duration_s"] for e in each["detail"] if e["outcome"] == "success"}
        for each in (without, with_gate)
    ]
    logs = np.log([took[1][seed] / took[0][seed] for seed in sorted(took[0].keys() & took[1].keys())])
    if len(logs) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    mean = float(logs.mean())
    return {"pairs": len(logs), "ratio": math.exp(mean), "ci95": [math.exp(mean - half), math.exp(mean + half)]}


def markdown(rows: Sequence[Document]) -> str:
    """The table for people."""
    lines = [
        "| task | success without gate | with | p | collisions without | with | prevented | caused | duration |",
        "|---" * 9 + "|",
    ]
    for each in rows:
        took = each["duration_ratio"]
        ratio = "" if took is None else f"x {took['ratio']:.3f} ({took['ci95'][0]:.3f}-{took['ci95'][1]:.3f})"
        lines.append(
            f"| {each['task']} | {each['success_without']:.1%} | {each['success_with']:.1%} | {each['mcnemar_p']:.2g} "
            f"| {each['collisions_without']:.1%} | {each['collisions_with']:.1%} | {each['collisions_prevented']} "
            f"| {each['collisions_caused']} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    gate()
