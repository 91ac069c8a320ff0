"""The campaign's document in, its table and docs/faults.md out; figures come from the document alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from adawm_planner.dims import FRAME_S
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.faults.outcome import LAST_COMMANDS, LATE_FRAMES, TRIES
from adawm_planner.faults.repeats import kept_of
from adawm_planner.faults.table import CALM, FAULTS, find

Row = Mapping[str, Any]
COLUMNS = (
    "fault",
    "injected",
    "due",
    "limit s",
    "brake s",
    "frames",
    "state",
    "standstill s",
    "standstill m",
    "rule",
    "runs",
    "promise",
)

INTRODUCTION = """# Injected faults

Planner and gate run as processes of their own over DDS, as `adawm drive` starts them for a vehicle that waits for
nobody. A bridge sends them 20 frames a second by the wall clock: a vehicle of the simulator's dynamics on a straight
road at {speed:.0f} km/h, another one 60 m ahead, and one of its topics, or one of the processes, is broken. The planner
runs its model, but asks for full acceleration whatever comes, so that no stop is its own choice.

```
adawm faults                          # all of it; goes on where it was interrupted
adawm faults --repeats 5              # so many runs of each
adawm faults --list                   # what is injected, and what is due
adawm faults --fault planner_kill --episodes 0
```

The finetuner's fault needs the training packages and the base model's source rollouts
(`adawm baseline --rollouts-only`). This page is written by `adawm faults --page docs/faults.md`.

- `stop` is due: a braking command within the limit, a stop that the gate does not take back by itself, with brakes to
  the end, standstill, and a reason.
- `brake` is due: a braking command within the limit, and a reason; the vehicle may drive on when the cause is gone.
- `drive`: nothing is due. A stop is needless, and so is standstill, a gate that does not let the planner drive at the
  end (it is not in `passing`, and its last {last} commands have no throttle), or one that sends nothing for more than 6
  frames.
- `yield`: a person drives, and nothing is due. The gate is in `overridden` to the end, without a stop; its commands,
  which the bridge ignores then, brake, and none is missing for more than 6 frames.

Times count from the fault to the command's arrival at the vehicle, and so do frames, of 0.05 s. A limit of 0.3 s is 6
frames: what answers the sixth after the first with the fault is the last command that keeps it. Standstill is the
vehicle's own, not what the gate was told. `state` is the furthest that the gate reached. A run in which something
braked before the fault, or in which the machine held up the bridge itself, is repeated, twice at most (`runs`). On a
machine that is busy with something else the stack is late too, and is braked for: `nothing_none` has no fault at all.

Where there are several runs of a fault (`--repeats`), what is done to a process comes at another moment of a frame in
each, and other messages are lost. Times, frames, metres and `runs` are the largest of them, `promise` says how many
kept it, and the rest is of the worst run. The JSON has all of them.

Not injected here: the end of the gate itself, after which nobody brakes but the vehicle, and worlds that wait for
commands. [What comes of both](gate.md#which-stop-answers-what) is measured with the gate's loop and the simulator's
dynamics.
"""


def summarise(rows: Sequence[Row], normal: Row | None) -> dict[str, Any]:
    """Counts over the campaign.

    Args:
        rows: outcomes, as dictionaries.
        normal: account of the normal episodes, None where none were driven.
    """
    due = [row for row in rows if find(row["fault"]).promise.due not in CALM]
    calm = [row for row in rows if find(row["fault"]).promise.due in CALM]
    summary: dict[str, Any] = {
        "faults": len(rows),
        "braking_due": len(due),
        "without_braking_command": sum(row["braked_frames"] is None for row in due),
        "longest_to_brake_s": max((row["braked_s"] for row in due if row["braked_s"] is not None), default=None),
        "none_due": len(calm),
        "needless_stops": sum(bool(row["broken"]) for row in calm),
        "bridge_late": sorted(row["fault"] for row in rows if row["longest_period_s"] > LATE_FRAMES * FRAME_S),
        "promises_broken": sorted(row["fault"] for row in rows if row["broken"]),
    }
    kept, runs = map(sum, zip(*(kept_of(row) for row in rows), strict=True)) if rows else (0, 0)
    if runs != len(rows):
        summary |= {"runs": runs, "runs_broken": runs - kept}
    if normal is not None:
        low, high = wilson_interval(normal["needless"], normal["episodes"])
        summary |= {"normal_needless_ci95": [low, high]}
    return summary


def totals(document: Mapping[str, Any]) -> list[str]:
    """The campaign in a few sentences."""
    summary, normal = document["summary"], document["normal"]
    longest = summary["longest_to_brake_s"]
    lines = [
        f"{summary['faults']} faults{_repeated(summary)}. Braking due: {summary['braking_due']}, of which "
        f"{summary['without_braking_command']} lacked a braking command"
        + ("." if longest is None else f"; the longest took {longest:.2f} s.")
        + f" None due: {summary['none_due']}, of which {summary['needless_stops']} ended in a needless stop."
    ]
    if summary["promises_broken"]:
        lines.append(f"Promises not kept: {', '.join(summary['promises_broken'])}.")
    if summary["bridge_late"]:
        lines.append(
            f"In these the machine held up the bridge itself for more than {LATE_FRAMES:g} frames, in each of {TRIES} "
            f"runs, so that their seconds are not the stack's alone: {', '.join(summary['bridge_late'])}."
        )
    if normal is not None:
        low, high = summary["normal_needless_ci95"]
        lines.append(
            f"Normal driving: {normal['needless']} of {normal['episodes']} episodes of {normal['task']} in real time "
            f"had a needless stop (95 % interval {low:.3f}-{high:.3f}), seeds from {normal['seed']}; "
            f"{_counted(normal['stops'], 'no stops')}, {_counted(normal['responses'], 'no braking by the gate')}."
        )
    return lines


def _repeated(summary: Row) -> str:
    if "runs" not in summary:
        return ""
    return f" in {summary['runs']} runs, {summary['runs_broken']} of which broke their promise"


def table(rows: Sequence[Row]) -> Table:
    """The outcomes for people."""
    view = Table(title="injected faults")
    for column in ("fault", "due", "brake s", "frames", "state", "standstill s", "rule", "promise"):
        view.add_column(column, justify="right" if column in ("brake s", "frames", "standstill s") else "left")
    for row in rows:
        cells = _cells(row)
        view.add_row(*cells, style="red" if row["broken"] else None)
    return view


def markdown(document: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = [
        INTRODUCTION.format(speed=3.6 * document["settings"]["speed_mps"], last=LAST_COMMANDS),
        *(f"{line}\n" for line in totals(document)),
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in document["rows"]:
        fault = find(row["fault"])
        name, due, brake, frames, state, standstill, rule, kept = _cells(row)
        limit = f"{fault.promise.limit_s:g}" if fault.promise.limit_s else "-"
        cells = (name, fault.injected, due, limit, brake, frames, state, standstill, _number(row["standstill_m"], 1))
        spoke = f"`{rule}`" if rule != "-" else rule
        lines.append("| " + " | ".join((*cells, spoke, str(row["tries"]), kept)) + " |")
    lines += _not_run(document["rows"])
    machine, commit, runs = document["machine"], (document["commit"] or "unknown")[:12], _runs_each(document["rows"])
    origin = (
        f"{runs}, the last at commit `{commit}`, {document['utc']}: {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load_before']:.1f}."
    )
    return "\n".join([*lines, "", origin]) + "\n"


def catalogue() -> Table:
    """What is injected, without running anything."""
    view = Table(title=f"{len(FAULTS)} faults")
    for column in ("fault", "injected", "due", "limit s"):
        view.add_column(column)
    for fault in FAULTS:
        limit = f"{fault.promise.limit_s:g}" if fault.promise.limit_s else "-"
        view.add_row(fault.name, fault.injected, fault.promise.due.value, limit)
    return view


def _cells(row: Row) -> tuple[str, ...]:
    frames = "-" if row["braked_frames"] is None else str(row["braked_frames"])
    due = find(row["fault"]).promise.due.value
    standstill, rule = _number(row["standstill_s"], 1), row["rule"] or "-"
    return row["fault"], due, _number(row["braked_s"], 2), frames, row["state"], standstill, rule, _promise(row)


def _promise(row: Row) -> str:
    """What became of the promise, and where there are several runs, in how many of them it was kept."""
    broken, (kept, runs) = row["broken"].partition(":")[0], kept_of(row)
    if runs == 1:
        return broken or "kept"
    return f"kept in {kept} of {runs}" + (f": {broken}" if broken else "")


def _runs_each(rows: Sequence[Row]) -> str:
    """How many runs the rows are of."""
    counts = sorted({kept_of(row)[1] for row in rows} or {0})
    if counts == [1]:
        return "One run each"
    return f"{counts[0]} runs each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs each"


def _not_run(rows: Sequence[Row]) -> list[str]:
    """Name the faults that are injected, but not in this document."""
    run = {row["fault"] for row in rows}
    missing = [fault.name for fault in FAULTS if fault.name not in run]
    return ["", f"Not run yet: {', '.join(f'`{name}`' for name in missing)}."] if missing else []


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _counted(counts: Mapping[str, int], none: str) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).most_common()) or none
