"""What a finetuner at full load costs the driving planner: round trips over DDS while it trains, and while it halts.

The load is the finetuner's own fits at its own priority, one after another without an end, in a process of its own. The
floor is a process of the same priority that only counts: it takes neither memory nor caches, so what it costs is what a
machine charges for any second busy core (clock, shared execution units), and nobody's to save. Both are halted and
continued every few hundred frames, so that all sides see the same machine; the noise of the comparison is that of two
halves of the blocks without load.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from adawm_planner.cli.options import json_option, seed_option
from adawm_planner.data_types import Float64
from adawm_planner.dims import FRAME_S
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import Children, interruptible, ros_environment
from adawm_planner.result_file import write_json
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World
from adawm_planner.stack import require_ros
from benchmarks.latency import SETTLE_S, WARM_UP, Recorded, episodes, start
from benchmarks.page_sections import RATIOS, SIDES
from benchmarks.record import LEVELS, percentiles, with_origin
from benchmarks.targets import SIDECAR_RATIO

if TYPE_CHECKING:
    from benchmarks.latency_probe import Probe

PAUSE_S = 0.2
"""After the load is halted or continued, before the next frame [s]."""

DRAWS = 2000
DECISIONS = 1500
"""Rollouts that are trained on, as many as a round of the finetuner takes."""

READY_LIMIT_S = 180.0


def train(seed: int, parent: int, ready: Any) -> None:
    """The finetuner's fits for ever, on rollouts of the base model with worn brakes; `ready` is set after the first."""
    os.setsid()  # as the supervisor starts a worker
    import torch

    from adawm_planner.adaptation.fit import fit_dynamics, fit_policy
    from adawm_planner.adaptation.rollouts import Place, drive
    from adawm_planner.adaptation.student import Student
    from adawm_planner.config.adaptation import load_adaptation
    from adawm_planner.finetuning.worker_process import lower_priority
    from adawm_planner.policy.agent import load_agent
    from adawm_planner.pretraining.trainer import Replay

    config = load_adaptation()
    torch.set_num_threads(config.threads)
    base = load_agent(default_model_dir())
    with Place("right_turn_moderate", "worn_brakes") as place:
        rollouts = drive(place, base, DECISIONS, config.rollouts.sampled, config.rollouts.train_seeds, seed)
    student = Student(base, config, low_rank=True, seed=seed)
    replay = Replay(student.agent.world_model.encoder, rollouts.episodes, config.fit.discount)
    replay.newest = len(replay)
    for number in count():
        (fit_dynamics, fit_policy)[number % 2](student, replay, config, config.fit.updates if number > 1 else 2, number)
        if number == 1:
            lower_priority(19, parent)
            ready.set()


def spin(seed: int, parent: int, ready: Any) -> None:
    """Count for ever, at the priority of the finetuner's worker."""
    os.setsid()
    from adawm_planner.finetuning.worker_process import lower_priority

    lower_priority(19, parent)
    ready.set()
    number = seed
    while True:
        number = (number + 1) % 1000


@contextmanager
def load(work: Callable[[int, int, Any], None], seed: int) -> Iterator[int]:
    """A process that works, by its id; it has begun, and is halted."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=work, args=(seed, os.getpid(), ready), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        if not ready.wait(READY_LIMIT_S):
            raise click.ClickException(f"{work.__name__} did not begin within {READY_LIMIT_S:.0f} s")
        os.kill(process.pid, signal.SIGSTOP)
        yield process.pid
    finally:
        process.kill()
        process.join()


@dataclass
class Blocks:
    """Round trips [ms] of frames sent one after another, block by block."""

    times: list[list[float]] = field(default_factory=list)
    lost: int = 0  # frames that were not answered within a second

    def figures(self) -> dict[str, Any]:
        """Percentiles, and how many frames were answered too late or never."""
        values = np.concatenate(self.times)
        late = int((values > 1e3 * FRAME_S).sum())
        return {**percentiles(values), "frames": values.size, "missed_ticks": late + self.lost}


def block(probe: Probe, source: Iterator[Recorded], frames: int, into: Blocks) -> None:
    """Send a block of frames, each after the answer to the one before."""
    times = list[float]()
    for _ in range(frames):
        recorded = next(source)
        took = probe.round_trip("planner", recorded.frame, recorded.number == 0)
        probe.idle(SETTLE_S)
        into.lost += took is None
        times += [] if took is None else [took.ms]
    into.times.append(times)


def measure(
    probe: Probe, source: Iterator[Recorded], blocks: int, frames: int, loads: Sequence[int]
) -> tuple[Blocks, ...]:
    """So many blocks of frames without any load and with each of the processes `loads`, in turn."""
    sides = tuple(Blocks() for _ in range(1 + len(loads)))
    block(probe, source, WARM_UP, Blocks())
    for number in range(blocks * len(sides)):
        side = number % len(sides)
        for index, pid in enumerate(loads, 1):
            os.kill(pid, signal.SIGCONT if index == side else signal.SIGSTOP)
        probe.idle(PAUSE_S)
        block(probe, source, frames, sides[side])
    return sides


def ratio(upper: Sequence[Sequence[float]], lower: Sequence[Sequence[float]], level: float) -> dict[str, Any]:
    """Ratio of a percentile, with a 95 % interval by drawing blocks anew."""
    rng = np.random.default_rng(0)

    def percentile(blocks: Sequence[Sequence[float]], chosen: Sequence[int]) -> float:
        values: Float64 = np.concatenate([blocks[k] for k in chosen])
        return float(np.percentile(values, level))

    drawn = [
        percentile(upper, rng.integers(len(upper), size=len(upper)))  # type: ignore[arg-type]
        / percentile(lower, rng.integers(len(lower), size=len(lower)))  # type: ignore[arg-type]
        for _ in range(DRAWS)
    ]
    value = percentile(upper, range(len(upper))) / percentile(lower, range(len(lower)))
    return {"ratio": value, "ci95": [float(each) for each in np.quantile(drawn, [0.025, 0.975])]}


def ratios(upper: Sequence[Sequence[float]], lower: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Ratio of every percentile."""
    return {name: ratio(upper, lower, level) for name, level in LEVELS.items()}


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task whose frames are sent.")
@click.option("--blocks", type=click.IntRange(min=2), default=60, show_default=True, help="Blocks of each side.")
@click.option("--frames", type=click.IntRange(min=10), default=200, show_default=True, help="Frames of a block.")
@seed_option(0)
@json_option
def sidecar(task: str, blocks: int, frames: int, seed: int, json_file: Path | None) -> None:
    """The planner's tick with a finetuner at full load beside it, and without."""
    require_ros()
    world = World(load_task(task), load_vehicle("nominal"))
    os.environ.update(ros_environment(os.environ))
    folder = tempfile.TemporaryDirectory(prefix="adawm_sidecar_")
    with (
        folder as logs,
        interruptible(),
        load(spin, seed) as floor,
        load(train, seed) as trainer,
        Children(Path(logs)) as children,
    ):
        start(children, {})
        from benchmarks.latency_probe import Probe  # after the children, which are forked from here

        probe = Probe(world, children.check)
        begun = time.monotonic()
        off, spun, on = measure(probe, episodes(world, seed), blocks, frames, (floor, trainer))
        probe.close()
    figures = {
        "task": task,
        "seed": seed,
        "blocks": blocks,
        "frames_per_block": frames,
        "limit": SIDECAR_RATIO,
        "wall_s": time.monotonic() - begun,
        "without_ms": off.figures(),
        "spinning_ms": spun.figures(),
        "with_ms": on.figures(),
        "with_over_without": ratios(on.times, off.times),
        "with_over_spinning": ratios(on.times, spun.times),
        "spinning_over_without": ratios(spun.times, off.times),
        "without_over_without": ratios(off.times[::2], off.times[1::2]),
    }
    show(figures)
    write_json(
        json_file, with_origin("sidecar", figures, ("onnxruntime", "torch", "ros-rclpy", "ros-fastrtps", "numpy"))
    )


def show(figures: dict[str, Any]) -> None:
    """Print both sides and their ratio beside its noise."""
    view = Table(title=f"sensor in to control out, ms; {figures['with_ms']['frames']} frames of each side")
    for column in ("finetuner", *LEVELS, "missed ticks"):
        view.add_column(column, justify="left" if column == "finetuner" else "right")
    for title, name in SIDES.items():
        side = figures[name]
        view.add_row(title, *(f"{side[each]:.2f}" for each in LEVELS), str(side["missed_ticks"]))
    console = Console()
    console.print(view)
    for title, name in RATIOS.items():
        found = ((level, figures[name][level]) for level in LEVELS)
        console.print(f"{title}: " + ", ".join(f"{each} {interval(one)}" for each, one in found), highlight=False)


def interval(found: dict[str, Any]) -> str:
    """A ratio with its interval."""
    low, high = found["ci95"]
    return f"{found['ratio']:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    sidecar()
