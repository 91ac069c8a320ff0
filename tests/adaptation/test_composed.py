"""Composed layers compute what peft's do, forward and backward, and see changed factors when told to."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from adawm_planner.adaptation.composed import ComposedLinear, share_factors
from adawm_planner.adaptation.fit import Before, fit_policy, low_rank_loss
from adawm_planner.adaptation.lora import lora_parameters
from adawm_planner.adaptation.student import Student
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.fit import step_generator
from adawm_planner.pretraining.trainer import Replay
from tests.adaptation.conftest import random_episodes


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    base = nn.Linear(5, 4).double().requires_grad_(False)
    x = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)
    down = torch.randn(2, 5, dtype=torch.double, requires_grad=True)
    up = torch.randn(4, 2, dtype=torch.double, requires_grad=True)

    def call(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = ComposedLinear(base, down, up, 0.5)(x)
        return product

    assert torch.autograd.gradcheck(call, (x, down, up))


def test_the_dynamics_loss_and_its_gradients_are_pefts(agent: Agent, config: AdaptationConfig) -> None:
    config = replace(config, lora=replace(config.lora, alpha=2 * config.lora.rank))
    replay = Replay(agent.world_model.encoder, random_episodes(6, 1), 0.99)
    student = Student(agent, config, low_rank=True, seed=0)
    plain = student.merged()
    layers = share_factors(plain, student.agent, "world_model")
    parameters = lora_parameters(student.agent, "world_model")
    with torch.no_grad():
        for parameter in parameters:  # a fresh B is zero, and with it the gradient of A
            parameter.add_(0.05 * torch.randn_like(parameter))
    for layer in layers:
        layer.compose()
    before = Before.of(student.agent, replay)

    def gradients(of: Agent) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        torch.manual_seed(1)
        loss, _ = low_rank_loss(of, replay, before, config.fit, step_generator(0, "x", 0))
        return loss.detach(), torch.autograd.grad(loss, parameters)

    (ours, our_gradients), (pefts, peft_gradients) = gradients(plain), gradients(student.agent)
    torch.testing.assert_close(ours, pefts, rtol=1e-5, atol=1e-5)
    assert sum(float(gradient.abs().max()) > 0.0 for gradient in our_gradients) == len(parameters)
    for mine, theirs in zip(our_gradients, peft_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_changed_factors_count_after_compose() -> None:
    torch.manual_seed(0)
    base, down, up = nn.Linear(3, 3), torch.randn(1, 3), torch.zeros(3, 1)
    layer, x = ComposedLinear(base, down, up, 1.0), torch.randn(2, 3)
    torch.testing.assert_close(layer(x), base(x))
    up += 1.0
    torch.testing.assert_close(layer(x), base(x))
    layer.compose()
    torch.testing.assert_close(layer(x), base(x) + (x @ down.T) @ up.T)


def test_a_policy_update_trains_the_students_own_factors(agent: Agent, config: AdaptationConfig) -> None:
    replay = Replay(agent.world_model.encoder, random_episodes(6, 1), 0.99)
    replay.add(random_episodes(6, 2))
    student, latent = Student(agent, config, low_rank=True, seed=0), torch.zeros(1, agent.world_model.config.latent)
    before = student.agent.actor(latent).detach()
    fit_policy(student, replay, config, 4, 0)
    after = student.agent.actor(latent).detach()
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, student.merged().actor(latent).detach())
