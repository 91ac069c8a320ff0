"""The recurrent state-space model: what happened and what was done -> what is and what comes next.

State (h, z) goes in and comes out of every step. h is deterministic, z holds G one-hot variables of N classes.
Every weight that adaptation may touch is a plain Linear, so that peft can wrap it and ONNX shows a matrix
product. After DreamerV3 (Hafner et al. 2023); the heads read the latent [h, z].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.dims import ACTION_COUNT


class State(NamedTuple):
    """Recurrent state."""

    h: Tensor  # (B, D)
    z: Tensor  # (B, G * N) one-hot per group

    def latent(self) -> Tensor:
        """What heads and policy see, (B, D + G * N)."""
        return torch.cat([self.h, self.z], -1)


class Observed(NamedTuple):
    """A sequence as the model explained it."""

    h: Tensor  # (B, T, D)
    z: Tensor  # (B, T, G * N)
    posterior: Tensor  # (B, T, G, N) log-probabilities
    prior: Tensor  # (B, T, G, N) log-probabilities

    def latent(self) -> Tensor:
        """What heads and policy see, (B, T, D + G * N)."""
        return torch.cat([self.h, self.z], -1)


class RSSM(nn.Module):
    """Gated recurrent core with categorical prior and posterior."""

    def __init__(self, config: WorldModelConfig) -> None:
        """Layers of the configured sizes."""
        super().__init__()
        self.config = config
        self.input_layer = nn.Linear(config.stochastic + ACTION_COUNT, config.hidden)
        self.input_norm = nn.LayerNorm(config.hidden)
        self.gates = nn.Linear(config.hidden + config.deter, 3 * config.deter)
        self.gates_norm = nn.LayerNorm(3 * config.deter)
        self.prior_layer = nn.Linear(config.deter, config.hidden)
        self.prior_norm = nn.LayerNorm(config.hidden)
        self.prior_logits = nn.Linear(config.hidden, config.stochastic)
        self.posterior_layer = nn.Linear(config.deter + config.embedding, config.hidden)
        self.posterior_norm = nn.LayerNorm(config.hidden)
        self.posterior_logits = nn.Linear(config.hidden, config.stochastic)

    def initial(self, batch: int) -> State:
        """State before the first observation: zeros."""
        weight = self.prior_layer.weight
        return State(weight.new_zeros(batch, self.config.deter), weight.new_zeros(batch, self.config.stochastic))

    def advance(self, state: State, action: Tensor) -> Tensor:
        """Deterministic part of a step: (h, z) and the action taken (B, A) -> next h (B, D)."""
        inside = functional.silu(self.input_norm(self.input_layer(torch.cat([state.z, action], -1))))
        gates = self.gates_norm(self.gates(torch.cat([inside, state.h], -1)))
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)
        return update * candidate + (1.0 - update) * state.h

    def prior(self, h: Tensor) -> Tensor:
        """Log-probabilities (B, G, N) of z given h alone."""
        hidden = functional.silu(self.prior_norm(self.prior_layer(h)))
        return self._mix(self.prior_logits(hidden))

    def posterior(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Log-probabilities (B, G, N) of z given h and the observation's embedding (B, E)."""
        hidden = self.posterior_layer(torch.cat([h, embedding], -1))
        return self._mix(self.posterior_logits(functional.silu(self.posterior_norm(hidden))))

    def observe_step(
        self, state: State, action: Tensor, first: Tensor, embedding: Tensor, sample: bool
    ) -> tuple[State, Tensor]:
        """One filtering step.

        Args:
            state: before the step.
            action: (B, A) one-hot taken before this observation.
            first: (B, 1) 1.0 where an episode begins, which clears state and action.
            embedding: (B, E) of this observation.
            sample: draw z (with straight-through gradient) instead of taking the most probable classes.

        Returns:
            The new state, and the posterior's log-probabilities (B, G, N).
        """
        kept = 1.0 - first
        h = self.advance(State(state.h * kept, state.z * kept), action * kept)
        posterior = self.posterior(h, embedding)
        return State(h, draw(posterior) if sample else most_probable(posterior)), posterior

    def imagine_step(self, state: State, action: Tensor, sample: bool) -> State:
        """One step without an observation; `action` (B, A) is taken in `state`."""
        h = self.advance(state, action)
        log_probabilities = self.prior(h)
        return State(h, draw(log_probabilities) if sample else most_probable(log_probabilities))

    def observe(self, embedding: Tensor, action: Tensor, first: Tensor, state: State, sample: bool = True) -> Observed:
        """Filter sequences.

        Args:
            embedding: (B, T, E).
            action: (B, T, A) one-hot taken before each observation.
            first: (B, T) 1.0 where an episode begins.
            state: before the first step.
            sample: as in observe_step.
        """
        batch, length, _ = embedding.shape
        hs, zs, posteriors = [], [], []
        for t in range(length):
            state, posterior = self.observe_step(state, action[:, t], first[:, t, None], embedding[:, t], sample)
            hs.append(state.h)
            zs.append(state.z)
            posteriors.append(posterior)
        h = torch.stack(hs, 1)
        prior = self.prior(h.flatten(0, 1)).reshape(batch, length, self.config.groups, self.config.classes)
        return Observed(h, torch.stack(zs, 1), torch.stack(posteriors, 1), prior)

    def _mix(self, logits: Tensor) -> Tensor:
        grouped = logits.reshape(-1, self.config.groups, self.config.classes)
        if self.config.unimix == 0.0:
            return functional.log_softmax(grouped, -1)
        share = self.config.unimix
        return torch.log((1.0 - share) * functional.softmax(grouped, -1) + share / self.config.classes)


def most_probable(log_probabilities: Tensor) -> Tensor:
    """One-hot (B, G * N) of the most probable class of each group; the first one where two are equal."""
    classes = torch.arange(log_probabilities.shape[-1], device=log_probabilities.device)
    chosen = log_probabilities.argmax(-1, keepdim=True) == classes
    return chosen.to(log_probabilities.dtype).flatten(-2)


def draw(log_probabilities: Tensor) -> Tensor:
    """One-hot (B, G * N) sample of each group; the gradient passes straight through to the probabilities."""
    noise = -torch.log(-torch.log(torch.rand_like(log_probabilities).clamp(1e-20, 1.0 - 1e-7)))
    sample = most_probable((log_probabilities + noise).detach())
    probabilities = log_probabilities.exp().flatten(-2)
    return sample + probabilities - probabilities.detach()
