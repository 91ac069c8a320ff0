"""The benchmarks' committed results in, docs/performance.md out; figures come from the results alone.

A result that is not there is said to be missing, with the command that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adawm_planner.adapters.strict_json import parse
from adawm_planner.origin import SCHEMA
from adawm_planner.result_file import write_text
from benchmarks import targets
from benchmarks.page_sections import (
    Document,
    interval,
    latency,
    origin,
    sidecar,
    soak,
    swap,
    throughput,
    training,
)
from benchmarks.record import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
CARD = ROOT / "models" / "base" / "MODEL_CARD.md"

INTRODUCTION = """# Performance

How fast the stack is, what it uses, and what it misses: each against a floor or a peer in the same run, because a
millisecond of one machine says nothing about another. This page is written by

```
adawm benchmark page
```

from the results in `benchmarks/results/` and the base model's card; every result names its command, commit and machine.
Quantiles of stages are right to 1 %. Times are in ms unless a column says otherwise. The load is the mean of the minute
before the command; in results of commits before 97a9d54 mostly that of the minute before the end, so the measurement's
own.
"""

HOUR_S = 3600.0
Judge = Callable[[Document], tuple[str, bool | None]]
"""A result in, what was measured and whether the promise is kept out; None: not shown either way."""


@dataclass(frozen=True)
class Section:
    """One result and how it is shown."""

    title: str
    file: str  # below the folder of results
    command: str  # that makes it, without `adawm benchmark` and --json
    show: Callable[[Document], list[str]]

    @property
    def benchmark(self) -> str:
        """Its name."""
        return self.command.split()[0]


@dataclass(frozen=True)
class Promise:
    """One line of the table at the top."""

    text: str
    target: str
    file: str  # that shows whether it is kept
    judge: Judge


@click.command()
@click.option(
    "--results",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="benchmarks/results",
    help="Folder of the results.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=PAGE,
    show_default="docs/performance.md",
    help="The page.",
)
def page(results: Path, out: Path) -> None:
    """Write docs/performance.md from the committed results."""
    absent = [section.file for section in SECTIONS if not (results / section.file).is_file()]
    if len(absent) == len(SECTIONS):
        raise click.ClickException(f"{results} holds no result, such as {absent[0]}; {out} stays as it is")
    write_text(out, markdown(results))
    console = Console(highlight=False)
    console.print(f"{out} written from {len(SECTIONS) - len(absent)} results", soft_wrap=True)
    for file in absent:
        console.print(f"missing: {results / file}", soft_wrap=True)


def markdown(results: Path) -> str:
    """The whole page.

    Raises:
        ValueError: a result is damaged or of another benchmark.
        OSError: it cannot be read.
    """
    found = {section.file: read(results / section.file, section) for section in SECTIONS}
    lines = [INTRODUCTION, *promises(results, found)]
    for section in SECTIONS:
        lines += ["", f"## {section.title}", "", *shown(results, section, found[section.file])]
    return "\n".join(lines) + "\n"


def read(file: Path, section: Section) -> Document | None:
    """A result; None where there is none.

    Raises:
        ValueError: it is no result of this benchmark.
        OSError: it cannot be read.
    """
    if not file.is_file():
        return None
    try:
        document = parse(file.read_bytes())
        kind = (document["schema"], document["benchmark"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not the result of a benchmark ({error}); {again(section)}") from error
    if kind != (SCHEMA, section.benchmark):
        raise ValueError(
            f"{file}: {kind[0]} of '{kind[1]}', must be {SCHEMA} of '{section.benchmark}'; {again(section)}"
        )
    found: Document = document
    return found


def again(section: Section) -> str:
    """What to do about a damaged result."""
    return f"measure it again: `adawm benchmark {section.command}`, or restore it"


def guarded(results: Path, section: Section, call: Callable[[], Any]) -> Any:
    """What `call` makes of a section's result. Raises ValueError, naming the file, where something is not in it."""
    try:
        return call()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        text = f"{results / section.file}: {type(error).__name__} {error}: a figure is missing or no number"
        raise ValueError(f"{text}; {again(section)}") from error


def shown(results: Path, section: Section, document: Document | None) -> list[str]:
    """A section's lines."""
    made = f"`adawm benchmark {section.command} --json benchmarks/results/{section.file}`"
    if document is None:
        return [f"Not measured yet: {made} has not been run."]
    return list(guarded(results, section, lambda: [*section.show(document), "", origin(document)]))


def promises(results: Path, found: Mapping[str, Document | None]) -> list[str]:
    """The table at the top."""
    lines = ["| promise | target | measured | kept |", "|---|---|---|---|"]
    sections = {section.file: section for section in SECTIONS}
    for promise in PROMISES:
        document = found[promise.file]
        measured, kept = "not measured yet", None
        if document is not None:
            measured, kept = guarded(results, sections[promise.file], lambda: promise.judge(document))  # noqa: B023
        verdict = "not shown" if kept is None else "yes" if kept else "**no**"
        lines.append(f"| {promise.text} | {promise.target} | {measured} | {verdict} |")
    return [*lines, pretraining(CARD.read_text(encoding="utf-8"))]


def pretraining(card: str) -> str:
    """The line of a promise that the base model's card shows.

    Raises:
        ValueError: the card does not say how long it took.
    """
    told = re.search(r"Collection and training took (\d+) minutes in all", card)
    if told is None:
        raise ValueError(f"{CARD}: does not say how many minutes collection and training took; export the model again")
    minutes = int(told[1])
    verdict = "yes" if minutes <= 60.0 * targets.PRETRAINING_H else "**no**"
    return (
        f"| pretraining from nothing ([model card](../models/base/{CARD.name})) | <= {targets.PRETRAINING_H:g} h | "
        f"{minutes} minutes | {verdict} |"
    )


PLANNER_ONLY = "latency/right_turn_moderate.json"
GATED = "latency/right_turn_moderate_gate.json"
PACED = "latency/right_turn_moderate_gate_realtime.json"
SIDECAR, SWAP = "finetuning/sidecar.json", "adapters/swap.json"
SOAK, LATER = "soak/soak.json", "soak/soak_after.json"
THROUGHPUT, TRAINING = "throughput/right_turn_moderate.json", "adaptation/training.json"

SECTIONS = (
    Section("Sensor to command", PLANNER_ONLY, "latency --frames 2000 --seed 4000", latency),
    Section("Sensor to command, with the gate", GATED, "latency --gate --frames 2000 --seed 4000", latency),
    Section("The same in real time", PACED, "latency --gate --realtime --frames 6000 --seed 4000", latency),
    Section("With a finetuner at full load", SIDECAR, "sidecar --seed 4000", sidecar),
    Section("Swapping adapters", SWAP, "swap", swap),
    Section("An hour of driving", SOAK, "soak --minutes 60", soak),
    Section("The hour after it", LATER, "soak --minutes 60 --seed 6000 --after RUN", soak),
    Section("The environment", THROUGHPUT, "throughput", throughput),
    Section("Updates", TRAINING, "training", training),
)


def _chain(document: Document) -> tuple[str, bool | None]:
    ratio = document["ratio"]["p99"]
    return f"{ratio:.2f}", ratio <= targets.CHAIN_RATIO


def _period(document: Document) -> tuple[str, bool | None]:
    found = document["period"]["planner"]
    kept = all(abs(found[name]) <= limit for name, limit in targets.PERIOD.items())
    text = f"{100.0 * found['mean_error']:+.2f} %, {found['rsd']:.3f}, {found['largest_gap']:.2f} dt"
    return text, kept


def _inference(document: Document) -> tuple[str, bool | None]:
    found = document["stages_ms"]["planner"]["inference"]
    kept = all(found[name] <= limit for name, limit in targets.INFERENCE_MS.items())
    return f"{found['mean']:.1f} ms, {found['max']:.1f} ms", kept


def _slowed(over: str) -> Judge:
    def judge(document: Document) -> tuple[str, bool | None]:
        found = document[over]["p99.9"]
        return interval(found, "ratio"), targets.within(found["ci95"], targets.SIDECAR_RATIO)

    return judge


def _unmissed(document: Document) -> tuple[str, bool | None]:
    missed, without = (document[key]["missed_ticks"] for key in ("with_ms", "without_ms"))
    return f"{missed} with it, {without} without, of {document['with_ms']['frames']:,} each", missed == without == 0


def _flip(document: Document) -> tuple[str, bool | None]:
    longest = document["flip_ms"]["max"]
    return f"{longest:.2f} ms, {document['mixtures']}", longest <= targets.FLIP_MS and document["mixtures"] == 0


def _unmoved(document: Document) -> tuple[str, bool | None]:
    missed = document["missed_ticks"]
    text = f"{missed} of {document['ticks']:,} ({document['missed_ticks_without_swaps']} in fewer without swaps)"
    return text, missed == 0


def _swelled(document: Document) -> tuple[str, bool | None]:
    growth = document["memory_growth"]
    return ("no growth", None) if growth is None else (f"{100 * growth:.2f}", 100 * growth <= targets.GROWTH_PERCENT)


def _whole(judge: Judge) -> Judge:
    """The judgement of an hour, which a shorter run does not allow."""

    def of_an_hour(document: Document) -> tuple[str, bool | None]:
        measured, kept = judge(document)
        if document["ran_s"] >= HOUR_S:
            return measured, kept
        return f"{measured} in only {document['ran_s'] / 60.0:.1f} minutes", None

    return of_an_hour


def _grown(process: str) -> Judge:
    def judge(document: Document) -> tuple[str, bool | None]:
        growth = document["processes"][process]["growth"]
        if growth is None:
            return "no growth", None
        return interval(growth, "percent_per_hour"), targets.within(growth["ci95"], targets.GROWTH_PERCENT)

    return judge


def _driven(document: Document) -> tuple[str, bool | None]:
    missed, frames = document["planner"]["missed_ticks"], document["planner"]["frames"]
    return f"{missed} of {frames:,}", missed == 0


def _resident(document: Document) -> tuple[str, bool | None]:
    megabytes = document["processes"]["adawm_planner"]["rss_mib"]["max"] * 2**20 / 1e6
    return f"{megabytes:.0f} MB", megabytes <= targets.RESIDENT_MB


def _faster(document: Document) -> tuple[str, bool | None]:
    return f"{document['ratio']:.1f}", document["ratio"] >= targets.THROUGHPUT_RATIO


def _cheaper(document: Document) -> tuple[str, bool | None]:
    ratio = document["dynamics"]["ratio"]["seconds_per_update"]
    return f"{ratio:.2f}", ratio >= targets.DYNAMICS_RATIO


PROMISES = (
    Promise(
        "sensor to command with the gate: p99 over as many empty nodes", f"<= {targets.CHAIN_RATIO:g}", GATED, _chain
    ),
    Promise(
        "period of the commands in real time: mean, RSD, largest gap",
        f"+-{100 * targets.PERIOD['mean_error']:g} %, {targets.PERIOD['rsd']:g}, {targets.PERIOD['largest_gap']:g} dt",
        PACED,
        _period,
    ),
    Promise("inference: mean, maximum", "<= {mean:g} ms, {max:g} ms".format(**targets.INFERENCE_MS), PACED, _inference),
    Promise(
        "finetuner at full load: p99.9 over that without",
        f"<= {targets.SIDECAR_RATIO:g}",
        SIDECAR,
        _slowed("with_over_without"),
    ),
    Promise(
        "the same, over that with a core that counts",
        f"<= {targets.SIDECAR_RATIO:g}",
        SIDECAR,
        _slowed("with_over_spinning"),
    ),
    Promise("finetuner at full load: missed ticks", "0 in both", SIDECAR, _unmissed),
    Promise("swap of adapters: longest flip, mixed decisions", f"<= {targets.FLIP_MS:g} ms, 0", SWAP, _flip),
    Promise("swaps beside a busy process: missed ticks", "0", SWAP, _unmoved),
    Promise("all those swaps: growth of memory in %", f"<= {targets.GROWTH_PERCENT:g}", SWAP, _swelled),
    Promise("an hour with the sidecar: missed ticks", "0", SOAK, _whole(_driven)),
    Promise(
        "an hour with the sidecar: most memory of the planner's process",
        f"<= {targets.RESIDENT_MB:g} MB",
        SOAK,
        _whole(_resident),
    ),
    *(
        Promise(
            f"{hour} with the sidecar: growth of the {title}'s memory in % per hour",
            f"<= {targets.GROWTH_PERCENT:g}",
            file,
            _whole(_grown(process)),
        )
        for hour, file in (("an hour", SOAK), ("the hour after it", LATER))
        for title, process in (("planner", "adawm_planner"), ("gate", "adawm_gate"))
    ),
    Promise(
        "environment: decisions per second over highway-env's", f">= {targets.THROUGHPUT_RATIO:g}", THROUGHPUT, _faster
    ),
    Promise(
        "dynamics update: all weights over low rank, by time", f">= {targets.DYNAMICS_RATIO:g}", TRAINING, _cheaper
    ),
)


if __name__ == "__main__":
    page()
