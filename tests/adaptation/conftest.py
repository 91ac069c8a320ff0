"""A small random agent, and rollouts of random numbers: everything here runs without a simulator."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adawm_planner.config.adaptation import POLICY_ADAPTERS, AdaptationConfig, load_adaptation
from adawm_planner.config.presets import load_pretraining
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.policy.agent import Agent, save_agent
from adawm_planner.pretraining.dataset import Episodes, join
from adawm_planner.runtime.export import export_model

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=POLICY_ADAPTERS)
def config(request: pytest.FixtureRequest) -> AdaptationConfig:
    return replace(load_adaptation(preset="debug"), policy_adapter=request.param)


@pytest.fixture
def agent() -> Agent:
    return random_agent()


def random_agent() -> Agent:
    """Larger weights than at the start, so that latents, rewards and probabilities vary."""
    torch.manual_seed(0)
    sizes = load_pretraining(preset="debug")
    agent = Agent(sizes.world_model, sizes.policy).eval()
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            if name.endswith("logits.weight") or name.startswith(
                ("critic.head.net.6", "slow_critic.head.net.6", "actor.net.6")
            ):
                parameter.copy_(torch.randn_like(parameter))
            elif name.startswith("world_model.reward_head.net.3"):
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return agent


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """agent/ and model/, made once because an export takes seconds; tests get copies."""
    folder = tmp_path_factory.mktemp("exported")
    save_agent(random_agent(), folder / "agent")
    export_model(folder / "agent", folder / "model")
    return folder


@pytest.fixture
def model_dir(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    return tmp_path / "model"


def random_episodes(count: int, seed: int, level: float = 0.0, length: int = 20) -> Episodes:
    """Episodes of random observations; `level` shifts the state features, and with them what the agent is used to."""
    rng, parts = np.random.default_rng(seed), []
    for _ in range(count):
        rows = int(rng.integers(length // 2, length))
        first, terminal = np.zeros(rows, bool), np.zeros(rows, bool)
        first[0], terminal[-1] = True, rng.random() < 0.5
        parts.append(
            Episodes(
                bev=(255 * (rng.random((rows, *BEV_SHAPE)) < 0.1)).astype(np.uint8),
                state=rng.normal(level, 0.5, (rows, STATE_SIZE)).astype(np.float32),
                action=rng.integers(0, ACTION_COUNT, rows),
                label=np.zeros(rows, np.int64),
                reward=np.where(terminal, -1.5, 0.04).astype(np.float32),
                first=first,
                terminal=terminal,
                held_out=np.zeros(rows, bool),
                overruled=np.zeros(rows, bool),
            )
        )
    return join(parts)
