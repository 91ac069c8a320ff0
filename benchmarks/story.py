"""The whole story, several times per shift, on seeds that nothing was tuned on: does it hold, and how soon?

Each is an `adawm story` of its own, one at a time: it takes two cores. A finished story is never repeated and a killed
one begins anew, so this command is called again until its table is whole.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console

from adawm_planner.cli.options import json_option
from adawm_planner.config.mapping import to_mapping
from adawm_planner.config.story import load_story
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import Interrupted, interruptible
from adawm_planner.result_file import write_json, write_text
from adawm_planner.runtime.model_files import digest
from adawm_planner.story.phases import Phase
from adawm_planner.story.record import SCHEMA
from benchmarks.record import ROOT, with_origin

SHIFTS = ("right_turn_moderate:worn_brakes", "roundabout_moderate:nominal", "right_turn_dense:nominal")
"""One of the vehicle, two of the task."""

FIRST_SEED, SEEDS_APART = 5000, 1000
"""Evaluation seeds; stories are this far apart, so that no two drive the same episode."""

RESULTS = ROOT / "benchmarks" / "results" / "story"
Document = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """One of the campaign."""

    shift: str
    number: int  # from 0, within its shift

    @property
    def name(self) -> str:
        """Of its folder and result."""
        return f"{self.shift.replace(':', '-')}-{self.number}"

    @property
    def seed(self) -> int:
        """Of its first episode: the same whichever stories are asked for."""
        return FIRST_SEED + SEEDS_APART * (len(SHIFTS) * self.number + SHIFTS.index(self.shift))


@click.command()
@click.option(
    "--shift",
    "shifts",
    multiple=True,
    type=click.Choice(SHIFTS),
    default=SHIFTS[:2],
    show_default=True,
    help="May be given several times.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Stories per shift.")
@click.option("--preset", default="default", show_default=True, help="Length of the phases: default or debug.")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/story-campaign"),
    show_default=True,
    help="Folder of the stories' own folders.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="benchmarks/results/story",
    help="Folder of results and summary.",
)
@json_option
def story(shifts: tuple[str, ...], seeds: int, preset: str, runs: Path, results: Path, json_file: Path | None) -> None:
    """Tell the story on every shift, several times; finished stories are kept."""
    settings = {"config": to_mapping(load_story(preset)), "model_digest": digest(default_model_dir())}
    stories, console = [Story(shift, number) for number in range(seeds) for shift in shifts], Console(highlight=False)
    kept = documents(results, settings)
    failed = []
    try:
        with interruptible():
            for each in stories:
                if each.name not in kept and not tell(each, preset, runs, results, console):
                    failed.append(each.name)
    except Interrupted as error:
        console.print(f"[yellow]{error}; the running story begins anew when this is called again[/]")
        raise SystemExit(128 + error.signum) from error
    found = documents(results, settings)
    if found:
        summary = summarise(found)
        write_text(results / "story.md", to_markdown(summary))
        console.print(to_markdown(summary), soft_wrap=True)
        write_json(json_file or results / "story.json", with_origin("story", summary, ("torch", "peft", "libsumo")))
    if failed:
        raise click.ClickException(f"{len(failed)} stories failed: {', '.join(failed)}; see their logs in {runs}")


def tell(each: Story, preset: str, runs: Path, results: Path, console: Console) -> bool:
    """Run one story from its beginning, and keep its result and figure; tells whether it came to its end."""
    folder, log = runs / each.name, runs / f"{each.name}.log"
    if folder.exists():
        shutil.rmtree(folder)  # of a killed one: a story cannot go on half-way
    folder.mkdir(parents=True)
    console.print(f"{time.strftime('%H:%M:%S')} {each.name}, seeds from {each.seed}: see {log}")
    words = ["--shift", each.shift, "--seed", str(each.seed), "--preset", preset, "--run", str(folder)]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "adawm_planner.cli.main", "story", *words]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
    if code != 0:
        return False
    write_json(results / "stories" / f"{each.name}.json", json.loads((folder / "story.json").read_text()))
    shutil.copy(folder / "story.png", results / "stories" / f"{each.name}.png")
    return True


def documents(results: Path, settings: Document) -> dict[str, Document]:
    """Results that are there, by name.

    Raises:
        ValueError: one is damaged, or of another model or configuration.
    """
    found = {}
    for path in sorted((results / "stories").glob("*.json")):
        try:
            document = json.loads(path.read_text())
            same = document["schema"] == SCHEMA and all(document[key] == value for key, value in settings.items())
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the result of a story ({error}); remove it") from error
        if not same:
            raise ValueError(f"{path}: of another model or configuration; choose another --results or remove it")
        found[path.stem] = document
    return found


def summarise(found: dict[str, Document]) -> Document:
    """Per shift: success in each phase over all stories with its interval, the stories' own, and times to recovery."""
    worlds = {name: document["shifted"] for name, document in found.items()}
    shifts = list(dict.fromkeys((world["task"], world["vehicle"]) for world in worlds.values()))
    rows = []
    for task, vehicle in shifts:
        here = [found[name] for name, world in worlds.items() if (world["task"], world["vehicle"]) == (task, vehicle)]
        recoveries = [each["recovery"] for each in here if each["recovery"] is not None]
        rows.append(
            {
                "task": task,
                "vehicle": vehicle,
                "stories": len(here),
                # The rule that adapts is in the code: stories of several commits may be of several rules.
                "commits": sorted({each["commit"] for each in here}),
                "seeds": [each["seed"] for each in here],
                "recovered": len(recoveries),
                "phases": {phase.value: pooled(here, phase) for phase in Phase},
                "recovery": {key: spread([each[key] for each in recoveries]) for key in recoveries[0]}
                if recoveries
                else None,
                "loads_met_pin": sum(map(loads_met_pin, here)),
                "pushes_met_pin": sum(map(pushes_met_pin, here)),
                "missed_ticks": sum(each["ros"]["missed_ticks"] for each in here),
                "frames": sum(each["ros"]["frames"] for each in here),
                "frames_without_command": sum(each["ros"]["frames_without_command"] for each in here),
            }
        )
    return {"rows": rows}


def pooled(here: Sequence[Document], phase: Phase) -> Document | None:
    """Success of one phase over stories; None where no story came to it."""
    rows = [row for each in here for row in each["phases"] if row["phase"] == phase.value and row["episodes"]]
    if not rows:
        return None
    successes, episodes = sum(row["successes"] for row in rows), sum(row["episodes"] for row in rows)
    rates = [row["success_rate"] for row in rows]
    return {
        "successes": successes,
        "episodes": episodes,
        "success_rate": successes / episodes,
        "success_ci95": list(wilson_interval(successes, episodes)),
        "by_story": rates,
    }


def spread(values: Sequence[float]) -> Document:
    """Median and range."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def loads_met_pin(story: Document) -> int:
    """The operator's loads that the pin refused."""
    return len([each for each in story["operator"] if each["message"].startswith("pinned:")])


def pushes_met_pin(story: Document) -> int:
    """The finetuner's pushes that it refused: the planner tells of the operator's loads as well."""
    told = [each for each in story["refusals"] if each["text"].startswith("pinned:")]
    return max(len(told) - loads_met_pin(story), 0)  # of the last load the planner may not have told yet


def to_markdown(summary: Document) -> str:
    """The summary as a table."""
    lines = [
        "| task | vehicle | before | shifted | recovered | rolled back | stories recovered | episodes to recovery "
        "| driving to recovery | wall time to recovery | loads met the pin | pushes met the pin | commits |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summary["rows"]:
        rates = [_rate(row["phases"][name]) for name in ("nominal", "shifted", "recovered", "rolled_back")]
        times = [
            _spread(row["recovery"], key, unit)
            for key, unit in (("episodes", ""), ("driving_s", " s"), ("wall_s", " s"))
        ]
        pins = str(row["loads_met_pin"]), str(row["pushes_met_pin"])
        counts = [f"{row['recovered']} of {row['stories']}", *times, *pins]
        commits = ", ".join(commit[:7] for commit in row["commits"])
        lines.append("| " + " | ".join([row["task"], row["vehicle"], *rates, *counts, commits]) + " |")
    note = (
        "Success over all episodes of all stories with its 95 % Wilson interval, which takes episodes for independent; "
        "in brackets the lowest and highest of the stories. Times: median (least-most) of the stories that recovered, "
        "from the shift to the end of the window of episodes by which recovery was judged; `recovered` is success on "
        "fresh episodes after that."
    )
    missed = sum(row["missed_ticks"] for row in summary["rows"])
    frames, lost = (sum(row[key] for row in summary["rows"]) for key in ("frames", "frames_without_command"))
    return (
        "\n".join([*lines, "", note, "", f"Missed ticks: {missed} of {frames} frames; without a command: {lost}."])
        + "\n"
    )


def _rate(row: Document | None) -> str:
    if row is None:
        return "-"
    low, high = row["success_ci95"]
    span = f"{min(row['by_story']):.2f}-{max(row['by_story']):.2f}"
    return f"{row['success_rate']:.2f} ({low:.2f}-{high:.2f}) [{span}]"


def _spread(recovery: Document | None, key: str, unit: str) -> str:
    if recovery is None:
        return "-"
    values = recovery[key]
    return f"{values['median']:.0f}{unit} ({values['least']:.0f}-{values['most']:.0f})"
