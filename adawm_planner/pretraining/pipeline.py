"""The table of contents of pretraining: from an empty folder to a driving agent.

Collect with the expert and bad drivers; clone, collect with the clone, repeat; world model on the clone's
encoder; actor on latents; imagination with fresh data from the policy itself. Each step leaves a file and is
skipped when that file is there, so a killed run goes on where it was. `runtime.export` takes the result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from adawm_planner.config.mapping import to_mapping
from adawm_planner.config.pretraining import PretrainingConfig
from adawm_planner.durable import replace_json
from adawm_planner.origin import checkout
from adawm_planner.policy.agent import Agent, load_agent, save_agent
from adawm_planner.pretraining.clone import CLONE_FILE, Clone, load_clone, save_clone
from adawm_planner.pretraining.collect import Fleet, RigFactory, Round, collect_round, score
from adawm_planner.pretraining.dataset import Episodes, load_rounds
from adawm_planner.pretraining.fit import Run, lock_run, step_generator
from adawm_planner.pretraining.trainer import (
    ActorCritic,
    Replay,
    clone_actor_critic,
    train_clone,
    train_policy,
    train_world_model,
)
from adawm_planner.result_file import write_text
from adawm_planner.runtime.model_files import WEIGHTS_FILE

FACTS_FILE = "facts.json"
FINAL_FOLDER = "final"
COMMIT_FILE = "commit.txt"


@dataclass
class Pipeline:
    """What the stages share."""

    config: PretrainingConfig
    data: Path  # folder of the driven episodes
    run: Run
    fleet: Fleet
    console: Console

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run.folder

    def note(self, stage: str, seconds: float, **values: Any) -> None:
        """Add a line to the run's facts, which the model card is made of, and show it.

        Args:
            stage: what is over.
            seconds: that it took, in all calls if there was more than one.
            values: what else there is to say.
        """
        path = self.folder / FACTS_FILE
        facts = read_facts(path)
        fact = {"stage": stage, "seconds": round(seconds, 1), **values}
        replace_json(path, [*facts, fact])
        self.console.print(" ".join(f"{key}={value}" for key, value in fact.items()), highlight=False)


def read_facts(path: Path) -> list[dict[str, Any]]:
    """Lines that the stages noted, none where there is no file. Raises ValueError for a damaged file."""
    if not path.exists():
        return []
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove it to have the finished stages scored anew") from error
    if not isinstance(facts, list) or not all(isinstance(fact, dict) and "stage" in fact for fact in facts):
        raise ValueError(f"{path}: must hold a list of stages; remove it to have the finished stages scored anew")
    return facts


def pretrain(config: PretrainingConfig, data: Path, folder: Path, factory: RigFactory, console: Console) -> Path:
    """Run the pipeline to its end.

    Returns the folder of the trained agent. Raises ValueError when `folder` holds a run of another config or another
    process works on it, or `data` holds the episodes of another run.
    """
    with lock_run(folder):
        _keep_config(folder, config)
        if not (folder / COMMIT_FILE).exists():
            write_text(folder / COMMIT_FILE, repository_commit())
        torch.set_num_threads(config.threads)
        run = Run(folder, config.seed, config.threads, config.checkpoint_every)
        with Fleet(factory, config.collection.workers) as fleet:
            pipeline = Pipeline(config, data, run, fleet, console)
            clone = clone_from_driving(pipeline)
            episodes = load_rounds(data, range(config.collection.rounds + 1))
            train, held_out = (
                Replay(clone.encoder, episodes.select(keep), config.imagination.discount) for keep in _split(episodes)
            )
            agent = model_world(pipeline, clone, train, held_out)
            agent = clone_on_latents(pipeline, agent, train, held_out)
            return improve_by_imagination(pipeline, agent, train)


def repository_commit() -> str:
    """First 7 digits of the code's commit, `unknown` outside a checkout."""
    return (checkout()["commit"] or "unknown")[:7]


def _keep_config(folder: Path, config: PretrainingConfig) -> None:
    """Keep the config with the run; a run is never continued with another one."""
    path, text = folder / "config.yaml", yaml.safe_dump(to_mapping(config), sort_keys=False)
    if not path.exists():
        write_text(path, text)
    elif path.read_text() != text:
        raise ValueError(f"{folder}: holds a run with another configuration; choose another --run folder or remove it")


def _split(episodes: Episodes) -> tuple[Any, Any]:
    return ~episodes.held_out, episodes.held_out


# ---------------------------------------------------------------- 1, 2: driving and cloning


def clone_from_driving(pipeline: Pipeline) -> Clone:
    """DAgger: round 0 is driven by expert and bad drivers, the others by the clone of all rounds before."""
    collection, cloning = pipeline.config.collection, pipeline.config.cloning
    weights = ""
    for index in range(collection.rounds + 1):
        decisions = collection.round_decisions if index else collection.first_decisions
        collect(pipeline, index, weights, decisions, sample=False)
        last = index == collection.rounds
        updates = cloning.final_updates if last else cloning.round_updates
        weights = str(_clone_round(pipeline, index, weights, updates))
    clone = load_clone(Path(weights))
    _drive_and_note(pipeline, "clone", weights)
    return clone


def collect(pipeline: Pipeline, index: int, weights: str, decisions: int, sample: bool) -> float:
    """One round of driving, skipped where it is already stored; returns what it took [s], in whichever call."""
    config = pipeline.config
    plan = Round(config.collection, config.seed, index, weights, sample)
    with pipeline.run.progress(f"drive {index}", decisions) as show:
        report = collect_round(pipeline.fleet, plan, pipeline.data, decisions, lambda done: show(done, ""))
    if report.added:
        pipeline.note(f"collect-{index:02d}", report.seconds, decisions=report.decisions, outcomes=report.outcomes)
    return report.seconds


def _clone_round(pipeline: Pipeline, index: int, before: str, updates: int) -> Path:
    """Clone all rounds up to this one, starting from the last clone's weights."""
    folder = pipeline.folder / f"clone-{index:02d}"
    if (folder / CLONE_FILE).exists():
        return folder
    config = pipeline.config
    _seed_weights(config, folder.name)
    clone = load_clone(Path(before)).train() if before else Clone(config.world_model, config.policy)
    episodes = load_rounds(pipeline.data, range(index + 1))
    episodes.check_rewards(config.world_model.reward_limit)
    report = train_clone(clone, episodes, config.cloning, updates, folder.name, pipeline.run)
    save_clone(clone, folder)
    pipeline.note(folder.name, report.seconds, decisions=len(episodes), **_told(report))
    return folder


def _seed_weights(config: PretrainingConfig, stage: str) -> None:
    """Before a stage draws its first weights: they must not depend on which stages this process ran before."""
    step_generator(config.seed, f"{stage} weights", 0)


def _told(report: Any) -> dict[str, Any]:
    """A fit report's values that the facts do not hold yet."""
    values = asdict(report)
    validation = {key: round(value, 4) for key, value in values.pop("validation").items() if np.isfinite(value)}
    return {"updates": values["updates"], "reason": values["reason"], "held_out": validation}


# ---------------------------------------------------------------- 3, 4: world model, actor


def model_world(pipeline: Pipeline, clone: Clone, train: Replay, held_out: Replay) -> Agent:
    """World model on the clone's encoder, which stays as it is."""
    folder = pipeline.folder / "world_model"
    if (folder / WEIGHTS_FILE).exists():
        return load_agent(folder)
    _seed_weights(pipeline.config, folder.name)
    agent = Agent(pipeline.config.world_model, pipeline.config.policy)
    agent.world_model.encoder.load_state_dict(clone.encoder.state_dict())
    report = train_world_model(agent, train, held_out, pipeline.config.dynamics, pipeline.run)
    save_agent(agent, folder)
    pipeline.note("world_model", report.seconds, decisions=len(train), **_told(report))
    return agent


def clone_on_latents(pipeline: Pipeline, agent: Agent, train: Replay, held_out: Replay) -> Agent:
    """Actor and critic from the data, then the critic alone on the imagination of that actor."""
    folder, config = pipeline.folder / "cloned", pipeline.config
    if (folder / WEIGHTS_FILE).exists():
        return load_agent(folder)
    report = clone_actor_critic(agent, train, held_out, config.dynamics, config.imagination, pipeline.run)
    agent.slow_critic.load_state_dict(agent.critic.state_dict())
    learner = ActorCritic(agent, config.dynamics, config.imagination)
    critic = train_policy(learner, train, config.imagination.warmup_updates, "critic", pipeline.run, warmup=True)
    save_agent(agent, folder)
    pipeline.note("cloned", report.seconds + critic.seconds, **_told(report))
    return agent


# ---------------------------------------------------------------- 5: imagination


def improve_by_imagination(pipeline: Pipeline, agent: Agent, replay: Replay) -> Path:
    """Rounds of fresh driving and actor-critic updates; the round that drives best is the result.

    The limit of minutes is on what the stages noted, in all calls, so that being killed gives a run no more rounds. How
    many it has depends on how fast the machine is all the same, where `rounds` does not end it first.
    """
    config, begun = pipeline.config.imagination, time.monotonic()
    learner = ActorCritic(agent, pipeline.config.dynamics, config)
    _drive_and_note(pipeline, "cloned", str(pipeline.folder / "cloned"))
    folders, stages = [pipeline.folder / "cloned"], {"score-cloned"}
    for index in range(1, config.rounds + 1):
        folder = pipeline.folder / f"imagined-{index:02d}"
        _imagine_round(pipeline, learner, replay, index, folders[-1], folder)
        folders.append(folder)
        stages |= {folder.name, f"score-{folder.name}"}
        if _seconds(pipeline, stages) > 60.0 * config.minutes:
            break
    # Of equals the latest: it has learned from the most of its own driving.
    best = max(reversed(folders), key=lambda folder: _scored(pipeline, folder.name))
    final = pipeline.folder / FINAL_FOLDER
    save_agent(load_agent(best), final)
    pipeline.note("final", time.monotonic() - begun, chosen=best.name, success=_scored(pipeline, best.name))
    return final


def _imagine_round(
    pipeline: Pipeline, learner: ActorCritic, replay: Replay, index: int, before: Path, folder: Path
) -> None:
    config = pipeline.config
    data_round = config.collection.rounds + index
    driving = collect(pipeline, data_round, str(before), config.imagination.round_decisions, sample=True)
    episodes = load_rounds(pipeline.data, [data_round])
    replay.add(episodes.select(~episodes.held_out))
    report = train_policy(learner, replay, config.imagination.round_updates, folder.name, pipeline.run)
    if not any(fact["stage"] == folder.name for fact in read_facts(pipeline.folder / FACTS_FILE)):
        save_agent(learner.agent, folder)
        pipeline.note(folder.name, driving + report.seconds, decisions=len(replay), updates=report.updates)
    _drive_and_note(pipeline, folder.name, str(folder))


def _drive_and_note(pipeline: Pipeline, name: str, weights: str) -> None:
    """Success of greedy episodes on validation seeds."""
    if _scored(pipeline, name) >= 0.0:
        return
    begun, config = time.monotonic(), pipeline.config
    low = config.collection.validation_seeds[0]
    driven = score(pipeline.fleet, weights, range(low, low + config.imagination.score_episodes))
    pipeline.note(f"score-{name}", time.monotonic() - begun, **_rounded(asdict(driven)))


def _seconds(pipeline: Pipeline, stages: Collection[str]) -> float:
    """Time that these stages took [s], in whichever call."""
    facts = read_facts(pipeline.folder / FACTS_FILE)
    return float(sum(fact["seconds"] for fact in facts if fact["stage"] in stages))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


def _scored(pipeline: Pipeline, name: str) -> float:
    """Noted success of a stage, -1 where there is none."""
    path = pipeline.folder / FACTS_FILE
    facts = read_facts(path)
    found = [fact["success"] for fact in facts if fact["stage"] == f"score-{name}"]
    return float(found[-1]) if found else -1.0
