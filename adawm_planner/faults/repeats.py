"""Runs of one fault in, its row of the table out; and how the runs differ from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adawm_planner.dims import FRAME_S
from adawm_planner.faults.table import CALM, Due, find

GOLDEN = 0.6180339887498949
"""Share of the frame period from one run to the next: however many there are, they lie apart."""

SEEDS_APART = 100
"""Between the seeds of two runs: each run takes one per topic."""


def phase_s(repeat: int) -> float:
    """From a frame to what is done to a process in the run of this number, which counts from 0 [s]."""
    return (repeat * GOLDEN) % 1.0 * FRAME_S


def run_name(fault: str, repeat: int) -> str:
    """What a run is kept under; the first one by the fault's own name."""
    return fault if repeat == 0 else f"{fault}.{repeat + 1}"


def row_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row from the outcomes of a fault's runs, as dictionaries.

    It is the worst run's: one that broke the promise before one that kept it, then the slowest to brake. What it took
    to the brakes and to standstill, tries and the bridge's longest period are the largest of any run, and None where
    a run lacks what is due. All of them are in `repeats`, which a single run has not.
    """
    if len(runs) == 1:
        return dict(runs[0])
    due = find(runs[0]["fault"]).promise.due
    never = -1.0 if due in CALM else math.inf  # what it is to a run not to brake
    worst = max(runs, key=lambda each: (bool(each["broken"]), never if each["braked_s"] is None else each["braked_s"]))
    row = dict(worst)
    for key in ("braked_s", "braked_frames"):
        row[key] = _longest([each[key] for each in runs], due not in CALM)
    for key in ("standstill_s", "standstill_m"):
        row[key] = _longest([each[key] for each in runs], due is Due.STOP)
    for key in ("tries", "longest_period_s"):
        row[key] = max(each[key] for each in runs)
    row["repeats"] = [dict(each) for each in runs]
    return row


def kept_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """How many of a row's runs kept the promise, and how many there are."""
    runs = row.get("repeats", [row])
    return sum(not each["broken"] for each in runs), len(runs)


def _longest(found: Sequence[float | None], wanted: bool) -> float | None:
    """The longest; None: a run has none where each is to have one, or none has any."""
    known = [each for each in found if each is not None]
    return None if wanted and len(known) < len(found) else max(known, default=None)
