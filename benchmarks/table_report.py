"""Documents "adawm.adaptation/1" of many runs in; summary, Markdown and figures out.

Episodes of one run share one adapted model, and all runs of all strategies drive the same evaluation episodes. Tests
pair strategies by run seed and episode seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adawm_planner.data_types import Float64
from adawm_planner.evaluation.metrics import wilson_interval

KEPT_DETAIL = ("seed", "outcome", "duration_s", "ttc_min_s")
BOOTSTRAP = 4000
Document = dict[str, Any]


def compact(document: Document) -> Document:
    """The document with four fields per episode: committed results of many runs have to stay small."""
    slim = dict(document)
    for name in ("before", "after", "source_after"):
        detail = [{key: episode[key] for key in KEPT_DETAIL} for episode in document[name]["detail"]]
        slim[name] = {**document[name], "detail": detail}
    return slim


def summarise(documents: Sequence[Document]) -> Document:
    """Success per shift and strategy with intervals, and paired tests of `adawm` against each other strategy."""
    shifts = list(dict.fromkeys((each["task"], each["vehicle"]) for each in documents))
    rows = []
    for task, vehicle in shifts:
        here = [each for each in documents if (each["task"], each["vehicle"]) == (task, vehicle)]
        names = list(dict.fromkeys(each["strategy"] for each in here))
        cells = {name: cell([each for each in here if each["strategy"] == name]) for name in names}
        tests = {name: paired(here, "adawm", name) for name in names if "adawm" in names and name != "adawm"}
        rows.append({"task": task, "vehicle": vehicle, "strategies": cells, "adawm_against": tests})
    return {"rows": rows, "mean_over_shifts": _means(rows)}


def cell(runs: Sequence[Document]) -> Document:
    """One strategy on one shift.

    Without the time to collision, which runs give by the definition of their day: a mean could mix two.
    """
    rates = [run["after"]["success_rate"] for run in runs]
    episodes = sum(run["after"]["episodes"] for run in runs)
    successes = sum(round(run["after"]["success_rate"] * run["after"]["episodes"]) for run in runs)
    return {
        "runs": len(runs),
        "episodes": episodes,
        "success_rate": successes / episodes,
        "success_by_run": rates,
        "ci95": interval(runs),
        "run_standard_error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else None,
        "before": float(np.mean([run["before"]["success_rate"] for run in runs])),
        "collision_rate": float(np.mean([run["after"]["collision_rate"] for run in runs])),
        "timeout_rate": float(np.mean([run["after"]["timeout_rate"] for run in runs])),
        "source_after": float(np.mean([run["source_after"]["success_rate"] for run in runs])),
        "wall_s": float(np.mean([run["wall_s"] for run in runs])),
    }


def interval(runs: Sequence[Document]) -> list[float]:
    """95 % interval of success: Wilson's for one run, else by the bootstrap over runs and episode seeds."""
    if len(runs) == 1:
        after = runs[0]["after"]
        return list(wilson_interval(round(after["success_rate"] * after["episodes"]), after["episodes"]))
    by_run = _successes(runs, runs[0]["strategy"])
    return [float(value) for value in np.quantile(_redrawn(_matrix(by_run, sorted(by_run))), [0.025, 0.975])]


def paired(documents: Sequence[Document], ours: str, other: str) -> Document:
    """Difference of success, ours minus the other's, over common run and episode seeds.

    Runs and episode seeds are crossed: every run drives the same seeds. So the bootstrap behind interval and p-value
    draws runs and seeds, each for all of the other. Few runs bound the spread between runs poorly.
    """
    left, right = (_successes(documents, name) for name in (ours, other))
    runs = sorted(left.keys() & right.keys())
    if not runs:
        return {"runs": 0}
    differences = _matrix(left, runs) - _matrix(right, runs)
    drawn = _redrawn(differences)
    below, above = float((drawn <= 0.0).mean()), float((drawn >= 0.0).mean())
    return {
        "runs": len(runs),
        "episodes": differences.size,
        "difference": float(differences.mean()),
        "ci95": [float(value) for value in np.quantile(drawn, [0.025, 0.975])],
        "p_value": min(1.0, 2.0 * max(min(below, above), 1.0 / BOOTSTRAP)),
    }


def _matrix(successes: dict[int, dict[int, float]], runs: Sequence[int]) -> Float64:
    """Success (runs, episode seeds)."""
    seeds = sorted(set.intersection(*(set(successes[run]) for run in runs)))
    return np.array([[successes[run][seed] for seed in seeds] for run in runs], np.float64)


def _redrawn(values: Float64) -> Float64:
    """Means (BOOTSTRAP,) of values (runs, episode seeds), both drawn anew."""
    rng, (runs, seeds) = np.random.default_rng(0), values.shape
    chosen = ((rng.integers(runs, size=runs), rng.integers(seeds, size=seeds)) for _ in range(BOOTSTRAP))
    return np.array([values[np.ix_(run, seed)].mean() for run, seed in chosen])


def _successes(documents: Sequence[Document], strategy: str) -> dict[int, dict[int, float]]:
    return {
        run["seed"]: {each["seed"]: float(each["outcome"] == "success") for each in run["after"]["detail"]}
        for run in documents
        if run["strategy"] == strategy
    }


def _means(rows: Sequence[Document]) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row["strategies"]))
    whole = [row for row in rows if all(name in row["strategies"] for name in names)]
    return {name: float(np.mean([row["strategies"][name]["success_rate"] for row in whole])) for name in names if whole}


def to_markdown(summary: Document) -> str:
    """The table for people: success after adaptation, 95 % interval over episodes, and against `adawm`."""
    names = list(dict.fromkeys(name for row in summary["rows"] for name in row["strategies"]))
    lines = [
        "| task | vehicle | before | " + " | ".join(names) + " | back home |",
        "|---|---|---|" + "---|" * (len(names) + 1),
    ]
    for row in summary["rows"]:
        before = next(iter(row["strategies"].values()))["before"]
        cells = [_cell_text(row, name) for name in names]
        home = row["strategies"]["adawm"]["source_after"] if "adawm" in row["strategies"] else math.nan
        lines.append(f"| {row['task']} | {row['vehicle']} | {before:.2f} | " + " | ".join(cells) + f" | {home:.2f} |")
    means = summary["mean_over_shifts"]
    if means:
        lines.append("| mean | | | " + " | ".join(f"{means[name]:.3f}" for name in names) + " | |")
    note = "\n\nSuccess (95 % interval over runs and episodes, number of runs); - or + : significantly below or"
    return (
        "\n".join(lines)
        + note
        + " above `adawm` (paired bootstrap over runs and episodes, p < 0.05, not corrected for the number of tests)."
        + " `before` is `none`; `back home` is success on the pretraining task with what `adawm` learnt.\n"
    )


def _cell_text(row: Document, name: str) -> str:
    values = row["strategies"].get(name)
    if values is None:
        return ""
    test = row["adawm_against"].get(name, {})
    sign = ("-" if test["difference"] > 0 else "+") if test.get("p_value", 1.0) < 0.05 else ""
    low, high = values["ci95"]
    return f"{values['success_rate']:.2f}{sign} ({low:.2f}-{high:.2f}, {values['runs']})"


def figures(documents: Sequence[Document], folder: Path) -> None:
    """One picture per shift: success against environment steps, and both mismatch scores over rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for task, vehicle in dict.fromkeys((each["task"], each["vehicle"]) for each in documents):
        here = [each for each in documents if (each["task"], each["vehicle"]) == (task, vehicle)]
        figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6))
        for name in dict.fromkeys(each["strategy"] for each in here):
            runs = [each for each in here if each["strategy"] == name]
            _line(axes[0], name, [[(p["env_steps"], p["success_rate"]) for p in run["curve"]] for run in runs])
            for axis, part in ((axes[1], "dynamics"), (axes[2], "policy")):
                _line(axis, name, [[(r["round"], r[f"{part}_mismatch"]) for r in run["rounds"]] for run in runs])
        for axis, title, x in zip(
            axes,
            ("success", "dynamics mismatch", "policy mismatch"),
            ("environment steps", "round", "round"),
            strict=True,
        ):
            axis.set(title=title, xlabel=x)
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize=7)
        figure.suptitle(f"{Path(task).stem}, {Path(vehicle).stem}")
        figure.tight_layout()
        figure.savefig(folder / f"{Path(task).stem}-{Path(vehicle).stem}.png", dpi=110)
        pyplot.close(figure)


def _line(axis: Any, name: str, runs: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Mean over runs at each point that all of them have, and each run as a faint line."""
    shortest = min(map(len, runs))
    if not shortest:
        return
    values = np.array([run[:shortest] for run in runs])
    (line,) = axis.plot(values[0, :, 0], values[:, :, 1].mean(0), label=name)
    for run in values:
        axis.plot(run[:, 0], run[:, 1], color=line.get_color(), alpha=0.2, linewidth=0.8)
