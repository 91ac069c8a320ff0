"""What one low-rank update costs against one update of all weights, of the dynamics and of the policy, in one run.

Blocks of the four alternate on the same driven episodes, with the functions that `adawm adapt` runs. Not counted
against the full dynamics update: every cached embedding is stale after it and has to be made anew. What a round does
besides its updates (the critic's warm-up, new sub-units at its start) is timed apart.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from adawm_planner.adaptation.adapt_step import FITS
from adawm_planner.adaptation.rollouts import Place, Rollouts, drive, stored
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.student import Student
from adawm_planner.cli.adapt import config_options
from adawm_planner.cli.options import json_option
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation
from adawm_planner.policy.agent import Agent, load_agent
from adawm_planner.pretraining.dataset import Episodes
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.result_file import write_json
from adawm_planner.runtime.model_files import digest
from benchmarks.record import with_origin
from benchmarks.targets import DYNAMICS_RATIO

PARTS = (Part.DYNAMICS, Part.POLICY)
KINDS = {"low_rank": True, "full": False}
BOUND, GOAL = DYNAMICS_RATIO, 5.0
"""Full over low-rank seconds of a dynamics update: what has to be reached, and what is hoped for."""

TENSORS_PER_PARAMETER = 3
"""Its gradient and Adam's two moments."""

MEMORY_UPDATES = 3
MEBI = 2.0**20


class Clock:
    """A progress callback that remembers when updates were done."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self.marks: list[tuple[int, float]] = []  # updates done, time [s]

    def __call__(self, done: int, text: str) -> None:
        """Take the time."""
        self.marks.append((done, time.perf_counter()))

    @property
    def per_update(self) -> float:
        """Seconds per update, the first left out: it also makes the optimizer's state."""
        (first, begun), (last, ended) = self.marks[0], self.marks[-1]
        return (ended - begun) / (last - first)


@dataclass
class Contender:
    """One kind of update and what was measured of it."""

    part: Part
    student: Student
    replay: Replay
    seconds: list[float] = field(default_factory=list)  # per update, of each block
    round_seconds: list[float] = field(default_factory=list)  # of each block, what does not grow with the updates
    trainable: int = 0

    def run_block(self, config: AdaptationConfig, updates: int, seed: int) -> None:
        """Run some updates as a round of adaptation does."""
        clock, begun = Clock(), time.perf_counter()
        report = FITS[self.part](self.student, self.replay, config, updates, seed, clock)
        whole = time.perf_counter() - begun
        self.trainable = report.trainable
        self.seconds.append(clock.per_update)
        self.round_seconds.append(max(0.0, whole - updates * clock.per_update))

    def figures(self) -> dict[str, Any]:
        """What goes into the result; the critic is trained in full along with every policy."""
        critic = count(self.student.agent.critic) if self.part is Part.POLICY else 0
        return {
            "seconds_per_update": median(self.seconds),
            "blocks": self.seconds,
            "seconds_per_round_besides": median(self.round_seconds),
            "trainable": self.trainable,
            "trainable_critic": critic,
            "optimizer_bytes": TENSORS_PER_PARAMETER * torch.float32.itemsize * (self.trainable + critic),
        }


def count(module: nn.Module) -> int:
    """Numbers in a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def make_contender(base: Agent, config: AdaptationConfig, episodes: Episodes, part: Part, low_rank: bool) -> Contender:
    """An update of `part` that begins at the base model, with cached embeddings of its own."""
    student = Student(base, config, low_rank, 0)
    replay = Replay(student.agent.world_model.encoder, episodes, config.fit.discount)
    replay.newest = len(replay)
    return Contender(part, student, replay)


def driven(base: Agent, config: AdaptationConfig, decisions: int, path: Path) -> Rollouts:
    """Rollouts of the base model on the task it was pretrained on, written to `path`."""

    def make() -> Rollouts:
        source = config.rollouts
        with Place(source.source_task, source.source_vehicle) as place:
            return drive(place, base, decisions, source.sampled, source.source_seeds, 0)

    return stored(path, make)


def peak_growth(model_dir: Path, config: AdaptationConfig, path: Path, part: Part, low_rank: bool) -> int | None:
    """Bytes by which a few updates raise the resident memory of a process of their own; None where unknown."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_growth, (model_dir, config, path, part, low_rank))


def _peak_growth(model_dir: Path, config: AdaptationConfig, path: Path, part: Part, low_rank: bool) -> int | None:
    torch.set_num_threads(config.threads)
    base, rollouts = load_agent(model_dir), stored(path, _absent)
    contender = make_contender(base, config, rollouts.episodes, part, low_rank)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on (man 5 proc)
        before = _resident("VmRSS")
        contender.run_block(config, MEMORY_UPDATES, 0)
        return max(0, _resident("VmHWM") - before)
    except OSError:
        return None


def _absent() -> Rollouts:
    raise ValueError("the episodes that were driven for this benchmark are gone")


def _resident(name: str) -> int:
    """A line of this process's memory in /proc, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@click.command()
@click.option("--blocks", type=click.IntRange(min=1), default=3, show_default=True, help="Alternations of the four.")
@click.option("--updates", type=click.IntRange(min=2), default=26, show_default=True, help="Updates per block.")
@click.option(
    "--decisions",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Decisions to drive and learn from.",
)
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure resident memory as well.")
@config_options
@json_option
def training(
    blocks: int,
    updates: int,
    decisions: int,
    memory: bool,
    preset: str,
    config_file: Path | None,
    model_dir: Path,
    json_file: Path | None,
) -> None:
    """Seconds, parameters and memory of low-rank updates against updates of all weights."""
    config, base = load_adaptation(config_file, preset), load_agent(model_dir)
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episodes.npz"
        episodes = driven(base, config, decisions, path).episodes
        contenders = timed(base, config, episodes, blocks, updates)
        peaks = {
            each: peak_growth(model_dir, config, path, each[0], KINDS[each[1]]) if memory else None
            for each in contenders
        }
    figures: dict[str, Any] = {
        "model_digest": digest(model_dir),
        "threads": config.threads,
        "updates_per_block": updates,
        "decisions": len(episodes),
        "batch": [config.fit.batch, config.fit.length],
        "imagined": [config.fit.starts, config.fit.horizon],
        "dynamics_bound": BOUND,
        "dynamics_goal": GOAL,
    }
    for part in PARTS:
        kinds = {kind: contenders[part, kind].figures() | {"peak_growth_bytes": peaks[part, kind]} for kind in KINDS}
        figures[part.value] = kinds | {"ratio": ratios(kinds["full"], kinds["low_rank"])}
    show(figures, Console())
    write_json(json_file, with_origin("training", figures, ("torch", "peft")))


def timed(
    base: Agent, config: AdaptationConfig, episodes: Episodes, blocks: int, updates: int
) -> dict[tuple[Part, str], Contender]:
    """All four by part and kind, after their blocks."""
    contenders = {
        (part, kind): make_contender(base, config, episodes, part, low_rank)
        for part in PARTS
        for kind, low_rank in KINDS.items()
    }
    short = replace(config, fit=replace(config.fit, warmup=0))
    for contender in contenders.values():  # allocator and kernels
        contender.run_block(short, 2, 0)
        contender.seconds.clear()
        contender.round_seconds.clear()
    for block in range(blocks):
        for contender in contenders.values():
            contender.run_block(config, updates, block + 1)
    return contenders


def ratios(full: Mapping[str, Any], low_rank: Mapping[str, Any]) -> dict[str, float]:
    """Full over low rank, of what is more than nothing in both."""
    names = ("seconds_per_update", "trainable", "optimizer_bytes", "peak_growth_bytes")
    return {name: full[name] / low_rank[name] for name in names if full[name] and low_rank[name]}


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print the four, and the ratio of each two; `s a round` is what a round costs besides its updates."""
    batch, imagined = (" x ".join(map(str, figures[name])) for name in ("batch", "imagined"))
    view = Table(
        title=f"one update: sequences {batch}, imagined {imagined}; {figures['threads']} thread", box=SIMPLE_HEAD
    )
    for column in ("update", "ms", "s a round", "trainable", "gradient and Adam MiB", "peak MiB"):
        view.add_column(column, justify="left" if column == "update" else "right")
    for part in PARTS:
        for kind in KINDS:
            view.add_row(f"{part.value}, {kind.replace('_', ' ')}", *_cells(figures[part.value][kind]))
        ratio = figures[part.value]["ratio"]
        cells = (f"{ratio[name]:.1f}" if name in ratio else "" for name in _COLUMNS)
        view.add_row("  ratio", *cells, end_section=True)
    console.print(view)
    reached = figures["dynamics"]["ratio"]["seconds_per_update"]
    console.print(f"dynamics update {reached:.1f} times cheaper; at least {BOUND:g} is needed, {GOAL:g} is the goal")


_COLUMNS = ("seconds_per_update", "seconds_per_round_besides", "trainable", "optimizer_bytes", "peak_growth_bytes")


def _cells(values: Mapping[str, Any]) -> list[str]:
    critic, peak = values["trainable_critic"], values["peak_growth_bytes"]
    return [
        f"{1e3 * values['seconds_per_update']:.1f}",
        f"{values['seconds_per_round_besides']:.1f}",
        f"{values['trainable']:,}" + (f" + {critic:,}" if critic else ""),
        f"{values['optimizer_bytes'] / MEBI:.2f}",
        "unknown" if peak is None else f"{peak / MEBI:.0f}",
    ]
