"""Documents "adawm.adaptation/1" of many runs in; summary, Markdown and figures out.

Episodes of one run share one adapted model, and all runs of all strategies drive the same evaluation episodes. Tests
pair strategies by run seed and episode seed, and every run with the one of `none`. One run says nothing of how much
runs differ, so its intervals and tests are over its episodes alone; of several runs they widen with what differs
between runs and between episode seeds, and are never narrower than if every episode stood for itself: outcomes that
happen to be all the same leave doubt, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from adawm_planner.adaptation.strategies import STRATEGIES
from adawm_planner.data_types import Float64
from adawm_planner.evaluation.compare import exact_mcnemar
from adawm_planner.evaluation.metrics import Z_95, wilson_interval

KEPT_DETAIL = ("seed", "outcome", "duration_s", "ttc_min_s")
NOTE = (
    "Success (95 % interval over runs and episodes, number of runs); - or + : significantly below or above `adawm` "
    "(p < 0.05, not corrected for the number of tests; of one run by the exact McNemar test over its episodes, of "
    "several by the larger p of that test over all of them and of a t-test with what differs between runs and episode "
    "seeds). The mean is over shifts that all strategies have. `before` is `none`; `back home` is success on the "
    "pretraining task with what `adawm` learnt."
)
Document = dict[str, Any]

UNSEEDED = ("none",)
"""Strategies that train nothing: a run's seed changes no outcome, so that one run stands for every seed."""


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
    """95 % interval of success: Wilson's over all episodes, wider by what `_spread` finds."""
    values = _matrix(_successes(runs, runs[0]["strategy"]))
    rate, spread = float(values.mean()), _spread(values)
    alone = math.sqrt(rate * (1.0 - rate) / values.size)  # standard error, if every episode stood for itself
    z = max(Z_95, spread.half_width / alone) if spread else Z_95
    return list(wilson_interval(int(values.sum()), values.size, z))


def paired(documents: Sequence[Document], ours: str, other: str) -> Document:
    """Difference of success, ours minus the other's, over common run and episode seeds; one of UNSEEDED has all.

    Of one run: exact McNemar test, and Bonett and Price's interval (J. Educ. Behav. Stat. 37, 2012), which does not
    collapse where few pairs differ; it is approximate, and at p near 0.05 may not agree with the test about 0. Of
    several: the larger p-value of that test over all pairs and of Student's t with `_spread`, and the wider interval.
    Few runs bound the spread between runs poorly, so their t asks for a large difference.
    """
    left, right = (_successes(documents, name) for name in (ours, other))
    if other in UNSEEDED:
        right = dict.fromkeys(left, next(iter(right.values())))
    runs = left.keys() & right.keys()
    if not runs:
        return {"runs": 0}
    differences = _matrix({run: left[run] for run in runs}) - _matrix({run: right[run] for run in runs})
    better, worse, count = int((differences > 0.0).sum()), int((differences < 0.0).sum()), differences.size + 2
    centre, changed = (better - worse) / count, (better + worse + 2) / count
    half, p_value = Z_95 * math.sqrt((changed - centre**2) / count), exact_mcnemar(better, worse)
    if spread := _spread(differences):
        half = max(half, spread.half_width)
        p_value = max(p_value, 2.0 * float(stats.t.sf(abs(differences.mean()) / spread.error, spread.freedom)))
    return {
        "runs": len(runs),
        "episodes": differences.size,
        "difference": float(differences.mean()),
        "ci95": [centre - half, centre + half],
        "p_value": p_value,
    }


def _matrix(by_run: dict[int, dict[int, float]]) -> Float64:
    """Success (runs, episode seeds), of the seeds that all runs drove."""
    seeds = sorted(set.intersection(*map(set, by_run.values())))
    return np.array([[by_run[run][seed] for seed in seeds] for run in sorted(by_run)], np.float64)


@dataclass(frozen=True)
class Spread:
    """How well several runs tell a mean."""

    error: float  # standard error, above 0
    freedom: float  # degrees of freedom of the error

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return float(stats.t.isf(0.025, self.freedom)) * self.error


def _spread(values: Float64) -> Spread | None:
    """Spread of the mean of values (runs, episode seeds); None for one run or seed, or where all values are the same.

    Runs and episode seeds are crossed: every run drives the same seeds. So the variance is that of clustering by both
    (Cameron, Gelbach and Miller 2011), never below that of either or of single episodes; degrees of freedom after
    Satterthwaite.
    """
    runs, seeds = values.shape
    if min(runs, seeds) < 2 or (values == values[0, 0]).all():
        return None
    single = float(values.var(ddof=1)) / values.size
    by_run, by_seed = (float(values.mean(axis).var(ddof=1)) / n for axis, n in ((1, runs), (0, seeds)))
    variance = max(single, by_run, by_seed, by_run + by_seed - single)
    noise = by_run**2 / (runs - 1) + by_seed**2 / (seeds - 1) + single**2 / (values.size - 1)
    return Spread(math.sqrt(variance), variance**2 / noise)


def _successes(documents: Sequence[Document], strategy: str) -> dict[int, dict[int, float]]:
    return {
        run["seed"]: {each["seed"]: float(each["outcome"] == "success") for each in run["after"]["detail"]}
        for run in documents
        if run["strategy"] == strategy
    }


def _means(rows: Sequence[Document]) -> Document:
    """Success over those shifts that all strategies have, and how many they are."""
    names = _names(rows)
    whole = [row for row in rows if all(name in row["strategies"] for name in names)]
    rates = {name: [row["strategies"][name]["success_rate"] for row in whole] for name in names}
    means = {name: float(np.mean(each)) for name, each in rates.items() if each}
    return {"shifts": len(whole), "success_rate": means}


def _names(rows: Sequence[Document]) -> list[str]:
    """Strategies that any shift has, in their own order."""
    return [name for name in STRATEGIES if any(name in row["strategies"] for row in rows)]


def to_markdown(summary: Document) -> str:
    """The table for people: success after adaptation, 95 % interval over episodes, and against `adawm`."""
    names = _names(summary["rows"])
    lines = [
        "| task | vehicle | before | " + " | ".join(names) + " | back home |",
        "|---|---|---|" + "---|" * (len(names) + 1),
    ]
    for row in summary["rows"]:
        before = next(iter(row["strategies"].values()))["before"]
        cells = [_cell_text(row, name) for name in names]
        home = f"{row['strategies']['adawm']['source_after']:.2f}" if "adawm" in row["strategies"] else ""
        lines.append(f"| {row['task']} | {row['vehicle']} | {before:.2f} | " + " | ".join(cells) + f" | {home} |")
    shifts, means = (summary["mean_over_shifts"][key] for key in ("shifts", "success_rate"))
    if means:
        of = f"mean of {shifts} of {len(summary['rows'])} shifts"
        lines.append(f"| {of} | | | " + " | ".join(f"{means[name]:.3f}" for name in names) + " | |")
    return "\n".join(lines) + f"\n\n{NOTE}\n"


def _cell_text(row: Document, name: str) -> str:
    values = row["strategies"].get(name)
    if values is None:
        return ""
    test = row["adawm_against"].get(name, {})
    sign = ("-" if test["difference"] > 0 else "+") if test.get("p_value", 1.0) < 0.05 else ""
    low, high = values["ci95"]
    return f"{values['success_rate']:.2f}{sign} ({low:.2f}-{high:.2f}, {values['runs']})"


def figures(documents: Sequence[Document], folder: Path) -> None:
    """One picture per shift: success against environment steps, and both mismatch scores over rounds.

    Lines are of the newest student after each round; a star is the one that a run ended with, after the trial's steps.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for task, vehicle in dict.fromkeys((each["task"], each["vehicle"]) for each in documents):
        here = [each for each in documents if (each["task"], each["vehicle"]) == (task, vehicle)]
        figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6))
        for name in dict.fromkeys(each["strategy"] for each in here):
            runs = [each for each in here if each["strategy"] == name]
            colour = _line(axes[0], name, [[(p["env_steps"], p["success_rate"]) for p in run["curve"]] for run in runs])
            ends = [(_steps(run), run["after"]["success_rate"]) for run in runs if run["trial"]]
            axes[0].scatter(*zip(*ends, strict=True) if ends else ((), ()), marker="*", color=colour)
            for axis, part in ((axes[1], "dynamics"), (axes[2], "policy")):
                _line(axis, name, [[(r["round"], r[f"{part}_mismatch"]) for r in run["rounds"]] for run in runs])
        for axis, title, x in zip(
            axes,
            ("success (star: after the trial)", "dynamics mismatch", "policy mismatch"),
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


def _steps(run: Document) -> int:
    """Decisions driven in the rounds and in the trial."""
    return int(run["env_steps"] + run["trial"]["env_steps"])


def _line(axis: Any, name: str, runs: Sequence[Sequence[tuple[float, float]]]) -> Any:
    """Mean over runs at each point that all of them have, and each run as a faint line; returns their colour."""
    shortest = min(map(len, runs))
    if not shortest:
        return None
    values = np.array([run[:shortest] for run in runs])
    (line,) = axis.plot(values[0, :, 0], values[:, :, 1].mean(0), label=name)
    for run in values:
        axis.plot(run[:, 0], run[:, 1], color=line.get_color(), alpha=0.2, linewidth=0.8)
    return line.get_color()
