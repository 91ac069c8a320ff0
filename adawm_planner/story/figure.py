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

from adawm_planner.adapters.factors import PARTS
from adawm_planner.data_types import Float64
from adawm_planner.evaluation.metrics import wilson_interval

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
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
    figure, (above, below, strip) = pyplot.subplots(
        3, 1, sharex=True, figsize=(9.0, 6.2), height_ratios=(1.5, 1.0, 0.24), layout="constrained"
    )
    try:
        _success(above, document)
        _mismatch(below, document)
        _adapters(strip, document)
        for axes in (above, below):
            _shade(axes, document)
            for row in document["driving"]:
                axes.axvline(row["episode"] + 0.5, color="black", linewidth=0.8, linestyle=":")
        _name_phases(above, document)
        above.set_title(_title(document), fontsize=10, loc="left")
        strip.set_xlabel("episode")
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
    axes.set_ylim(-0.1, 1.36)
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
    for row in document["phases"]:
        begin = row["first_episode"] + 0.5
        axes.axvspan(begin, begin + row["episodes"], color=SHADES[row["phase"]], zorder=0, linewidth=0)
    axes.margins(x=0.01)


def _name_phases(axes: Axes, document: Document) -> None:
    """Write each phase's name and count on its shade, on two lines in turns: phases may be shorter than their names."""
    phases = [row for row in document["phases"] if row["episodes"]]
    for k, row in enumerate(phases):
        begin, count = row["first_episode"] + 0.5, row["episodes"]
        name = f"{row['phase'].replace('_', ' ')}: {row['successes']} of {count}"
        late = begin > 0.8 * len(document["episodes"])  # from there a name would leave the picture
        x, side = (begin + count, "right") if late else (begin, "left")
        box = {"facecolor": SHADES[row["phase"]], "edgecolor": "none", "pad": 1.0}
        axes.text(x, 1.12 + 0.11 * (k % 2), name, ha=side, va="bottom", fontsize=7, bbox=box)


def _adapters(axes: Axes, document: Document) -> None:
    """A bar for as long as an adapter drives, a row per part, the adapter's number in it."""
    row_of = {part: (y, colour) for y, (part, colour) in enumerate(zip(PARTS, (VERMILION, PURPLE), strict=True))}
    part_of = {each["name"]: each["part"] for each in document["adapters"]}
    for name, begin, end in spans(document["driving"], len(document["episodes"])):
        if name in part_of:  # else it drove before the story began to listen
            y, colour = row_of[part_of[name]]
            axes.barh(y, end - begin, left=begin + 0.5, color=colour, alpha=0.45, height=0.8, edgecolor="white")
            number = name.removeprefix(f"{part_of[name]}-")
            axes.text(0.5 * (begin + end + 1), y, number, ha="center", va="center", fontsize=6)
    axes.set_yticks(range(len(PARTS)), [f"{part} adapter" for part in PARTS], fontsize=7)
    axes.set_ylim(len(PARTS) - 0.5, -0.5)


def spans(driving: list[Document], episodes: int) -> list[tuple[str, int, int]]:
    """Adapters with the episodes after which each began and ended to drive.

    Args:
        driving: `episode` and `adapters`, whenever other ones drove.
        episodes: count of all, where the last ones end.
    """
    found: list[tuple[str, int, int]] = []
    began: dict[str, int] = {}
    for row in [*driving, {"episode": episodes, "adapters": []}]:
        for name in [each for each in began if each not in row["adapters"]]:
            found.append((name, began.pop(name), row["episode"]))
        for name in row["adapters"]:
            began.setdefault(name, row["episode"])
    return found


def _title(document: Document) -> str:
    nominal, shifted, recovery = document["nominal"], document["shifted"], document["recovery"]
    change = [f"{nominal[key]} -> {shifted[key]}" for key in ("task", "vehicle") if nominal[key] != shifted[key]]
    end = "not recovered"
    if recovery is not None:
        took = f"{recovery['episodes']} episodes, {recovery['wall_s']:.0f} s"
        end = f"recovered after {took}, {recovery['adapters']} adapters"
    return f"{', '.join(change) or 'no shift'}: {end}"
