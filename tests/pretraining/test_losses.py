"""Returns, advantages and losses against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from adawm_planner.config.policy import LEAST_UNIMIX
from adawm_planner.config.presets import load_pretraining
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.policy.actor import Actor
from adawm_planner.pretraining.losses import (
    Dream,
    Sequences,
    actor_loss,
    alive,
    kl_balance,
    kl_divergence,
    lambda_returns,
    model_losses,
    scaled_advantage,
)
from adawm_planner.world_model.model import WorldModel
from adawm_planner.world_model.rssm import Observed


def test_lambda_returns_at_both_ends_of_lambda() -> None:
    reward, going, value = torch.tensor([[1.0], [2.0]]), torch.ones(2, 1), torch.tensor([[10.0], [20.0]])
    one_step = lambda_returns(reward, going, value, discount=0.5, trace=0.0)
    assert one_step.flatten().tolist() == [1.0 + 0.5 * 10.0, 2.0 + 0.5 * 20.0]
    whole = lambda_returns(reward, going, value, discount=0.5, trace=1.0)
    assert whole.flatten().tolist() == [1.0 + 0.5 * (2.0 + 0.5 * 20.0), 2.0 + 0.5 * 20.0]


def test_nothing_counts_after_an_end() -> None:
    reward, going = torch.tensor([[1.0], [5.0]]), torch.tensor([[0.0], [1.0]])
    returns = lambda_returns(reward, going, torch.full((2, 1), 9.0), discount=1.0, trace=0.95)
    assert returns[0].item() == 1.0
    dream = Dream(
        torch.zeros(3, 1, 1), torch.zeros(2, 1, dtype=torch.int64), reward, torch.tensor([[1.0], [0.0], [1.0]])
    )
    assert alive(dream).flatten().tolist() == [1.0, 0.0]


def test_advantages_are_scaled_and_clipped() -> None:
    advantage = scaled_advantage(torch.tensor([0.2, -9.0]), torch.zeros(2), rms=0.1, clip=4.0)
    assert advantage.tolist() == pytest.approx([2.0, -4.0])


def test_the_actor_moves_towards_a_good_action_and_entropy_pulls_back() -> None:
    logits = torch.zeros(1, 1, 5, requires_grad=True)
    action, weight = torch.tensor([[2]]), torch.ones(1, 1)
    loss, entropy = actor_loss(logits.softmax(-1), action, torch.ones(1, 1), weight, 0.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 0, 2] < 0.0 < gradient[0, 0, 0]
    assert entropy.item() == pytest.approx(1.6094, abs=1e-3)
    peaked = torch.tensor([[[3.0, 0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    loss, _ = actor_loss(peaked.softmax(-1), action, torch.zeros(1, 1), weight, 1.0)
    (gradient,) = torch.autograd.grad(loss, peaked)
    assert gradient[0, 0, 0] > 0.0, "a bonus for entropy lowers the highest logit"
    loss, _ = actor_loss(logits.softmax(-1), action, torch.ones(1, 1), torch.zeros(1, 1), 0.01)
    assert loss.item() == 0.0, "no weight, no loss"


def test_an_action_that_is_nearly_ruled_out_leaves_loss_and_gradient_finite() -> None:
    sizes = load_pretraining(preset="debug")
    actor = Actor(4, replace(sizes.policy, unimix=LEAST_UNIMIX))
    with torch.no_grad():
        actor.net[-1].bias.copy_(torch.tensor([0.0, 500.0, 0.0, 0.0, 0.0]))
    action, ones = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3)
    loss, entropy = actor_loss(actor(torch.zeros(2, 3, 4)), action, ones, ones, 0.01)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(entropy)
    assert all(torch.isfinite(parameter.grad).all() for parameter in actor.parameters() if parameter.grad is not None)


def test_kl_is_zero_for_equal_and_balanced_with_free_nats() -> None:
    left = torch.log_softmax(torch.tensor([[[[2.0, 0.0], [0.0, 1.0]]]]), -1)
    right = torch.log_softmax(torch.zeros(1, 1, 2, 2), -1)
    assert kl_divergence(left, left).item() == pytest.approx(0.0, abs=1e-7)
    by_hand = (left.exp() * (left - right)).sum().item()
    assert kl_divergence(left, right).item() == pytest.approx(by_hand)
    config = load_pretraining(preset="debug").dynamics
    seen = Observed(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), left, right)
    balanced, plain = kl_balance(seen, config)
    assert plain.item() == pytest.approx(by_hand) and by_hand < config.free_nats
    assert balanced.item() == pytest.approx(config.kl_dynamics + config.kl_representation)


def test_above_free_nats_each_side_of_the_kl_gets_its_own_share_of_the_gradient() -> None:
    config = replace(load_pretraining(preset="debug").dynamics, kl_dynamics=0.5, kl_representation=0.1, free_nats=1.0)
    # One group of two classes: q = (0.9, 0.1) after seeing, p = (0.01, 0.99) before.
    q, p = torch.tensor([0.9, 0.1], dtype=torch.float64), torch.tensor([0.01, 0.99], dtype=torch.float64)
    left, right = (each.log().reshape(1, 1, 1, 2).requires_grad_() for each in (q, p))
    kl = 0.9 * math.log(0.9 / 0.01) + 0.1 * math.log(0.1 / 0.99)
    balanced, plain = kl_balance(Observed(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), left, right), config)
    assert kl > config.free_nats and plain.item() == pytest.approx(kl) and not plain.requires_grad
    assert balanced.item() == pytest.approx((0.5 + 0.1) * kl)
    posterior, prior = torch.autograd.grad(balanced.sum(), (left, right))
    # KL = sum q (log q - log p): by log p it changes by -q, by log q by q (log q - log p + 1).
    assert prior.flatten().tolist() == pytest.approx((-0.5 * q).tolist())
    assert posterior.flatten().tolist() == pytest.approx((0.1 * q * ((q / p).log() + 1.0)).tolist())


def test_below_free_nats_nothing_pulls() -> None:
    config = replace(load_pretraining(preset="debug").dynamics, free_nats=1.0)
    left, right = (torch.tensor(each).log().reshape(1, 1, 1, 2).requires_grad_() for each in ([0.6, 0.4], [0.5, 0.5]))
    balanced, _ = kl_balance(Observed(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), left, right), config)
    posterior, prior = torch.autograd.grad(balanced.sum(), (left, right))
    assert not posterior.any() and not prior.any()


def test_only_the_flag_of_an_end_for_good_turns_the_target_of_going_on() -> None:
    config = load_pretraining(preset="debug")
    torch.manual_seed(0)
    model = WorldModel(config.world_model)
    zeros, none = torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.int64)
    batch = Sequences(
        rows=none,
        embedding=torch.zeros(1, 3, config.world_model.embedding),
        action=torch.zeros(1, 3, ACTION_COUNT),
        first=zeros,
        state=torch.zeros(1, 3, STATE_SIZE),
        reward=zeros,
        terminal=zeros,
        ended=torch.tensor([[0.0, 0.0, 1.0]]),  # in both batches, by a time limit in the first
        overruled=zeros,
        label=none,
        returns=zeros,
        over=zeros,
        picture_rows=torch.zeros(0, dtype=torch.int64),
        pictures=torch.zeros(0, *BEV_SHAPE, dtype=torch.uint8),
    )
    seen = model.rssm.observe(batch.embedding, batch.action, batch.first, model.rssm.initial(1), False)
    latent = seen.latent()
    going = model.continuation(latent).detach()
    cut, _ = model_losses(model, batch, batch.embedding, seen, latent, config.dynamics)
    over = replace(batch, terminal=torch.tensor([[0.0, 0.0, 1.0]]))
    final, _ = model_losses(model, over, batch.embedding, seen, latent, config.dynamics)
    assert cut["continue"].flatten().tolist() == pytest.approx((-going.log()).flatten().tolist())
    assert final["continue"][0, :2].tolist() == cut["continue"][0, :2].tolist()
    assert final["continue"][0, 2].item() == pytest.approx(-math.log(1.0 - going[0, 2].item()))
    bias = model.continue_head[-1].bias
    for losses, towards in ((cut, -1.0), (final, 1.0)):  # the logit is pulled up, and down where it was the end
        (gradient,) = torch.autograd.grad(losses["continue"][0, 2], bias, retain_graph=True)
        assert gradient.item() * towards > 0.1
    assert all(torch.equal(cut[name], final[name]) for name in cut if name != "continue")
