"""A vehicle computer in a folder: a small random model, its baseline and source rollouts, a key, driven episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from adawm_planner.adaptation.harness import make_baseline
from adawm_planner.adaptation.source_file import source_file
from adawm_planner.adapters.keys import generate_key
from adawm_planner.config.adaptation import ADAPTATION_FILE, AdaptationConfig, load_adaptation
from adawm_planner.config.finetuning import ReplayConfig
from adawm_planner.config.presets import load_pretraining
from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, DECISION_S
from adawm_planner.finetuning.captured import Captured, capture
from adawm_planner.finetuning.messages import Settings
from adawm_planner.finetuning.replay_store import ReplayStore
from adawm_planner.policy.agent import Agent, save_agent
from adawm_planner.pretraining.dataset import Episodes, save_chunk
from adawm_planner.pretraining.fit import Run
from adawm_planner.runtime.export import export_model
from adawm_planner.runtime.model_files import digest
from tests.adaptation.conftest import random_episodes

CONFIG = load_adaptation(preset="debug")
LEARNING = {"updates": 60, "batch": 8, "keep_policy": 30.0}
"""Of a debug run that learns something: a small model, shifted observations, and enough updates to predict them."""


def random_agent() -> Agent:
    """Larger weights than at the start, so that latents, rewards and probabilities vary, decisions least."""
    torch.manual_seed(0)
    sizes = load_pretraining(preset="debug")
    agent = Agent(sizes.world_model, sizes.policy).eval()
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            if name.endswith("logits.weight") or name.startswith("critic.head.net.6"):
                parameter.copy_(torch.randn_like(parameter))
            elif name.startswith(("world_model.reward_head.net.3", "actor.net.6")):
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return agent


@dataclass(frozen=True)
class Workplace:
    """Where a finetuner can work."""

    model_dir: Path
    state_dir: Path
    key: Path
    base: str  # digest of the model

    def settings(self, **changes: object) -> Settings:
        home = self.model_dir.parent
        values: dict[str, object] = {
            "model_dir": str(self.model_dir),
            "replay_dir": str(self.state_dir / "replay"),
            "state_dir": str(self.state_dir),
            "source_dir": str(home),
            "preset": "debug",
            "config_file": str(home / "learning.yaml"),
            "decisions": 100,
            "key_file": str(self.key),
            "vehicle_id": "",
            "expires_h": 1.0,
            "threads": 1,
            "nice": 0,
        }
        return Settings(**{**values, **changes})  # type: ignore[arg-type]


def make_workplace(folder: Path, config: AdaptationConfig = CONFIG) -> Workplace:
    """Everything but the driving; no simulator is needed, because the source rollouts are made up."""
    torch.set_num_threads(1)
    values = yaml.safe_load(ADAPTATION_FILE.read_text())
    values["presets"]["debug"]["fit"].update(LEARNING)
    (folder / "learning.yaml").write_text(yaml.safe_dump(values))
    save_agent(random_agent(), folder / "agent")
    model_dir = folder / "model"
    export_model(folder / "agent", model_dir)
    base = digest(model_dir)
    source = random_episodes(40, seed=1)
    save_chunk(source_file(base, config, folder), source, {"outcomes": ["success"] * 40})
    make_baseline(model_dir, config, folder, Run(folder / "run", 0, 1, 1))
    private, _, _ = generate_key(folder / "key")
    return Workplace(model_dir, folder / "state", private, base)


def driven(
    episodes: Episodes, base: str, adapters: tuple[str, ...] = (), begin: int = 0, number: int = 0
) -> Iterator[Captured]:
    """Episodes as the planner would tell of them, decision by decision; `begin` is the first sequence number."""
    ends = np.append(episodes.first[1:], True)
    for row in range(len(episodes)):
        number += int(episodes.first[row])
        index = int(episodes.action[row])
        probabilities = np.full(ACTION_COUNT, 0.1, np.float32)
        probabilities[index] = 0.6
        reward = RewardTerms() if episodes.first[row] else RewardTerms(progress=float(episodes.reward[row]))
        one = Experience(
            stamp_s=(begin + row) * DECISION_S,
            sequence=begin + row,
            episode=number - 1,
            observation=Observation(episodes.bev[row], episodes.state[row]),
            action=Action(index, float(np.float32(ACCELERATION_BINS[index])), probabilities),
            value=0.5,
            reward=reward,
            is_first=bool(episodes.first[row]),
            is_last=bool(ends[row]),
            is_terminal=bool(episodes.terminal[row]),
            adapter_digests=adapters,
            intervention="braking_distance" if episodes.overruled[row] else "",
        )
        yield capture(one, base, 1.5)


def fill(place: Workplace, episodes: Episodes, adapters: tuple[str, ...] = (), begin: int = 0, number: int = 0) -> int:
    """Store driving; returns the next sequence number."""
    with ReplayStore(place.state_dir / "replay", ReplayConfig(chunk_decisions=20)) as store:
        for one in driven(episodes, place.base, adapters, begin, number):
            store.append(one)
    return begin + len(episodes)
