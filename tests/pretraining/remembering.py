"""An agent made by hand: all that it knows is the action just taken, so what follows an action can be written down."""

from __future__ import annotations

import torch
from torch import Tensor

from adawm_planner.dims import ACTION_COUNT
from adawm_planner.world_model.rssm import State

PAY = torch.tensor([0.5, -2.0, 0.0, 3.0, 1.0])
"""Reward of each action at a state of worth 1: in no order, and not the same read backwards."""
GOING = torch.tensor([0.9, 0.5, 0.8, 0.6, 0.7])
"""Probability that the episode goes on after each action."""
VALUE = torch.tensor([2.0, -1.0, 4.0, 5.0, -3.0])
"""What the critic says after each action."""


def at(action: Tensor, worth: Tensor) -> State:
    """States (B, ...) just after actions (B,), of a worth (B,) that never changes."""
    return State(torch.eye(ACTION_COUNT)[action], worth[:, None])


class Remembering:
    """Actor, critic, world model and recurrent core in one; what it says depends on nothing but the latent."""

    def __init__(self, probabilities: Tensor) -> None:
        self.probabilities = probabilities  # (A,) of the policy, the same everywhere
        self.world_model = self.rssm = self

    def imagine_step(self, state: State, action: Tensor, sample: bool) -> State:
        return State(action, state.z)

    def reward(self, latent: Tensor) -> Tensor:
        return latent[..., -1] * (latent[..., :-1] @ PAY)

    def continuation(self, latent: Tensor) -> Tensor:
        return latent[..., :-1] @ GOING

    def critic(self, latent: Tensor) -> Tensor:
        return latent[..., :-1] @ VALUE

    def actor(self, latent: Tensor) -> Tensor:
        return self.probabilities.expand(len(latent), ACTION_COUNT)
