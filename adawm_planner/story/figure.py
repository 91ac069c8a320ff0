"""A document "adawm.story/1" in, its picture out: success, what was measured, and what was done about it.

Colours are Okabe and Ito's, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from adawm_planner.data_types import Float64
from adawm_planner.evaluation.metrics import wilson_interval

BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
SHADES = {
    "nominal": "#e8f1f8",
    "shifted": "#fbe6da",
    "adapting": "#fdf3dc",
    "recovered": "#dff2ea",
    "rolled_back": "#f0f0f0",
}
WINDOW = 20
"""Episodes of the running success rate; it begins anew with every phase but those that an adapter begins or ends."""

Document = dict[str, Any]


def draw(document: Document, file: Path) -> None:
    """Draw a story. Raises OSError when the file cannot be written."""
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9.0, 5.6), height_ratios=(1.5, 1.0), layout="constrained"
    )
    try:
        _success(above, document)
        _mismatch(below, document)
        for axes in (above, below):
            _shade(axes, document)
            _swaps(axes, document)
        above.set_title(_title(document), fontsize=10, loc="left")
        below.set_xlabel("episode")
        figure.legend(loc="outside lower center", fontsize=8, ncols=6, frameon=False)
        figure.savefig(file, dpi=130)
    finally:
        pyplot.close(figure)


def running(successes: list[bool], starts: list[int], window: int) -> tuple[Float64, Float64, Float64]:
    """Running success rate with Wilson's 95 % interval.

    Args:
        successes: one per episode, (N,).
        starts: episodes before which nothing is looked back on; the first is 0.
        window: episodes looked back at most.

    Returns:
        Rate and both ends of the interval, each (N,).
    """
    rows = []
    for k in range(len(successes)):
        begin = max([k + 1 - window, *(start for start in starts if start <= k)])
        seen = successes[begin : k + 1]
        rows.append((sum(seen) / len(seen), *wilson_interval(sum(seen), len(seen))))
    rate, low, high = np.asarray(rows, dtype=np.float64).reshape(-1, 3).T
    return rate, low, high


def _success(axes: Axes, document: Document) -> None:
    outcomes = [episode["outcome"] == "success" for episode in document["episodes"]]
    starts = [
        row["first_episode"] for row in document["phases"] if row["phase"] in ("nominal", "shifted", "rolled_back")
    ]
    rate, low, high = running(outcomes, starts, WINDOW)
    x = np.arange(1, len(outcomes) + 1)
    axes.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % (Wilson)")
    axes.plot(x, rate, color=BLUE, linewidth=1.8, label=f"success, newest {WINDOW} episodes")
    hit = np.asarray(outcomes, dtype=bool)
    axes.plot(x[hit], np.full(hit.sum(), 1.05), "|", color=GREEN, markersize=5, label="success")
    axes.plot(x[~hit], np.full((~hit).sum(), -0.05), "|", color=VERMILION, markersize=5, label="failure")
    axes.set_ylim(-0.1, 1.28)
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    axes.set_ylabel("success rate")


def _mismatch(axes: Axes, document: Document) -> None:
    rounds = document["rounds"]
    x = [row["episode"] for row in rounds]
    for name, colour, mark in (("dynamics", VERMILION, "o"), ("policy", PURPLE, "s")):
        values, errors = ([row[f"{name}_{what}"] for row in rounds] for what in ("mismatch", "standard_error"))
        axes.errorbar(
            x,
            values,
            1.96 * np.asarray(errors),
            color=colour,
            marker=mark,
            markersize=4,
            capsize=2,
            linewidth=1.2,
            label=f"{name} mismatch",
        )
    for row in rounds:
        if row["trained"] != "nothing":
            highest = max(row["dynamics_mismatch"], row["policy_mismatch"])
            axes.annotate(
                f"{row['trained']} {'repaired' if row['produced'] else 'refused'}",
                (row["episode"], highest),
                xytext=(3, 4),
                textcoords="offset points",
                fontsize=6,
            )
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.margins(y=0.15)
    axes.set_ylabel("above baseline")


def _shade(axes: Axes, document: Document) -> None:
    top = axes.get_subplotspec()
    for row in document["phases"]:
        begin, count = row["first_episode"] + 0.5, row["episodes"]
        axes.axvspan(begin, begin + count, color=SHADES[row["phase"]], zorder=0, linewidth=0)
        if count and top is not None and top.is_first_row():
            name = f"{row['phase'].replace('_', ' ')}\n{row['successes']} of {count}"
            # The first phase is short: its name ends where the next one's begins.
            x, side = (begin + count - 1.0, "right") if row["first_episode"] == 0 else (begin + 0.5, "left")
            axes.text(x, 1.12, name, ha=side, va="bottom", fontsize=7)
    axes.margins(x=0.01)


def _swaps(axes: Axes, document: Document) -> None:
    """A line where other adapters began to drive, with their names."""
    top = axes.get_subplotspec()
    for row in document["driving"]:
        axes.axvline(row["episode"] + 0.5, color="black", linewidth=0.8, linestyle=":")
        if top is not None and not top.is_first_row():
            names = " + ".join(row["adapters"]) or "base model"
            axes.text(
                row["episode"] + 0.5,
                0.02,
                names,
                rotation=90,
                fontsize=6,
                va="bottom",
                ha="right",
                transform=axes.get_xaxis_transform(),
            )


def _title(document: Document) -> str:
    nominal, shifted, recovery = document["nominal"], document["shifted"], document["recovery"]
    change = [f"{nominal[key]} -> {shifted[key]}" for key in ("task", "vehicle") if nominal[key] != shifted[key]]
    end = "not recovered"
    if recovery is not None:
        took = f"{recovery['episodes']} episodes, {recovery['wall_s']:.0f} s"
        end = f"recovered after {took}, {recovery['adapters']} adapters"
    return f"{', '.join(change) or 'no shift'}: {end}"
