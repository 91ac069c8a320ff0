"""One benchmark's result in, its lines of docs/performance.md out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adawm_planner.origin import without_json
from benchmarks.record import LEVELS

Document = Mapping[str, Any]

SIDES = {"halted": "without_ms", "a core that counts": "spinning_ms", "training": "with_ms"}
RATIOS = {
    "training / halted": "with_over_without",
    "training / counting": "with_over_spinning",
    "counting / halted": "spinning_over_without",
    "halted / halted": "without_over_without",
}
"""Sides of the sidecar benchmark and their ratios: title -> name in the result."""


def origin(document: Document) -> str:
    """Command, commit and machine of a result."""
    words, machine = without_json(document["command"]), document["machine"]
    commit = (document["commit"] or "unknown")[:12]
    changed = "" if document["clean_checkout"] else " with local changes"
    return (
        f"`{' '.join(words)}` at commit `{commit}`{changed}, {document['utc']}: {machine['cpu']}, {machine['cores']} "
        f"cores, load {machine['load_before']:.1f}."
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; the first column is text."""
    head = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def number(value: float, digits: int = 2) -> str:
    """A figure."""
    return f"{value:,.{digits}f}"


def at_levels(found: Mapping[str, float]) -> tuple[str, ...]:
    """Quantiles and maximum."""
    return tuple(number(found[level]) for level in LEVELS)


def interval(found: Mapping[str, Any], value: str) -> str:
    """A figure with its 95 % interval."""
    low, high = found["ci95"]
    return f"{found[value]:.2f} ({low:.2f} to {high:.2f})"


def latency(document: Document) -> list[str]:
    """Round trips of both chains, stages, period."""
    chain = "planner and gate" if document.get("gate") else "planner"
    names = {
        chain: "planner_ms",
        "- frames with a decision": "planner_decision_frames_ms",
        "- other frames": "planner_other_frames_ms",
        "as many empty nodes": "echo_ms",
        "ratio": "ratio",
    }
    pace = "One frame per 0.05 s" if document["realtime"] else "As fast as they are answered"
    lines = [f"{pace}: {document['frames']:,} frames of `{document['task']}`, {document['lost']} lost.", ""]
    lines += table(("", *LEVELS), [(title, *at_levels(document[name])) for title, name in names.items()])
    rows = [
        (f"{node}: {stage}", *at_levels(found), number(found["mean"]), f"{found['count']:,}")
        for node, stages in document["stages_ms"].items()
        for stage, found in stages.items()
    ]
    lines += ["", *table(("stage", *LEVELS, "mean", "frames"), rows)]
    ways = ", ".join(f"{name} {number(value)}" for name, value in document["mean_ms"].items())
    lines += ["", f"Of the mean round trip, which adds up as quantiles do not: {ways}."]
    if document["period"] is not None:
        rows = [
            (
                name.replace("_", " "),
                f"{100.0 * found['mean_error']:+.2f} %",
                number(found["rsd"], 3),
                number(found["largest_gap"]),
            )
            for name, found in document["period"].items()
        ]
        lines += ["", *table(("period of 0.05 s (dt)", "mean off by", "RSD", "largest gap in dt"), rows)]
    return lines


def sidecar(document: Document) -> list[str]:
    """The planner's answer with the finetuner training and halted."""
    rows = [
        (title, *at_levels(document[key]), f"{document[key]['missed_ticks']:,} of {document[key]['frames']:,}")
        for title, key in SIDES.items()
    ]
    lines = table(("finetuner", *LEVELS, "missed ticks"), rows)
    for title, key in RATIOS.items():
        ratios = ", ".join(f"{level} {interval(document[key][level], 'ratio')}" for level in LEVELS)
        lines += ["", f"{title}, with 95 % intervals: {ratios}."]
    return lines


def swap(document: Document) -> list[str]:
    """Swaps between two ticks."""
    rows = [
        (title, *at_levels(document[key]))
        for title, key in (
            ("flip", "flip_ms"),
            ("tick with swaps", "tick_ms"),
            ("tick without", "tick_without_swaps_ms"),
            ("making an engine ready", "make_ready_ms"),
            ("verifying a bundle", "verify_ms"),
        )
    ]
    growth = document["memory_growth"]
    grown = "too short for a growth" if growth is None else f"{100.0 * growth:+.1f} %"
    return [
        f"{document['swaps']:,} swaps in {document['ticks']:,} ticks of {document['tick_period_ms']:g} ms with "
        f"{_counted(document['busy_processes'], 'busy process', 'busy processes')} beside it: "
        f"{document['missed_ticks']} missed ticks ({document['missed_ticks_without_swaps']} in a shorter run without "
        f"swaps), {document['mixtures']} of {document['decisions']:,} decisions that are not exactly one adapter's, "
        f"resident memory {document['resident_mib']:.0f} MiB, {grown} over the run.",
        "",
        *table(("", *LEVELS), rows),
    ]


def soak(document: Document) -> list[str]:
    """An hour of the whole stack."""
    planner, episodes, finetuning = document["planner"], document["episodes"], document["finetuning"]
    rounds = ", ".join(f"{count} trained {part}" for part, count in finetuning["rounds"].items()) or "none"
    stages = ", ".join(f"{count} came to {stage}" for stage, count in finetuning["came_to"].items()) or "none moved"
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in episodes["outcomes"].items()) or "none ended"
    died = document["finetuner_ended"] or "the finetuner ran to the end"
    lines = [
        f"{document['ran_s'] / 60.0:.1f} of {document['minutes']:g} minutes (ended: {document['ended']}) of "
        f"`{document['task']}` with `{document['vehicle']}`, {document['real_time_factor']:.2f} of real time: bridge, "
        "planner, gate and finetuner, each a process. Memory and processor count after "
        f"{document['warm_up_minutes']:g} minutes." + _came_after(document.get("after")),
        "",
        *table(
            ("process", "CPU %", "most", "RSS MiB", "most", "PSS MiB", "growth of RSS, % per hour (95 %)"),
            [_used(name, found) for name, found in document["processes"].items()],
        ),
        "",
        f"- Driving: {planner['frames']:,} frames, {planner['commands']:,} commands, {planner['missed_ticks']} missed "
        f"ticks, {document['frames_without_command']} frames for which the bridge waited in vain.",
        f"- Gate: {document['gate']['limited']:,} commands limited, {document['gate']['stops']:,} braked, of "
        f"{document['gate']['commands_out']:,}.",
        f"- Episodes: {episodes['count']} ({outcomes}).",
        f"- Finetuning: rounds: {rounds}; {finetuning['offered']} adapters offered ({stages}); {finetuning['swaps']} "
        f"swaps, {finetuning['refusals']} refusals.",
        f"- Deaths: {died}; its worker was started anew {document['worker_deaths']} times.",
        "",
    ]
    rows = [
        (f"{node}: {stage}", *at_levels(found), f"{found['count']:,}")
        for node, found_stages in document["stages_ms"].items()
        for stage, found in found_stages.items()
    ]
    return lines + table(("stage", *LEVELS, "frames"), rows)


def _came_after(earlier: Mapping[str, Any] | None) -> str:
    if earlier is None:
        return ""
    committed = earlier["finetuning"]["came_to"].get("committed", 0)
    return (
        f" It begins with the replay, the progress and the {committed} adapters of an earlier run of "
        f"{earlier['ran_s'] / 60.0:.1f} minutes of `{earlier['task']}` with `{earlier['vehicle']}`, seed "
        f"{earlier['seed']} (commit `{earlier['commit'][:12]}`)."
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _used(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    cpu, rss, growth = found["cpu_percent"], found["rss_mib"], found["growth"]
    return (
        f"`{name}`",
        number(cpu["mean"], 1),
        number(cpu["max"], 1),
        number(rss["median"], 1),
        number(rss["max"], 1),
        number(found["pss_mib"], 1),
        "too short a run" if growth is None else interval(growth, "percent_per_hour"),
    )


def throughput(document: Document) -> list[str]:
    """Decisions per second of the environment."""
    rows = [
        (f"`{each['name']}`", number(each["decisions_per_s"], 0), number(each["mean_vehicles"], 1))
        for each in (document["ours"], document["peer"])
    ]
    return [*table(("environment", "decisions/s", "vehicles"), rows), "", f"Ratio {document['ratio']:.1f}."]


def training(document: Document) -> list[str]:
    """Low-rank updates against updates of all weights."""
    rows = [
        (
            f"{part}, {title}",
            f"{1e3 * document[part][kind]['seconds_per_update']:.0f}",
            f"{1.0 / document[part][kind]['seconds_per_update']:.1f}",
            f"{document[part][kind]['trainable']:,}",
        )
        for part in ("dynamics", "policy")
        for kind, title in (("low_rank", "low rank"), ("full", "all weights"))
    ]
    ratios = ", ".join(f"{part} {document[part]['ratio']['seconds_per_update']:.2f}" for part in ("dynamics", "policy"))
    return [
        *table(("update", "ms", "updates/s", "weights"), rows),
        "",
        f"All weights over low rank, by time: {ratios}; {_counted(document['threads'], 'thread', 'threads')}.",
    ]
