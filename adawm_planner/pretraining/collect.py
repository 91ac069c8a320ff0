"""Jobs in, driven and labelled episodes out, from several processes.

Each worker process owns one world (the simulator allows no more); a job names the seed, who drives and how
noisily, so that an episode depends on its job alone. The files go to `dataset`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adawm_planner.config.pretraining import CollectionConfig
from adawm_planner.data_types import Float64
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.pretraining.claim import claim_round, claim_values
from adawm_planner.pretraining.dataset import (
    Episodes,
    join,
    load_chunk,
    outcomes_of,
    round_chunks,
    round_folder,
    save_chunk,
    seconds_of,
)
from adawm_planner.workers import children_without_sigint, death_told, worker_pool

CHUNK_DECISIONS = 2000
"""Decisions after which a chunk is written, and so the most that a kill can lose."""


class Env(Protocol):
    """What collection needs of the environment (Gymnasium's interface)."""

    world: Any
    frame: Any

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Start an episode."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, Any]:
        """Take one decision."""


class Driver(Protocol):
    """A privileged driver."""

    def reset(self, seed: int) -> None:
        """Start an episode."""

    def act(self, world: Any, frame: Any) -> int:
        """Index of the action for this frame."""


class Learner(Protocol):
    """A policy under training."""

    def reset(self) -> None:
        """Forget the last episode."""

    def probabilities(self, observation: Mapping[str, Any]) -> Float64:
        """Action probabilities (A,) for this observation."""

    def chose(self, action: int) -> None:
        """Take note of the action that was really taken."""


@dataclass(frozen=True)
class Rig:
    """One world with its drivers: expert, blind, random."""

    env: Env
    drivers: Mapping[str, Driver]


RigFactory = Callable[[], Rig]


@dataclass(frozen=True)
class Job:
    """One episode to drive."""

    seed: int
    driver: str  # expert, blind, random, or learner
    held_out: bool = False
    at_line: bool = False
    noise: float = 0.0  # chance per decision that a random action begins
    noise_decisions: int = 1  # longest it is held
    sample: bool = False  # the learner samples its action instead of taking the most probable
    weights: str = ""  # folder of the learner's weights
    label: bool = True  # ask the expert at every step, which is half of the cost


@dataclass(frozen=True)
class Driven:
    """One driven episode."""

    job: Job
    episodes: Episodes
    outcome: str


def driving_rig(task: str, vehicle: str) -> Rig:
    """The driving simulator's world with its reference drivers."""
    # Only here, so that training on stored data needs no simulator.
    from adawm_planner.simulator.drivers import make_driver
    from adawm_planner.simulator.env import DrivingEnv

    return Rig(DrivingEnv(task, vehicle), {name: make_driver(name) for name in ("expert", "blind", "random")})


class Noise:
    """Random actions, each held for a few decisions."""

    def __init__(self, job: Job, rng: np.random.Generator) -> None:
        """Noise of this job's strength."""
        self._job, self._rng = job, rng
        self._left, self._action = 0, 0

    def apply(self, action: int) -> int:
        """The action to take instead of `action`, which may be the same."""
        if self._left == 0 and self._rng.random() < self._job.noise:
            self._left = int(self._rng.integers(1, self._job.noise_decisions + 1))
            self._action = int(self._rng.integers(ACTION_COUNT))
        if self._left == 0:
            return action
        self._left -= 1
        return self._action


def drive_episode(rig: Rig, job: Job, learner: Learner | None) -> Driven:
    """Drive one job to its end; the expert labels every state on the way."""
    rng = np.random.default_rng([job.seed, 7])
    noise, expert = Noise(job, rng), rig.drivers["expert"]
    observation, info = rig.env.reset(seed=job.seed, options={"start": "at_line"} if job.at_line else None)
    for driver in rig.drivers.values():
        driver.reset(job.seed)
    if learner is not None:
        learner.reset()
    rows: list[tuple[Any, ...]] = []
    reward, terminal, ended = 0.0, False, False
    while True:
        label = 0 if ended or not job.label else expert.act(rig.env.world, rig.env.frame)
        action = 0 if ended else noise.apply(_choose(rig, job, learner, observation, label, rng))
        first = not rows
        rows.append((observation["bev"], observation["state"], action, label, reward, first, terminal, job.held_out))
        if ended:
            return Driven(job, _stack(rows), str(info["outcome"]))
        if learner is not None:
            learner.chose(action)
        observation, reward, terminal, truncated, info = rig.env.step(action)
        ended = terminal or truncated


def _choose(
    rig: Rig, job: Job, learner: Learner | None, observation: Mapping[str, Any], label: int, rng: np.random.Generator
) -> int:
    if job.driver == "expert":
        return label
    if job.driver != "learner":
        return rig.drivers[job.driver].act(rig.env.world, rig.env.frame)
    assert learner is not None, job
    probabilities = learner.probabilities(observation)
    return int(rng.choice(ACTION_COUNT, p=probabilities)) if job.sample else int(np.argmax(probabilities))


def _stack(rows: Sequence[tuple[Any, ...]]) -> Episodes:
    bev, state, action, label, reward, first, terminal, held_out = zip(*rows, strict=True)
    return Episodes(
        bev=np.stack(bev),
        state=np.stack(state).astype(np.float32),
        action=np.asarray(action, np.int64),
        label=np.asarray(label, np.int64),
        reward=np.asarray(reward, np.float32),
        first=np.asarray(first, np.bool_),
        terminal=np.asarray(terminal, np.bool_),
        held_out=np.asarray(held_out, np.bool_),
        overruled=np.zeros(len(rows), np.bool_),
    )


class _Worker:
    """One process's world and the learner it loaded last."""

    def __init__(self, factory: RigFactory) -> None:
        self.rig = factory()
        self._weights = ""
        self._learner: Learner | None = None

    def run(self, job: Job) -> Driven:
        return drive_episode(self.rig, job, self._load(job.weights) if job.weights else None)

    def _load(self, weights: str) -> Learner:
        if self._learner is None or weights != self._weights:
            # Only here, so that collecting with drivers alone never loads torch.
            from adawm_planner.pretraining.learners import load_learner

            self._weights, self._learner = weights, load_learner(Path(weights))
        return self._learner


_worker: _Worker | None = None


def _open_worker(factory: RigFactory) -> None:
    global _worker
    _worker = _Worker(factory)


def _run_job(job: Job) -> Driven:
    assert _worker is not None
    return _worker.run(job)


class Fleet:
    """Worker processes that drive jobs; 0 workers drive in this process. Use as a context."""

    def __init__(self, factory: RigFactory, workers: int) -> None:
        """Worlds are opened when the first job is driven, one per process."""
        self.workers, self._factory = workers, factory
        self._local: _Worker | None = None
        self._pool = worker_pool(workers, _open_worker, factory) if workers else None

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def drive(self, jobs: Iterator[Job]) -> Iterator[Driven]:
        """Driven jobs in the order of `jobs`, which may be endless: only a few are under way at a time.

        Raises:
            ValueError: the world cannot be opened, or a worker process died.
        """
        if self._local is None:
            # Opened here with workers too, so that what is wrong is one error here and not one per worker.
            self._local = _Worker(self._factory)
        if self._pool is None:
            return map(self._local.run, jobs)
        return self._in_processes(self._pool, jobs)

    def _in_processes(self, pool: ProcessPoolExecutor, jobs: Iterator[Job]) -> Iterator[Driven]:
        pending: deque[Future[Driven]] = deque()
        try:
            with death_told("what is stored is kept: try again with fewer workers"):
                for job in islice(jobs, 2 * self.workers):
                    pending.append(_submitted(pool, job))
                while pending:
                    driven = pending.popleft().result()
                    pending += [_submitted(pool, job) for job in islice(jobs, 1)]
                    yield driven
        finally:
            for future in pending:
                future.cancel()


def _submitted(pool: ProcessPoolExecutor, job: Job) -> Future[Driven]:
    with children_without_sigint():
        return pool.submit(_run_job, job)


def round_jobs(config: CollectionConfig, seed: int, round_index: int, weights: str, sample: bool) -> Iterator[Job]:
    """Endless jobs of one round; which ones depends on `seed` and the round alone."""
    rng = np.random.default_rng([seed, round_index, 11])
    for index in count():
        # Evenly spread instead of drawn, so that a short round has held-out episodes too.
        held_out = int((index + 1) * config.validation) > int(index * config.validation)
        low, high = config.validation_seeds if held_out else config.train_seeds
        driver = "learner" if weights else "expert"
        if rng.random() < (config.later_bad_drivers if weights else config.bad_drivers):
            driver = str(rng.choice(["blind", "random"]))
        noisy = rng.random() < config.noisy_episodes
        yield Job(
            seed=int(rng.integers(low, high)),
            driver=driver,
            held_out=held_out,
            at_line=bool(rng.random() < config.at_line),
            noise=config.noise if noisy else 0.0,
            noise_decisions=config.noise_decisions,
            sample=sample and bool(rng.random() < 0.5),
            weights=weights if driver == "learner" else "",
        )


@dataclass(frozen=True)
class Round:
    """What decides which episodes a round of collection brings."""

    config: CollectionConfig
    seed: int
    index: int
    weights: str = ""  # folder of the policy that drives, empty: expert and bad drivers
    sample: bool = False  # that policy samples its actions in half of its episodes

    def jobs(self) -> Iterator[Job]:
        """The round's endless jobs."""
        return round_jobs(self.config, self.seed, self.index, self.weights, self.sample)

    def claim(self) -> dict[str, Any]:
        """The same as values to keep with the episodes."""
        return claim_values(self.config, self.seed, self.index, self.weights, self.sample)


@dataclass(frozen=True)
class RoundReport:
    """What one round of collection brought."""

    decisions: int  # stored
    added: int  # of them by this call
    episodes: int
    outcomes: dict[str, int]
    seconds: float  # that driving all of it took, in whichever call


def collect_round(
    fleet: Fleet,
    plan: Round,
    folder: Path,
    decisions: int,
    on_progress: Callable[[int], None] = lambda count: None,
) -> RoundReport:
    """Drive a round until `decisions` are stored under `folder`; goes on where an earlier call stopped.

    Raises:
        ValueError: the folder holds episodes of another round with this number, or a worker process died.
    """
    target, jobs = round_folder(folder, plan.index), plan.jobs()
    files = round_chunks(folder, plan.index)
    claim_round(target, plan.claim(), stored=bool(files))
    stored, outcomes, seconds = _stored(files)
    for _ in outcomes:
        next(jobs)
    before, chunk, index = stored, [], len(files)
    on_progress(stored)
    begun = time.monotonic()
    for driven in fleet.drive(jobs) if stored < decisions else ():
        chunk.append(driven)
        outcomes.append(driven.outcome)
        stored += len(driven.episodes)
        on_progress(stored)
        if sum(len(item.episodes) for item in chunk) >= CHUNK_DECISIONS or stored >= decisions:
            took, begun = time.monotonic() - begun, time.monotonic()
            _write(target / f"chunk-{index:04d}.npz", chunk, took)
            chunk, index, seconds = [], index + 1, seconds + took
        if stored >= decisions:
            break
    counts = {name: outcomes.count(name) for name in sorted(set(outcomes))}
    return RoundReport(stored, stored - before, len(outcomes), counts, seconds)


def _stored(files: Sequence[Path]) -> tuple[int, list[str], float]:
    """Decisions of a round's chunks, how their episodes ended, and what driving them took [s].

    Raises ValueError for one that is damaged.
    """
    stored, outcomes, seconds = 0, list[str](), 0.0
    for file in files:
        try:
            episodes, meta = load_chunk(file)
            outcomes += outcomes_of(file, episodes, meta)
            seconds += seconds_of(file, meta)
        except ValueError as error:  # what follows depends on how many episodes came before
            raise ValueError(f"{error}; remove {file.parent}, then the round is driven again") from error
        stored += len(episodes)
    return stored, outcomes, seconds


def _write(path: Path, driven: Sequence[Driven], seconds: float) -> None:
    outcomes, seeds = [item.outcome for item in driven], [item.job.seed for item in driven]
    meta = {"outcomes": outcomes, "seeds": seeds, "seconds": seconds}
    save_chunk(path, join([item.episodes for item in driven]), meta)


@dataclass(frozen=True)
class Score:
    """How a learner drives."""

    success: float  # share of the episodes
    mean_return: float  # undiscounted reward per episode
    mean_decisions: float
    outcomes: dict[str, int]


def score(fleet: Fleet, weights: str, seeds: Sequence[int]) -> Score:
    """Greedy episodes of the learner on `seeds`."""
    jobs = iter([Job(seed=seed, driver="learner", weights=weights, label=False) for seed in seeds])
    driven = list(fleet.drive(jobs))
    outcomes = [item.outcome for item in driven]
    return Score(
        success=outcomes.count("success") / len(driven),
        mean_return=float(np.mean([item.episodes.reward.sum() for item in driven])),
        mean_decisions=float(np.mean([len(item.episodes) for item in driven])),
        outcomes={name: outcomes.count(name) for name in sorted(set(outcomes))},
    )


def rig_factory(task: str, vehicle: str) -> RigFactory:
    """Factory of driving worlds that can be sent to another process.

    Raises:
        ValueError: the task or the vehicle is unknown, or its file is wrong.
    """
    # Only here, so that training on other worlds needs no simulator.
    from adawm_planner.simulator.tasks import load_task, load_vehicle

    load_task(task)
    load_vehicle(vehicle)
    return partial(driving_rig, task, vehicle)
