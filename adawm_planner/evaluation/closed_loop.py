"""Task, vehicle and driver in, an Evaluation out: episodes in closed loop, in process, without ROS.

One libsumo world per process: with one worker the episodes run here, with more in spawned processes. Every
episode depends on its seed alone, so neither the number of workers nor their order changes a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adawm_planner.config.seeds import EVALUATION_SEED, episode_seeds
from adawm_planner.evaluation.episode import EpisodeRecorder, EpisodeResult
from adawm_planner.evaluation.gated_pilot import GatedPilot
from adawm_planner.evaluation.pilots import PILOTS, WORLD_MODEL, Pilot, make_pilot
from adawm_planner.evaluation.report import Evaluation
from adawm_planner.paths import default_model_dir
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World
from adawm_planner.workers import children_without_sigint, death_told, worker_pool

if TYPE_CHECKING:
    from adawm_planner.adapters.verify import VerifiedAdapter


@dataclass(frozen=True)
class EvaluationConfig:
    """What to drive, with what, how often."""

    task: str  # built-in name or path
    vehicle: str = "nominal"  # built-in name or path
    driver: str = "world_model"
    episodes: int = 1
    seed: int = EVALUATION_SEED  # of the first episode; the others follow by 1; lower ones were trained on
    workers: int = 1  # processes
    model_dir: Path | None = None  # only read by the world model; None: the shipped base model
    provider: str = "auto"  # of onnxruntime
    adapters: tuple[Path, ...] = ()  # bundle directories, at most one per part
    trust: tuple[Path, ...] = ()  # public keys of their signers, or folders of them
    allow_unsigned: bool = False  # do not ask for the adapters' signatures
    gate: bool = False  # let the safety gate decide what reaches the vehicle

    def __post_init__(self) -> None:
        if self.driver not in PILOTS:
            raise ValueError(f"driver '{self.driver}' is unknown; known are {', '.join(PILOTS)}")
        for name in ("episodes", "workers"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        episode_seeds(self.seed, self.episodes)
        if self.adapters and self.driver != WORLD_MODEL:
            raise ValueError(f"driver {self.driver} has no adapters; drop them or drive with {WORLD_MODEL}")


class CutShort(ValueError):
    """An error after the first finished episode; carries what had been driven, so that nobody loses it."""

    def __init__(self, error: ValueError, evaluation: Evaluation) -> None:
        super().__init__(str(error))
        self.evaluation = evaluation


def run_episode(world: World, pilot: Pilot, seed: int) -> EpisodeResult:
    """Drive the episode of one seed from reset to its outcome."""
    recorder = EpisodeRecorder(seed)
    pilot.reset(seed)
    frame = world.reset(seed)
    recorder.add(frame)
    while frame.outcome is None:
        frame = world.tick(pilot.command(world, frame))
        recorder.add(frame)
    return recorder.result()


class _Loop:
    """A world and its pilot, made once per process."""

    def __init__(self, config: EvaluationConfig) -> None:
        pilot, self.adapters = _open_pilot(config)
        self.pilot = GatedPilot(pilot) if config.gate else pilot
        self.world = _open_world(config)

    def run(self, seed: int) -> EpisodeResult:
        result = run_episode(self.world, self.pilot, seed)
        gated = self.pilot if isinstance(self.pilot, GatedPilot) else None
        return result if gated is None else replace(result, interventions=dict(gated.interventions))


def _open_world(config: EvaluationConfig) -> World:
    return World(load_task(config.task), load_vehicle(config.vehicle))


def _open_pilot(config: EvaluationConfig) -> tuple[Pilot, tuple[str, ...]]:
    """The pilot, and the names of the adapters that it drives with."""
    adapters = _adapters(config)
    factors = {name: pair for each in adapters for name, pair in each.factors.items()}
    names = tuple(f"{each.manifest.name}-{each.digest[:12]}" for each in adapters)
    return make_pilot(config.driver, config.model_dir, config.provider, factors), names


def check(configs: Sequence[EvaluationConfig]) -> None:
    """Open each task and each driver of several evaluations once, so that a mistake in the last ends none half-way.

    Raises:
        ValueError: a task, vehicle, model or adapter cannot be used.
    """
    for config in {(config.task, config.vehicle): config for config in configs}.values():
        _open_world(config)
    for config in {config.driver: config for config in configs}.values():
        _open_pilot(config)


def evaluate(config: EvaluationConfig, on_episode: Callable[[EpisodeResult], None] | None = None) -> Evaluation:
    """Drive the episodes `config.seed`, `config.seed` + 1, ...

    Args:
        config: what to drive.
        on_episode: called in this process after each episode, in order of their ends.

    Returns:
        The evaluation; after Ctrl-C, of the episodes that had finished.

    Raises:
        CutShort: SUMO failed or a worker process died after the first finished episode.
        ValueError: task, vehicle or model cannot be used, or that happened before it.
        KeyboardInterrupt: Ctrl-C before the first episode had finished.
    """
    started = time.monotonic()
    # Opened here too, so that a wrong file is one error here and not one per worker.
    loop = _Loop(config)
    finished: list[EpisodeResult] = []
    seeds = episode_seeds(config.seed, config.episodes)
    source = (loop.run(seed) for seed in seeds) if config.workers == 1 else _in_processes(config, seeds)
    cause: ValueError | None = None
    try:
        for result in source:
            finished.append(result)
            if on_episode is not None:
                on_episode(result)
    except KeyboardInterrupt:
        if not finished:
            raise
    except ValueError as error:
        if not finished:
            raise
        cause = error
    finally:
        source.close()
        loop.world.close()
    evaluation = Evaluation(
        task=loop.world.task.name,
        vehicle=loop.world.vehicle.name,
        driver=config.driver,
        adapters=loop.adapters,
        seed=config.seed,
        requested=config.episodes,
        wall_s=time.monotonic() - started,
        episodes=tuple(sorted(finished, key=lambda episode: episode.seed)),
        model_digest=loop.pilot.digest,
        gate=config.gate,
    )
    if cause is not None:
        raise CutShort(cause, evaluation) from cause
    return evaluation


def _adapters(config: EvaluationConfig) -> list[VerifiedAdapter]:
    if not config.adapters:
        return []
    # Only here, so that the reference drivers need no onnxruntime.
    from adawm_planner.adapters.offline import open_adapters

    base = config.model_dir or default_model_dir()
    return open_adapters(config.adapters, base, config.trust, config.allow_unsigned)


_worker_loop: _Loop | None = None
"""This worker process's own world and pilot."""


def _start_worker(config: EvaluationConfig) -> None:
    global _worker_loop
    _worker_loop = _Loop(config)


def _run_in_worker(seed: int) -> EpisodeResult:
    assert _worker_loop is not None, "worker was not started"
    return _worker_loop.run(seed)


def _in_processes(config: EvaluationConfig, seeds: range) -> Generator[EpisodeResult, None, None]:
    """Yield results as workers finish them; leaving early ends the workers after their running episode."""
    pool = worker_pool(min(config.workers, len(seeds)), _start_worker, config)
    try:
        with death_told("try fewer --workers"):
            with children_without_sigint():
                futures: list[Future[EpisodeResult]] = [pool.submit(_run_in_worker, seed) for seed in seeds]
            for future in as_completed(futures):
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
