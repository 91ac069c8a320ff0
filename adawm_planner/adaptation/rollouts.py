"""A place and an agent in, what happened there out: rollouts to learn from, or an Evaluation that only measures.

One world per process (the simulator allows no more), so a place is closed before the next one is opened. The
rollouts go to `mismatch` and to the replay of `fit`; `harness` reports the evaluations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adawm_planner.config.adaptation import RolloutConfig
from adawm_planner.data_types import Carry, Observation, PolicyOutput
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.evaluation.closed_loop import run_episode
from adawm_planner.evaluation.model_pilot import ModelPilot
from adawm_planner.evaluation.report import Evaluation
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.collect import Driven, Job, Rig, drive_episode, driving_rig
from adawm_planner.pretraining.dataset import Episodes, join, load_chunk, outcomes_of, save_chunk, seconds_of
from adawm_planner.pretraining.learners import AgentLearner
from adawm_planner.runtime.engine import Imagined
from adawm_planner.world_model.rssm import State

LEAST_EPISODES = 4
"""Episodes per drive whatever their length: fewer give no standard error."""

Progress = Callable[[int, str], None]


def quiet(done: int, text: str) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Rollouts:
    """Driven episodes of one policy at one place; labels are 0, because nobody but a simulator has an expert."""

    episodes: Episodes
    outcomes: tuple[str, ...]  # one per episode
    seconds: float = 0.0  # that driving them took, by whoever stored them

    @property
    def success(self) -> float:
        """Share of the episodes that succeeded."""
        return sum(outcome == "success" for outcome in self.outcomes) / len(self.outcomes)


def check_place(task: str, vehicle: str) -> None:
    """Raise ValueError when task, net or vehicle cannot be used, before anything is driven."""
    # Only here, so that training on stored data needs no simulator.
    from adawm_planner.simulator.tasks import load_task, load_vehicle
    from adawm_planner.simulator.world import World

    World(load_task(task), load_vehicle(vehicle))


class Place:
    """Where to drive: a task with a vehicle, its world open in this process. Use as a context."""

    def __init__(self, task: str, vehicle: str) -> None:
        """Open the world by names or paths. Raises ValueError when task or vehicle cannot be used."""
        self.task, self.vehicle = task, vehicle
        self.rig: Rig = driving_rig(task, vehicle)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *reason: object) -> None:
        self.rig.env.world.close()


def drive(
    place: Place,
    agent: Agent,
    decisions: int,
    sampled: float,
    seeds: tuple[int, int],
    seed: int,
    show: Progress = quiet,
) -> Rollouts:
    """Whole episodes of the agent until there are at least `decisions` and LEAST_EPISODES.

    Args:
        place: where to drive.
        agent: who drives; not changed.
        decisions: fewest rows returned.
        sampled: share of the episodes whose actions are drawn from the policy instead of taken greedily.
        seeds: [from, to) of the episodes.
        seed: which of them, and in what order.
        show: progress.
    """
    rng = np.random.default_rng([seed, 23])
    drawn = (int(rng.integers(*seeds)) for _ in iter(int, 1))
    return drive_seeds(place, agent, drawn, decisions, sampled, seed, show)


def drive_seeds(
    place: Place, agent: Agent, seeds: Iterable[int], decisions: int, sampled: float, seed: int, show: Progress = quiet
) -> Rollouts:
    """Whole episodes of these seeds, in order, until they are used up or as `drive` has enough.

    Raises ValueError for a reward that the agent's model cannot tell.
    """
    rng, learner, driven, count = np.random.default_rng([seed, 29]), AgentLearner(agent), list[Driven](), 0
    for number in seeds:
        job = Job(number, "learner", sample=bool(rng.random() < sampled), label=False)
        driven.append(drive_episode(place.rig, job, learner))
        driven[-1].episodes.check_rewards(agent.world_model.config.reward_limit)
        count += len(driven[-1].episodes)
        show(count, driven[-1].outcome)
        if count >= decisions and len(driven) >= LEAST_EPISODES:
            break
    return Rollouts(join([one.episodes for one in driven]), tuple(one.outcome for one in driven))


def stored(path: Path, make: Callable[[], Rollouts]) -> Rollouts:
    """Rollouts from a file, made and written where there is none, so that a killed run drives nothing twice.

    Raises ValueError for a damaged file.
    """
    if path.exists():
        try:
            episodes, meta = load_chunk(path)
            return Rollouts(episodes, outcomes_of(path, episodes, meta), seconds_of(path, meta))
        except ValueError as error:
            raise ValueError(f"{error}; remove it, then it is driven again") from error
    begun, rollouts = time.monotonic(), make()
    rollouts = replace(rollouts, seconds=time.monotonic() - begun)
    save_chunk(path, rollouts.episodes, {"outcomes": list(rollouts.outcomes), "seconds": rollouts.seconds})
    return rollouts


def source_rollouts(agent: Agent, config: RolloutConfig, path: Path, show: Progress = quiet) -> Rollouts:
    """The base model's own driving on the task it was pretrained on: replay against forgetting, and the baseline."""

    def make() -> Rollouts:
        with Place(config.source_task, config.source_vehicle) as place:
            return drive(place, agent, config.source_decisions, config.sampled, config.source_seeds, 0, show)

    return stored(path, make)


class AgentEngine:
    """An agent in memory behind the interface of runtime.engine, so that it is scored by the planner's own loop."""

    provider = "torch"
    adapter_digests: tuple[str, ...] = ()

    def __init__(self, agent: Agent, digest: str) -> None:
        """Drive with this agent; `digest` names it in the report."""
        self._agent, self.digest = agent, digest

    def initial(self) -> Carry:
        """Zeros."""
        state = self._agent.initial(1)
        return Carry(state.h.numpy(), state.z.numpy(), np.zeros((1, ACTION_COUNT), np.float32))

    @torch.inference_mode()
    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """One decision, as OnnxEngine.step."""
        bev, vector = torch.from_numpy(observation.bev)[None], torch.from_numpy(observation.state)[None]
        state = State(torch.from_numpy(carry.h), torch.from_numpy(carry.z))
        flag: Tensor = torch.full((1, 1), float(first))
        after, probabilities, value = self._agent.step(state, torch.from_numpy(carry.action), flag, bev, vector)
        output = PolicyOutput(probabilities[0].numpy(), float(value[0]))
        return Carry(after.h.numpy(), after.z.numpy(), carry.action), output

    def imagine(self, carry: Carry) -> Imagined:
        """Not needed to drive. Raises NotImplementedError."""
        raise NotImplementedError("an agent in memory shows no imagined pictures")


def evaluate(place: Place, agent: Agent, digest: str, seed: int, episodes: int, show: Progress = quiet) -> Evaluation:
    """Greedy episodes of consecutive seeds, driven and scored as `adawm evaluate` does."""
    begun, pilot, results = time.monotonic(), ModelPilot(AgentEngine(agent, digest)), []
    for number in range(seed, seed + episodes):
        results.append(run_episode(place.rig.env.world, pilot, number))
        show(len(results), results[-1].outcome.value)
    return Evaluation(
        task=place.rig.env.world.task.name,
        vehicle=place.rig.env.world.vehicle.name,
        driver="world_model",
        adapters=(),
        seed=seed,
        requested=episodes,
        wall_s=time.monotonic() - begun,
        episodes=tuple(results),
        model_digest=digest,
    )
