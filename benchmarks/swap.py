"""Swaps between two adapters while a model drives: ticks missed, outputs that are neither's, time of a flip, memory.

The planner's own core, loop and swap thread; a new engine with freshly loaded adapters is made and re-warmed for every
swap, and taken between two ticks. Each decision is computed again, bit for bit, by an engine of its own that takes the
same factors as plain inputs. Load comes from processes that multiply matrices. Before it, the same ticks without swaps.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from adawm_planner.adapters.base_model import BaseModel, read_base_model
from adawm_planner.adapters.bundle import Draft, build_bundle, sign_bundle
from adawm_planner.adapters.factors import PARTS, Factors, part_of
from adawm_planner.adapters.keys import key_id
from adawm_planner.adapters.probe import check_probe, session_runner
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify
from adawm_planner.cli.options import FiniteRange, json_option, seed_option
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import Carry, Objects, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import write_json
from adawm_planner.runtime.active_adapters import load_adapters
from adawm_planner.runtime.drive_step import Decision
from adawm_planner.runtime.engine import AdaptableEngine, OnnxEngine
from adawm_planner.runtime.frame_inputs import FrameInputs, ObjectsInput, OdometryInput, StatusInput
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.planner_core import PlannerConfig, PlannerCore
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.thread import GIL_SWITCH_S, SwapThread
from adawm_planner.runtime.warm import History, follow, rewarm
from benchmarks.record import percentiles, with_origin

SPEED = 5.0
ROUTE_M = 130
EPISODE_FRAMES = 400
INPUTS = ("odometry", "objects", "vehicle_status", "waypoints", "vehicle_info", "world_info")
CREATED = 1_800_000_000
Pair = tuple[tuple[VerifiedAdapter, ...], tuple[VerifiedAdapter, ...]]


class Alternator:
    """Takes HotSwap's place: makes the other engine ready whenever the one before has decided."""

    def __init__(self, base: OnnxEngine, pair: Pair, swaps: int, history: Callable[[], History]) -> None:
        self._base, self._pair, self._history = base, pair, history
        self._left, self._number, self._must_decide = swaps, 0, False
        self.episode_decisions = SwapConfig().episode_decisions
        self.ready: m.Ready | None = None
        self.report, self.watching = m.Report(), True
        self.flips_ms, self.made_ms = array("d"), array("d")
        self.missed = 0

    def close(self) -> None:
        """Nothing to give back."""

    def handle(self, event: m.Event) -> None:
        """Count, follow the decisions, and make the next engine."""
        if isinstance(event, m.Flipped):
            self.flips_ms.append(1e3 * event.seconds)
            self.ready, self._must_decide = None, True
        elif isinstance(event, m.Missed) and self.ready is not None:
            self.missed += 1
            self.ready = replace(self.ready, warm=rewarm(self.ready.warm.engine, self._history()))
        elif isinstance(event, m.Decided):
            self._must_decide = False
            if self.ready is not None and (moved := follow(self.ready.warm, event.history)) is not None:
                self.ready = replace(self.ready, warm=moved[0])
        if self.ready is None and not self._must_decide and self._left:
            self._make()

    def _make(self) -> None:
        begun = time.perf_counter()
        self._left, self._number = self._left - 1, self._number + 1
        adapters = self._pair[self._number % 2]
        warm = rewarm(self._base.with_adapters(load_adapters(adapters)), self._history())
        self.made_ms.append(1e3 * (time.perf_counter() - begun))
        self.ready = m.Ready(self._number, warm, adapters, forward=True)


class References:
    """Engines that take the factors as inputs, one per set of adapters, and what they answer."""

    def __init__(self, model_dir: Path, pair: Sequence[Sequence[VerifiedAdapter]]) -> None:
        self._engines: dict[tuple[str, ...], OnnxEngine] = {(): OnnxEngine(model_dir, "cpu")}
        for adapters in pair:
            factors = {name: each for one in adapters for name, each in one.factors.items()}
            digests = tuple(each.digest for each in sorted(adapters, key=lambda each: each.manifest.part))
            self._engines[digests] = OnnxEngine(model_dir, "cpu", factors=factors)

    def agrees(self, decision: Decision, carry: Carry) -> bool:
        """Whether a decision is, bit for bit, that of the adapters which it names."""
        engine = self._engines[decision.adapter_digests]
        carry = engine.initial() if decision.first else replace(carry, memory="")
        _, output = engine.step(carry, decision.observation, decision.first)
        ours = decision.action.probabilities.tobytes(), decision.value
        return ours == (output.probabilities.tobytes(), output.value)


@dataclass
class Ticks:
    """What happened while it drove."""

    tick_ms: array[float] = field(default_factory=lambda: array("d"))  # a list would grow by four times as much
    missed: int = 0  # ticks that ended after the next one was due
    decisions: int = 0
    mixtures: int = 0  # decisions that are not, bit for bit, those of the adapters they name
    rss: list[int] = field(default_factory=list)  # bytes, now and then


class Car:
    """A planner on a straight road with traffic by seed."""

    def __init__(self, engine: AdaptableEngine, seed: int) -> None:
        names = {name: f"/carla/ego_vehicle/{name}" for name in INPUTS}
        self.core = PlannerCore(engine, InputMonitor(InputLimits(), names), PlannerConfig())
        self.core.set_vehicle(VehicleInfo(max_steer=0.6, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0))
        self.loop = PlannerLoop(self.core, want_map=False)
        self._rng, self._k = np.random.default_rng(seed), 0

    def frame(self) -> FrameInputs:
        """The next frame; a new episode at the end of the route."""
        if self._k % EPISODE_FRAMES == 0:
            x = np.arange(float(ROUTE_M + 1))
            self.core.set_route(route_from_points(x, np.zeros_like(x)))
        ahead, stamp_ns = self._k % EPISODE_FRAMES, self._k * round(FRAME_S * 1e9)
        self._k += 1
        at = 1.0 + SPEED * FRAME_S * ahead
        near = np.array([at + self._rng.uniform(8.0, 40.0)]), np.array([self._rng.uniform(2.0, 9.0)])
        zero, one = np.zeros(1), np.ones(1)
        objects = Objects(
            np.array([9]), *near, zero, one * self._rng.uniform(0.0, 5.0), zero, zero, 4.0 * one, 1.8 * one
        )
        odometry = OdometryInput(stamp_ns, "map", at, 0.0, 0.0, 1.0, SPEED, 0.0, 0.0, 0.0)
        status = StatusInput(stamp_ns, "map", SPEED, 0.0, 0.0)
        return FrameInputs(stamp_ns, 0.0, odometry, status, ObjectsInput(stamp_ns, "map", objects))


def drive(
    car: Car, swaps: SwapThread | None, references: References, tick_s: float, go_on: Callable[[int], bool]
) -> Ticks:
    """Drive one tick every `tick_s`, as long as `go_on` says of the count of ticks; 0 does not wait."""
    ticks, due = Ticks(), time.perf_counter()
    while go_on(len(ticks.tick_ms)):
        frame, before = car.frame(), car.core.state
        due = max(due + tick_s, time.perf_counter()) if tick_s == 0.0 else due + tick_s
        time.sleep(max(due - time.perf_counter(), 0.0))
        begun = time.perf_counter()
        answer = car.core.answer(frame)
        if swaps is not None:
            swaps.after_answer(Outgoing(answer, frame.stamp_ns, 0.0, is_frame=True))
        ended = time.perf_counter()
        ticks.tick_ms.append(1e3 * (ended - begun))
        late = tick_s > 0.0 and ended > due + tick_s
        ticks.missed += late
        due = ended if late else due
        if answer.decision is not None:
            assert before is not None or answer.decision.first
            carry = car.core.engine.initial() if before is None else before.carry
            ticks.decisions += 1
            ticks.mixtures += not references.agrees(answer.decision, carry)
        if len(ticks.tick_ms) % 20 == 0:
            ticks.rss.append(resident_bytes())
    return ticks


def alternate(model_dir: Path, pair: Pair, swaps: int, tick_s: float, seed: int) -> tuple[Ticks, Alternator]:
    """Drive until all swaps have happened and the last one has decided."""
    base, references = OnnxEngine(model_dir, "cpu"), References(model_dir, pair)
    car = Car(base, seed)
    alternator = Alternator(base, pair, swaps, lambda: car.core.history)
    thread = SwapThread(alternator, car.loop)  # type: ignore[arg-type]
    try:
        return drive(car, thread, references, tick_s, lambda _: len(alternator.flips_ms) < swaps), alternator
    finally:
        thread.close()


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def random_factors(base: BaseModel, part: str, rank: int, seed: int) -> Factors:
    """Factors whose change is a fifth of each layer's weights."""
    rng, found = np.random.default_rng(seed), {}
    for name, layer in base.layers.items():
        if part_of(name) == part:
            down = rng.normal(size=(layer.inputs, rank)).astype(np.float32)
            up = rng.normal(size=(rank, layer.outputs)).astype(np.float32)
            found[name] = down, up * np.float32(0.2 * layer.norm / np.linalg.norm(down @ up))
    return found


def make_pair(model_dir: Path, rank: int, seed: int) -> tuple[Pair, dict[str, list[float]]]:
    """Two sets of adapters, each of both parts, verified; and what verifying, loading and probing took [ms]."""
    session, key = OnnxEngine(model_dir, "cpu").planner_session, Ed25519PrivateKey.generate()
    base = read_base_model(model_dir, session)
    context = Context(base, {key_id(key.public_key()): key.public_key()})
    took: dict[str, list[float]] = {"verify_ms": [], "load_ms": [], "probe_ms": []}
    sets = []
    for k in range(2):
        chosen = []
        for part in PARTS:
            draft = Draft(f"set{k}", part, base.digest, k + 1, CREATED)
            built = build_bundle(draft, random_factors(base, part, rank, seed + k), session, AdapterLimits())
            files = sign_bundle(built, key)
            for _ in range(10):
                chosen_one = _accept(files, context, session, took)
            chosen.append(chosen_one)
        sets.append(tuple(chosen))
    return (sets[0], sets[1]), took


def _accept(
    files: Mapping[str, bytes], context: Context, session: Any, took: dict[str, list[float]]
) -> VerifiedAdapter:
    """Verify, load and probe as the planner does, noting what each step took."""
    begun = time.perf_counter()
    found = verify(files, context, CREATED)
    verified = time.perf_counter()
    assert isinstance(found, VerifiedAdapter), found
    active = load_adapters([found])
    loaded = time.perf_counter()
    refusal = check_probe(found.manifest.probe, session, session_runner(session, options=active.options), 1e-3)
    assert refusal is None, refusal
    for name, seconds in zip(took, (verified - begun, loaded - verified, time.perf_counter() - loaded), strict=True):
        took[name].append(1e3 * seconds)
    return found


def multiply() -> None:
    """Keep a core busy, politely, until the process is ended."""
    os.nice(10)
    matrix = np.random.default_rng(0).normal(size=(400, 400))
    while True:
        matrix = np.tanh(matrix @ matrix * 1e-3)


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many busy processes beside this one."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=multiply, daemon=True) for _ in range(processes)]
    for each in busy:
        each.start()
    try:
        yield
    finally:
        for each in busy:
            each.terminate()
            each.join()


def growth(rss: Sequence[int]) -> float | None:
    """Resident memory at the end against that after a tenth of the run, as a share; None for too few samples."""
    begun = len(rss) // 10
    return None if begun < 2 else float(np.mean(rss[-2:]) / np.mean(rss[begun : begun + 2]) - 1.0)


@click.command()
@click.option("--swaps", type=click.IntRange(min=1), default=10000, show_default=True, help="Swaps between A and B.")
@click.option("--tick-ms", type=FiniteRange(min=1.0), default=50.0, show_default=True, help="Period of a tick.")
@click.option("--rank", type=click.IntRange(1, 64), default=8, show_default=True, help="Of the adapters.")
@click.option("--load", "busy", type=click.IntRange(0, 64), default=1, show_default=True, help="Busy processes.")
@seed_option(0)
@json_option
def swap(swaps: int, tick_ms: float, rank: int, busy: int, seed: int, json_file: Path | None) -> None:
    """Hot swaps under load: missed ticks, mixed outputs, flip time, memory."""
    model_dir = default_model_dir()
    sys.setswitchinterval(GIL_SWITCH_S)  # as the planner does
    pair, took = make_pair(model_dir, rank, seed)
    with load(busy):
        quiet = drive(
            Car(OnnxEngine(model_dir, "cpu"), seed),
            None,
            References(model_dir, pair),
            1e-3 * tick_ms,
            lambda count: count < 800,
        )
        ticks, alternator = alternate(model_dir, pair, swaps, 1e-3 * tick_ms, seed)
    figures = {
        "seed": seed,
        "tick_period_ms": tick_ms,
        "rank": rank,
        "busy_processes": busy,
        "swaps": len(alternator.flips_ms),
        "ticks": len(ticks.tick_ms),
        "missed_ticks": ticks.missed,
        "missed_ticks_without_swaps": quiet.missed,
        "decisions": ticks.decisions,
        "mixtures": ticks.mixtures,
        "flips_deferred": alternator.missed,
        "flip_ms": percentiles(alternator.flips_ms),
        "make_ready_ms": percentiles(alternator.made_ms),
        "tick_ms": percentiles(ticks.tick_ms),
        "tick_without_swaps_ms": percentiles(quiet.tick_ms),
        "resident_mib": round(resident_bytes() / 2**20, 1),
        "memory_growth": growth(ticks.rss),
        **{name: percentiles(values) for name, values in took.items()},
    }
    show(figures)
    write_json(json_file, with_origin("swap", figures, ("onnxruntime", "numpy")))


def show(figures: dict[str, Any]) -> None:
    """Print counts and times."""
    view = Table(title=f"{figures['swaps']} swaps in {figures['ticks']} ticks of {figures['tick_period_ms']:g} ms")
    for column in ("ms", "p50", "p99", "max"):
        view.add_column(column, justify="left" if column == "ms" else "right")
    for name, values in figures.items():
        if isinstance(values, dict):
            view.add_row(name.removesuffix("_ms"), *(f"{values[each]:.3f}" for each in ("p50", "p99", "max")))
    Console().print(view)
    for name in ("missed_ticks", "missed_ticks_without_swaps", "mixtures", "flips_deferred", "resident_mib"):
        Console().print(f"{name}: {figures[name]}")
    grown = figures["memory_growth"]
    Console().print("memory growth: " + ("too short a run" if grown is None else f"{100.0 * grown:.2f} %"))


if __name__ == "__main__":
    swap()
