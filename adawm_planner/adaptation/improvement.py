"""Visited states and the acting policy in, how far an improved policy lies from it out.

The policy mismatch of AdaWM's theory is the total variation to the new task's optimal policy, which nobody has. What
can be had is one step towards it: pi' ~ pi exp(A / eta) with advantages A of the actions at states that the new task
really visits. A comes from one of two sources:
- `imagined`: short futures in the current model. It asks only whether the policy fits the model, so a vehicle that
  brakes worse, unknown to the model yet, does not show here but in the dynamics mismatch;
- `returns`: the rollouts' own rewards, of the action that was taken. It needs no model, but blames the policy for
  whatever went wrong, for want of a counterfactual.
eta is a multiple of the advantages' deviation on source data, fixed with the baseline: at a fixed KL step instead, the
total variation would be the same on every task by construction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adawm_planner.adaptation.visited import Visited
from adawm_planner.config.adaptation import FitConfig, MismatchConfig
from adawm_planner.data_types import Float64, Int64
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.policy.actor import one_hot
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import Episodes
from adawm_planner.world_model.rssm import State

CHUNK = 2048
"""States whose futures are imagined at a time: many episodes would not fit into memory at once."""


def pick_states(visited: Visited, count: int, rng: np.random.Generator) -> Int64:
    """Rows (M,), about `count` in all, the same number from every episode; rows that end one are left out.

    Raises ValueError where no row is left: every episode ended within the burn-in.
    """
    allowed = visited.acted
    if not allowed.any():
        raise ValueError(
            f"none of the {visited.episodes} episodes outlived mismatch.burn_in, so no state is left to score the "
            "policy at; lower mismatch.burn_in"
        )
    each = max(1, round(count / visited.episodes))
    rows = [np.flatnonzero(allowed & (visited.episode == number)) for number in range(visited.episodes)]
    chosen = [rng.choice(some, min(each, len(some)), replace=False) for some in rows if len(some)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


@torch.no_grad()
def action_values(agent: Agent, state: State, config: MismatchConfig, discount: float) -> Tensor:
    """Imagined return (M, A) of each action at states (M, ...), with the policy acting afterwards.

    The mean of `samples` futures of `horizon` decisions, the critic's value at their end, nothing after an imagined
    end of the episode.
    """
    count = len(state.h)
    copies = ACTION_COUNT * config.samples
    now = State(*(part.repeat_interleave(copies, 0) for part in state))
    action = torch.arange(ACTION_COUNT).repeat_interleave(config.samples).repeat(count)
    total, weight = torch.zeros(count * copies), torch.ones(count * copies)
    model = agent.world_model
    for _ in range(config.horizon):
        now = model.rssm.imagine_step(now, one_hot(action), sample=True)
        latent = now.latent()
        total += weight * model.reward(latent)
        weight *= discount * model.continuation(latent)
        action = torch.multinomial(agent.actor(latent), 1).squeeze(-1)
    total += weight * agent.critic(now.latent())
    return total.view(count, ACTION_COUNT, config.samples).mean(-1)


def tilt(probabilities: Tensor, advantage: Tensor, eta: float) -> Tensor:
    """pi' (M, A) ~ pi exp(A / eta); the largest exponent is taken out first, so nothing overflows."""
    exponent = advantage / max(eta, 1e-8)
    raised = probabilities * (exponent - exponent.amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


@torch.no_grad()
def imagined_advantages(
    agent: Agent, visited: Visited, rows: Int64, config: MismatchConfig, discount: float
) -> tuple[Tensor, Tensor]:
    """Policy (M, A) at the rows, and the imagined advantage (M, A) of each action over it."""
    picked = torch.from_numpy(rows)
    state = State(visited.state.h[picked], visited.state.z[picked])
    probabilities = agent.actor(state.latent())
    parts = (State(*(part[i : i + CHUNK] for part in state)) for i in range(0, len(rows), CHUNK))
    values = torch.cat([action_values(agent, part, config, discount) for part in parts])
    return probabilities, values - (probabilities * values).sum(-1, keepdim=True)


def imagined_step(probabilities: Tensor, advantage: Tensor, eta: float) -> Float64:
    """Total variation (M,) between the policy (M, A) and its improvement by advantages (M, A)."""
    distance = 0.5 * (tilt(probabilities, advantage, eta) - probabilities).abs().sum(-1)
    return distance.double().numpy()


@torch.no_grad()
def own_advantages(agent: Agent, episodes: Episodes, visited: Visited, config: FitConfig) -> tuple[Float64, Float64]:
    """Probability (N,) of the action taken at each row, and its advantage (N,): lambda-return minus value.

    The last row of an episode, where no action was taken, has advantage 0.
    """
    latent = visited.state.latent()
    value = agent.critic(latent).double().numpy()
    taken = agent.actor(latent)[torch.arange(len(latent)), torch.from_numpy(episodes.action)].double().numpy()
    returns, following = value.copy(), 0.0
    for row in range(len(value) - 1, -1, -1):
        if visited.ended[row]:
            following = 0.0 if episodes.terminal[row] else value[row]
            continue
        after = row + 1
        going = 0.0 if episodes.terminal[after] else 1.0
        mixed = (1.0 - config.trace) * value[after] + config.trace * following
        following = float(episodes.reward[after]) + config.discount * going * mixed
        returns[row] = following
    return taken, returns - value


def returns_step(taken: Float64, advantage: Float64, eta: float) -> Float64:
    """Total variation (N,) when only the taken action's probability (N,) is raised by its own advantage (N,)."""
    raised = taken * np.exp(np.clip(advantage / max(eta, 1e-8), -30.0, 30.0))
    return np.abs(raised / (raised + (1.0 - taken)) - taken)
