"""Latent -> action probabilities.

A small multilayer perceptron, mixed with the uniform distribution so that no action is ever ruled out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.config.policy import PolicyConfig
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.world_model.heads import mlp


class Actor(nn.Module):
    """The policy."""

    def __init__(self, latent: int, config: PolicyConfig) -> None:
        """Layers of the configured sizes over latents of size `latent`."""
        super().__init__()
        self.unimix = config.unimix
        self.net = mlp(latent, config.hidden, config.layers, ACTION_COUNT)

    def forward(self, latent: Tensor) -> Tensor:
        """Action probabilities (..., A) of latents (..., D + G * N)."""
        probabilities = functional.softmax(self.net(latent), -1)
        return (1.0 - self.unimix) * probabilities + self.unimix / ACTION_COUNT


def one_hot(index: Tensor) -> Tensor:
    """Actions (...) as the world model takes them, (..., A)."""
    return (index[..., None] == torch.arange(ACTION_COUNT, device=index.device)).float()
