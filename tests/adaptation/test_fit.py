"""Updates: each changes its own part and nothing else, lowers its loss, and is the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adawm_planner.adaptation.fit import (
    RATES,
    Before,
    Starts,
    at_round,
    dream,
    fit_dynamics,
    fit_policy,
    full_loss,
    low_rank_loss,
)
from adawm_planner.adaptation.student import Student, factor_tensors
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.fit import step_generator
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.world_model.rssm import State
from tests.adaptation.conftest import random_episodes


@pytest.fixture
def replay(agent: Agent) -> Replay:
    replay = Replay(agent.world_model.encoder, random_episodes(12, 1), 0.99)
    replay.add(random_episodes(12, 2, 1.0))
    return replay


def changed(student: Student) -> set[str]:
    """Top-level parts of the merged agent that differ from the base."""
    pairs = zip(student.merged().state_dict().items(), student.base.state_dict().values(), strict=True)
    return {name.split(".")[0] for (name, ours), theirs in pairs if not torch.equal(ours, theirs)}


def starts(count: int, newest: int) -> Starts:
    """States that hold their row, the last `newest` of which are of the new task."""
    return Starts(State(torch.arange(count).unsqueeze(1), torch.zeros(count, 1)), newest)


@pytest.mark.parametrize(("index", "scale"), [(1, 1.0), (8, 1.0), (9, 8 / 9), (16, 0.5), (24, 1 / 3)])
def test_a_long_run_ends_in_small_steps(index: int, scale: float) -> None:
    """By the shipped settings; nothing but the rates changes."""
    config = load_adaptation()
    late = at_round(config, index)
    for name in RATES:
        assert getattr(late.fit, name) == pytest.approx(scale * getattr(config.fit, name))
    rates = {name: getattr(config.fit, name) for name in RATES}
    assert replace(late, fit=replace(late.fit, **rates)) == config


def test_starts_are_drawn_from_both_tasks_in_their_shares() -> None:
    drawn = starts(100, 20).draw(50, 0.3, np.random.default_rng(0)).h.squeeze(1).numpy()
    rng = np.random.default_rng(0)
    assert np.array_equal(drawn, [*rng.integers(80, 100, 15), *rng.integers(0, 80, 35)])


@pytest.mark.parametrize("newest", [0, 100])
def test_where_there_is_one_task_alone_every_state_is_as_likely_a_start(newest: int) -> None:
    drawn = starts(100, newest).draw(2000, 0.3, np.random.default_rng(0)).h.squeeze(1).numpy()
    counts = np.bincount(drawn, minlength=100)
    assert len(counts) == 100 and counts.min() > 5 and counts.max() < 45  # 20 each on average


def test_a_dynamics_update_changes_the_world_model_alone(
    agent: Agent, config: AdaptationConfig, replay: Replay
) -> None:
    student = Student(agent, config, low_rank=True, seed=0)
    report = fit_dynamics(student, replay, config, 3, 0)
    assert changed(student) == {"world_model"}
    assert report.trainable == sum(parameter.numel() for parameter in student.dynamics_parameters())
    names = [n for n, p in student.agent.world_model.named_parameters() if p.requires_grad and "lora_" not in n]
    assert names == []


def test_a_policy_update_leaves_the_world_model(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    student = Student(agent, config, low_rank=True, seed=0)
    report = fit_policy(student, replay, config, 3, 0)
    assert changed(student) == {"actor", "critic", "slow_critic"}
    assert report.trainable > 0
    assert report.seconds > 0.0


def test_a_full_update_trains_the_encoder_too(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    student = Student(agent, config, low_rank=False, seed=0)
    mine = Replay(student.agent.world_model.encoder, replay.episodes, 0.99)
    before = mine.embedding.copy()
    fit_dynamics(student, mine, config, 3, 0)
    assert not torch.equal(student.agent.world_model.encoder.join.weight, agent.world_model.encoder.join.weight)
    assert abs(mine.embedding - before).max() > 0.0
    with pytest.raises(ValueError, match="cannot be written as low-rank factors"):
        student.factors()


def test_a_full_update_trains_all_that_has_a_gradient(
    agent: Agent, config: AdaptationConfig, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of the expert's labels has none, so that leaving it out changes no bit."""

    def trained() -> Student:
        student = Student(agent, config, low_rank=False, seed=0)
        fit_dynamics(student, Replay(student.agent.world_model.encoder, replay.episodes, 0.99), config, 3, 0)
        return student

    student = trained()
    assert all(parameter.grad is not None for parameter in student.dynamics_parameters())
    monkeypatch.setattr(Student, "dynamics_parameters", lambda self: list(self.agent.world_model.parameters()))
    for ours, every in zip(student.agent.parameters(), trained().agent.parameters(), strict=True):
        assert torch.equal(ours, every)


def test_dynamics_loss_falls(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    config = replace(config, fit=replace(config.fit, dynamics_rate=5e-3))
    student = Student(agent, config, low_rank=True, seed=0)

    def loss() -> float:
        rng = step_generator(9, "test", 0)
        with torch.no_grad():
            return float(low_rank_loss(student.agent, replay, Before.of(agent, replay), config.fit, rng)[0])

    before = loss()
    fit_dynamics(student, replay, config, 60, 0)
    assert loss() < 0.97 * before


def test_full_and_low_rank_loss_agree_before_training(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    with torch.no_grad():
        before = Before.of(agent, replay)
        _, low = low_rank_loss(agent, replay, before, config.fit, step_generator(3, "x", 0))
        _, full = full_loss(agent, replay, before, config.fit, step_generator(3, "x", 0))
    for name in ("state", "embedding"):
        assert full[name] == pytest.approx(low[name], rel=1e-3), name
    assert "image" in full
    assert low["policy_moved"] > 0.0, "sampled latents alone move decisions"


TERMS = ("kl", "embedding", "state", "reward", "continue")


@pytest.mark.parametrize("ends", [False, True])
def test_of_overruled_actions_only_an_end_teaches(agent: Agent, config: AdaptationConfig, ends: bool) -> None:
    episodes = random_episodes(6, 1)
    terminal = np.full(len(episodes), ends)
    episodes = replace(episodes, terminal=terminal, overruled=np.ones(len(episodes), bool))
    config = replace(config, fit=replace(config.fit, keep_policy=0.0))
    student = Student(agent, config, low_rank=True, seed=0)
    replay = Replay(agent.world_model.encoder, episodes, 0.99)
    loss, metrics = low_rank_loss(
        student.agent, replay, Before.of(agent, replay), config.fit, step_generator(3, "x", 0)
    )
    gradients = torch.autograd.grad(loss, student.dynamics_parameters())
    assert all((metrics[name] > 0.0) is ends for name in TERMS)
    assert any(bool(gradient.any()) for gradient in gradients) is ends


def test_the_same_seed_gives_the_same_update(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    results = []
    for _ in range(2):
        student = Student(agent, config, low_rank=True, seed=0)
        fit_dynamics(student, replay, config, 2, 4)
        fit_policy(student, replay, config, 2, 4)
        results.append(factor_tensors(student.factors()))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_nothing_after_an_imagined_end_counts(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    with torch.no_grad():
        agent.world_model.continue_head[-1].bias.fill_(-50.0)
    seen = dream(agent, Starts.of(agent, replay), config.fit, step_generator(0, "x", 0))
    assert float(seen.weight[1:].max()) < 1e-6


def test_windows_begin_where_filtering_had_come(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    before = Before.of(agent, replay)
    drawn = replay.draw(64, 5, 0, 0.0, step_generator(1, "x", 0))
    batch, state = before.start(replay, drawn)
    begins = replay.episodes.first[drawn.rows[:, 0].numpy()]
    assert 0 < begins.sum() < len(begins)  # windows of both kinds
    with torch.no_grad():
        seen = agent.world_model.rssm.observe(batch.embedding, batch.action, batch.first, state, sample=False)
    torch.testing.assert_close(seen.h, before.state.h[batch.rows])
    torch.testing.assert_close(seen.z, before.state.z[batch.rows])


def test_the_mean_of_the_last_policies_leaves(agent: Agent, config: AdaptationConfig, replay: Replay) -> None:
    def left(averaged: float) -> torch.Tensor:
        student = Student(agent, config, low_rank=True, seed=0)
        fit_policy(student, replay, replace(config, fit=replace(config.fit, averaged=averaged)), 4, 4)
        return student.factors()["actor.net.0"][1]

    last, mean = left(0.0), left(1.0)
    torch.testing.assert_close(left(0.25), last)  # the mean of one
    if config.policy_adapter == "subunits":
        torch.testing.assert_close(mean, last)  # folding leaves nothing to average
    else:
        assert 0.0 < float(mean.norm()) < float(last.norm())  # factors begin at 0 and grow
