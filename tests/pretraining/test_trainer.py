"""Training stages learn what can be learned on a tiny crossing, and leave alone what they must."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adawm_planner.config.presets import load_pretraining
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining import trainer
from adawm_planner.pretraining.clone import HAZARD_HORIZONS, Clone
from adawm_planner.pretraining.collect import Fleet, round_jobs
from adawm_planner.pretraining.dataset import Episodes, join
from adawm_planner.pretraining.fit import Run
from adawm_planner.pretraining.losses import Dream, world_model_loss
from adawm_planner.pretraining.trainer import ActorCritic, Replay, RunningRms, dynamics_parameters, imagine
from adawm_planner.world_model.rssm import State
from tests.pretraining.crossing import crossing_rig
from tests.pretraining.remembering import GOING, PAY, Remembering, at

CONFIG = load_pretraining(preset="debug")


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    with Fleet(crossing_rig, 0) as fleet:
        jobs = islice(round_jobs(CONFIG.collection, 0, 0, "", False), 30)
        return join([driven.episodes for driven in fleet.drive(jobs)])


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(CONFIG.world_model, CONFIG.policy)


def test_cloning_learns_the_crossing(episodes: Episodes) -> None:
    torch.manual_seed(0)
    clone = Clone(CONFIG.world_model, CONFIG.policy)
    optimizer = torch.optim.Adam(clone.parameters(), 3e-3)
    tensors = torch.from_numpy(episodes.bev), torch.from_numpy(episodes.state), torch.from_numpy(episodes.label)
    crash = torch.from_numpy(episodes.crash_ahead(HAZARD_HORIZONS))
    for _ in range(120):
        loss, metrics = clone.loss(*tensors, crash, CONFIG.cloning)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["accuracy"] > 0.95


def test_the_world_model_explains_what_it_was_trained_on(episodes: Episodes, agent: Agent) -> None:
    replay, rng = Replay(agent.world_model.encoder, episodes, 0.99), np.random.default_rng(0)
    batch = replay.draw(8, 16, 8, 0.0, rng)
    parameters = dynamics_parameters(agent)
    optimizer = torch.optim.Adam(parameters, 3e-3)
    first, _, _ = world_model_loss(agent.world_model, batch, CONFIG.dynamics)
    for _ in range(60):
        loss, seen, metrics = world_model_loss(agent.world_model, batch, CONFIG.dynamics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.6 * float(first)
    assert all(np.isfinite(list(metrics.values())))
    assert all(parameter.grad is None for parameter in agent.world_model.encoder.parameters())


def test_windows_begin_with_a_first_row_and_agree_with_the_data(episodes: Episodes, agent: Agent) -> None:
    replay = Replay(agent.world_model.encoder, episodes, 0.99)
    batch = replay.draw(5, 12, 6, 0.0, np.random.default_rng(0))
    assert batch.first[:, 0].tolist() == [1.0] * 5
    assert batch.pictures.shape[0] == 6 and batch.embedding.shape == (5, 12, CONFIG.world_model.embedding)
    inside = batch.first[:, 1:] == 1.0
    assert (batch.ended[:, :-1][inside] == 1.0).all(), "before each first row another episode ended"
    assert (batch.reward[:, 1:][inside] == 0.0).all()


def test_fresh_rows_are_embedded_like_the_old(episodes: Episodes, agent: Agent) -> None:
    once = Replay(agent.world_model.encoder, join([episodes, episodes]), 0.99)
    twice = Replay(agent.world_model.encoder, episodes, 0.99)
    twice.add(episodes)
    assert twice.newest == len(episodes) and len(twice) == 2 * len(episodes)
    np.testing.assert_allclose(once.embedding, twice.embedding, atol=1e-5)


@pytest.mark.parametrize("cut", ["none", "some", "all"])
def test_the_critic_learns_no_return_that_a_time_limit_cut(
    episodes: Episodes, agent: Agent, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = np.flatnonzero(np.append(episodes.first[1:], True))
    terminal = np.zeros(len(episodes), bool)
    terminal[{"none": last, "some": last[::2], "all": last[:0]}[cut]] = True
    replay = Replay(agent.world_model.encoder, replace(episodes, terminal=terminal), 0.99)
    torch.nn.init.normal_(agent.critic.head.net[-1].weight)
    dynamics, run = CONFIG.dynamics, Run(Path(), 0, 1, 1)
    with torch.no_grad():
        batch = replay.draw(dynamics.batch, dynamics.length, 1, 0.0, trainer.step_generator(0, "clone_actor", 0))
        loss = agent.critic.loss(trainer.filtered(agent, batch, sample=True).latent(), batch.returns)
    ended = torch.from_numpy(np.isin(np.cumsum(episodes.first) - 1, np.cumsum(episodes.first)[terminal] - 1))
    counted = loss[ended[batch.rows]]
    monkeypatch.setattr(trainer, "fit", lambda stage, _: stage.update(0))
    metrics: Any = trainer.clone_actor_critic(agent, replay, replay, dynamics, CONFIG.imagination, run)
    if cut == "none":
        assert metrics["value"] == float(loss.mean()), "bit for bit"
    assert metrics["value"] == pytest.approx(float(counted.mean()) if len(counted) else 0.0)
    assert (len(counted) == 0) == (cut == "all") and (len(counted) == loss.numel()) == (cut == "none")


def test_imagination_has_the_right_shapes_and_keeps_real_ends(agent: Agent) -> None:
    going = torch.tensor([1.0, 0.0, 1.0])
    dream = imagine(agent, agent.initial(3), going, 4)
    assert dream.latent.shape == (5, 3, CONFIG.world_model.latent)
    assert dream.action.shape == dream.reward.shape == (4, 3)
    assert torch.equal(dream.going[0], going) and dream.going.shape == (5, 3)


def test_reward_and_end_are_those_of_the_action_just_taken() -> None:
    torch.manual_seed(0)
    agent: Any = Remembering(torch.full((5,), 0.2))
    worth, going = torch.linspace(0.5, 2.0, 64), (torch.arange(64) % 2).float()
    start = at(torch.arange(64) % 5, worth)
    dream = imagine(agent, start, going, 6)
    assert torch.equal(dream.latent[0], start.latent()) and torch.equal(dream.going[0], going)
    for k in range(6):
        action = dream.action[k]
        assert len(action.unique()) == 5
        assert torch.equal(dream.latent[k + 1], at(action, worth).latent())
        torch.testing.assert_close(dream.reward[k], worth * PAY[action])
        torch.testing.assert_close(dream.going[k + 1], GOING[action])


def test_advantages_are_measured_from_zero_and_not_from_their_mean() -> None:
    running, weight = RunningRms(), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert running.update(torch.tensor([[2.0, 2.0], [-2.0, 9.0]]), weight) == pytest.approx(2.0)
    assert running.update(torch.full((2, 2), 3.0), weight) == pytest.approx((0.98 * 4.0 + 0.02 * 9.0) ** 0.5)


def test_actor_critic_prefers_the_action_that_pays(
    agent: Agent, episodes: Episodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model in which one action pays, the policy must come to like that action."""
    honest = trainer.imagine

    def paying(agent: Agent, start: State, going: torch.Tensor, horizon: int) -> Dream:
        dream = honest(agent, start, going, horizon)
        return dream._replace(reward=(dream.action == 3).float(), going=torch.ones_like(dream.going))

    monkeypatch.setattr(trainer, "imagine", paying)
    learner = ActorCritic(agent, CONFIG.dynamics, CONFIG.imagination)
    for group in learner.actor_optimizer.param_groups:
        group["lr"] = 3e-3
    replay, rng = Replay(agent.world_model.encoder, episodes, 0.99), np.random.default_rng(0)
    torch.manual_seed(0)
    latent = torch.randn(20, CONFIG.world_model.latent)
    before = float(agent.actor(latent)[:, 3].mean())
    for _ in range(60):
        metrics = learner.update(replay, learn_actor=True, learn_model=False, rng=rng)
    assert float(agent.actor(latent)[:, 3].mean()) > before + 0.3
    assert metrics["advantage_rms"] > 0.0
