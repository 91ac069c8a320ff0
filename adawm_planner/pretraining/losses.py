"""Batches and predictions in, losses out.

The world model's losses, lambda-returns, and the losses of actor and critic, after DreamerV3 (Hafner et al.
2023). Where this project differs, the docstring says why. `trainer` minimises them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from adawm_planner.config.adaptation import FitConfig
from adawm_planner.config.pretraining import DynamicsConfig
from adawm_planner.world_model.model import WorldModel
from adawm_planner.world_model.rssm import Observed

Weights = DynamicsConfig | FitConfig
"""Both hold the weights of a world model's losses."""


@dataclass(frozen=True)
class Sequences:
    """A batch of windows over driven episodes."""

    rows: Tensor  # (B, T) int64, where in the replay
    embedding: Tensor  # (B, T, E)
    action: Tensor  # (B, T, A) one-hot taken before each observation
    first: Tensor  # (B, T) 1.0 where an episode begins
    state: Tensor  # (B, T, S)
    reward: Tensor  # (B, T)
    terminal: Tensor  # (B, T) 1.0 where the episode ended for good
    ended: Tensor  # (B, T) 1.0 on the last row of an episode, which has no label
    overruled: Tensor  # (B, T) 1.0 where the action before it was not carried out as it was
    label: Tensor  # (B, T) int64
    returns: Tensor  # (B, T) discounted sum of the rewards that really followed
    over: Tensor  # (B, T) 1.0 where nothing more would have followed: the episode ended for good
    picture_rows: Tensor  # (M,) indices into the flattened B * T rows
    pictures: Tensor  # (M, C, H, W) uint8, the BEV of those rows


def kl_divergence(left: Tensor, right: Tensor) -> Tensor:
    """KL(left | right) summed over groups, (B, T), of log-probabilities (B, T, G, N)."""
    return (left.exp() * (left - right)).sum((-2, -1))


def kl_balance(seen: Observed, config: Weights) -> tuple[Tensor, Tensor]:
    """Balanced KL (B, T) with free nats, and the plain KL (B, T)."""
    dynamics = kl_divergence(seen.posterior.detach(), seen.prior)
    representation = kl_divergence(seen.posterior, seen.prior.detach())
    free = config.free_nats
    balanced = config.kl_dynamics * dynamics.clamp(min=free) + config.kl_representation * representation.clamp(min=free)
    return balanced, dynamics.detach()


def model_losses(
    model: WorldModel, batch: Sequences, embedding: Tensor, seen: Observed, latent: Tensor, config: Weights
) -> tuple[dict[str, Tensor], Tensor]:
    """Weighted losses of recurrent model and heads on one batch, which need no labels.

    Args:
        model: that filtered the batch.
        batch: windows of driving.
        embedding: (B, T, E) to be predicted.
        seen: the filtered sequence.
        latent: (B, T, D + G * N) its latents.
        config: weights of the terms.

    Returns:
        The terms (B, T) by name, and the plain KL (B, T).
    """
    kl, plain_kl = kl_balance(seen, config)
    going = model.continue_head(latent).squeeze(-1)
    losses = {
        "kl": kl,
        "embedding": config.embedding_weight * _squared(model.embedding_head(latent), embedding),
        "state": config.state_weight * _squared(model.vector(latent), batch.state),
        "reward": config.reward_weight * model.reward_head.loss(model.reward_head(latent), batch.reward),
        "continue": functional.binary_cross_entropy_with_logits(going, 1.0 - batch.terminal, reduction="none"),
    }
    for name, loss in losses.items():
        assert loss.shape == batch.reward.shape, (name, loss.shape)
    return losses, plain_kl


def world_model_loss(
    model: WorldModel, batch: Sequences, config: DynamicsConfig, sample: bool = True
) -> tuple[Tensor, Observed, dict[str, float]]:
    """Loss of recurrent model and heads on one batch.

    The encoder is frozen, so the model predicts its embedding, and beside it state, reward, end and the expert's
    label; the decoder learns from a few rows only because pictures cost more than everything else.

    Returns:
        The scalar loss, the filtered sequence, and the parts of the loss by name.
    """
    initial = model.rssm.initial(len(batch.reward))
    seen = model.rssm.observe(batch.embedding, batch.action, batch.first, initial, sample)
    latent = seen.latent()
    parts, plain_kl = model_losses(model, batch, batch.embedding, seen, latent, config)
    parts["label"] = config.label_weight * label_loss(model.label_head(latent), batch.label, batch.ended)
    image = _picture_loss(model, latent, batch)
    total = torch.stack([part.mean() for part in parts.values()]).sum() + config.image_weight * image
    metrics = {name: float(part.mean().detach()) for name, part in parts.items()}
    return total, seen, {**metrics, "image": float(image.detach()), "plain_kl": float(plain_kl.mean())}


def label_loss(logits: Tensor, label: Tensor, ended: Tensor) -> Tensor:
    """Cross-entropy (...) with the expert's labels (...), 0 on rows that end an episode."""
    entropy = functional.cross_entropy(logits.flatten(0, -2), label.flatten(), reduction="none")
    return entropy.view_as(ended) * (1.0 - ended)


def picture_loss(logits: Tensor, pictures: Tensor) -> Tensor:
    """Binary cross-entropy (scalar), summed over cells and averaged over pictures (M, C, H, W) uint8."""
    target = pictures.float() / 255.0
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(pictures)


def _picture_loss(model: WorldModel, latent: Tensor, batch: Sequences) -> Tensor:
    return picture_loss(model.decoder(latent.flatten(0, 1)[batch.picture_rows]), batch.pictures)


def _squared(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 2).sum(-1)


class Dream(NamedTuple):
    """Imagined rollouts of K decisions."""

    latent: Tensor  # (K + 1, B, D + G * N)
    action: Tensor  # (K, B) int64, taken in latent[:-1]
    reward: Tensor  # (K, B) that came with latent[1:]
    going: Tensor  # (K + 1, B) probability that the episode goes on after each latent


def lambda_returns(reward: Tensor, going: Tensor, value: Tensor, discount: float, trace: float) -> Tensor:
    """Returns (K, B) of imagined rollouts.

    Args:
        reward: (K, B) that came with steps 1..K.
        going: (K, B) probability that the episode goes on after steps 1..K.
        value: (K, B) of steps 1..K.
        discount: gamma per decision.
        trace: lambda; 1 bootstraps only at the end.
    """
    following, returns = value[-1], []
    for k in reversed(range(len(reward))):
        following = reward[k] + discount * going[k] * ((1.0 - trace) * value[k] + trace * following)
        returns.append(following)
    return torch.stack(returns[::-1])


def alive(dream: Dream) -> Tensor:
    """Weight (K, B) of each imagined decision: the probability that nothing before it ended the episode.

    Nothing after an imagined end may count, neither for the actor nor for the critic. DreamerV3 also multiplies the
    discounts of the steps before, which over 15 decisions at 0.995 changes a weight by at most 7 %.
    """
    return torch.cumprod(dream.going[:-1], 0)


def scaled_advantage(returns: Tensor, value: Tensor, rms: float, clip: float) -> Tensor:
    """Advantages (K, B) in units of their running root mean square, clipped.

    DreamerV3 divides by max(1, return range) instead; with this project's small rewards that left the policy
    where it was, because a good and a bad gap differ by less than 1.
    """
    return ((returns - value) / max(rms, 1e-4)).clamp(-clip, clip)


def actor_loss(
    probabilities: Tensor, action: Tensor, advantage: Tensor, weight: Tensor, entropy: float
) -> tuple[Tensor, Tensor]:
    """REINFORCE with an entropy bonus.

    Args:
        probabilities: (K, B, A) of the actor, with gradient.
        action: (K, B) taken.
        advantage, weight: (K, B), without gradient.
        entropy: strength of the bonus.

    Returns:
        The scalar loss and the mean entropy.
    """
    log_probabilities = torch.log(probabilities)
    taken = log_probabilities.gather(-1, action[..., None]).squeeze(-1)
    spread = -(probabilities * log_probabilities).sum(-1)
    assert taken.shape == advantage.shape == weight.shape == spread.shape
    return -(weight * (advantage * taken + entropy * spread)).mean(), spread.mean().detach()
