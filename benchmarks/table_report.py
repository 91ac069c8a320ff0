"""Documents "adawm.adaptation/1" of many runs in; summary, Markdown and figures out.

The unit of the intervals is the run: episodes of one run share one adapted model. Tests pair strategies by run seed and
episode seed, because all strategies drive the same evaluation episodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    """One strategy on one shift."""
    rates = [run["after"]["success_rate"] for run in runs]
    episodes = sum(run["after"]["episodes"] for run in runs)
    successes = sum(round(run["after"]["success_rate"] * run["after"]["episodes"]) for run in runs)
    ttc = [run["after"]["ttc_min_mean_s"] for run in runs if run["after"]["ttc_min_mean_s"] is not None]
    return {
        "runs": len(runs),
        "episodes": episodes,
        "success_rate": successes / episodes,
        "success_by_run": rates,
        "pooled_ci95": list(wilson_interval(successes, episodes)),
        "run_standard_error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else None,
        "before": float(np.mean([run["before"]["success_rate"] for run in runs])),
        "collision_rate": float(np.mean([run["after"]["collision_rate"] for run in runs])),
        "timeout_rate": float(np.mean([run["after"]["timeout_rate"] for run in runs])),
        "ttc_min_mean_s": float(np.mean(ttc)) if ttc else None,
        "source_after": float(np.mean([run["source_after"]["success_rate"] for run in runs])),
        "wall_s": float(np.mean([run["wall_s"] for run in runs])),
    }


def paired(documents: Sequence[Document], ours: str, other: str) -> Document:
    """Difference of success, ours minus the other's, over common run and episode seeds.

    The interval and p-value come from a bootstrap that draws runs, then episodes within them.
    """
    left, right = (_successes(documents, name) for name in (ours, other))
    runs = sorted(left.keys() & right.keys())
    differences = [
        np.array([left[run][seed] - right[run][seed] for seed in sorted(left[run].keys() & right[run].keys())])
        for run in runs
    ]
    if not differences:
        return {"runs": 0}
    rng = np.random.default_rng(0)
    drawn = np.array([_redraw(differences, rng) for _ in range(BOOTSTRAP)])
    below, above = float((drawn <= 0.0).mean()), float((drawn >= 0.0).mean())
    return {
        "runs": len(runs),
        "episodes": int(sum(map(len, differences))),
        "difference": float(np.mean([each.mean() for each in differences])),
        "ci95": [float(value) for value in np.quantile(drawn, [0.025, 0.975])],
        "p_value": min(1.0, 2.0 * max(min(below, above), 1.0 / BOOTSTRAP)),
    }


def _redraw(differences: Sequence[np.ndarray], rng: np.random.Generator) -> float:
    chosen = rng.integers(len(differences), size=len(differences))
    return float(np.mean([rng.choice(differences[i], len(differences[i])).mean() for i in chosen]))


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
    lines = ["| task | vehicle | before | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for row in summary["rows"]:
        before = next(iter(row["strategies"].values()))["before"]
        cells = [_cell_text(row, name) for name in names]
        lines.append(f"| {row['task']} | {row['vehicle']} | {before:.2f} | " + " | ".join(cells) + " |")
    means = summary["mean_over_shifts"]
    if means:
        lines.append("| mean | | | " + " | ".join(f"{means[name]:.3f}" for name in names) + " |")
    note = (
        "\n\nSuccess (95 % Wilson interval over the pooled episodes, number of runs); - or + : significantly below or"
    )
    return "\n".join(lines) + note + " above `adawm` (paired bootstrap over runs and episodes, p < 0.05).\n"


def _cell_text(row: Document, name: str) -> str:
    values = row["strategies"].get(name)
    if values is None:
        return ""
    test = row["adawm_against"].get(name, {})
    sign = ("-" if test["difference"] > 0 else "+") if test.get("p_value", 1.0) < 0.05 else ""
    low, high = values["pooled_ci95"]
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
