"""Latent -> value, and its slow copy.

The value is a two-hot distribution over symlog bins; targets are bootstrapped from a slowly following copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adawm_planner.config.policy import PolicyConfig
from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.world_model.heads import TwoHotHead


class Critic(nn.Module):
    """Discounted return of the policy, by its expected symlog: see `TwoHotHead.mean`."""

    def __init__(self, model: WorldModelConfig, config: PolicyConfig) -> None:
        """Layers of the configured sizes."""
        super().__init__()
        self.head = TwoHotHead(model.latent, config.hidden, config.layers, model.bins, model.value_limit)

    def forward(self, latent: Tensor) -> Tensor:
        """Value (...) of latents (..., D + G * N)."""
        return self.head.mean(self.head(latent))

    def loss(self, latent: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (...) of the value distribution with returns (...)."""
        return self.head.loss(self.head(latent), target)


@torch.no_grad()
def follow(slow: Critic, critic: Critic, rate: float) -> None:
    """Move the slow copy's weights towards the critic's by `rate`."""
    for ours, theirs in zip(slow.parameters(), critic.parameters(), strict=True):
        ours.lerp_(theirs, rate)
