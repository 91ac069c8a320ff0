"""Rollouts and an agent in, what the agent's world model made of them out, row by row.

Every rollout is filtered from its first observation with the most probable classes, exactly as the planner filters
while driving. All estimators of `mismatch` read the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adawm_planner.data_types import Float64, Int64
from adawm_planner.dims import STATE_FEATURES
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import Bool
from adawm_planner.pretraining.trainer import Replay
from adawm_planner.world_model.rssm import State, most_probable

ACCELERATION = STATE_FEATURES.index("acceleration")
"""The state feature that follows most from the ego's own actuation and least from road and traffic."""

CHUNK = 32
"""Episodes filtered at a time."""


@dataclass(frozen=True)
class Visited:
    """Filtered rollouts; N rows as in Episodes."""

    state: State  # h (N, D), z (N, G * N)
    surprise: Float64  # (N,) total variation between posterior and prior, averaged over groups, 0..1
    ego_error: Float64  # (N,) absolute error of the predicted acceleration, state feature
    world_error: Float64  # (N,) mean squared error of the predicted embedding
    episode: Int64  # (N,) number of the episode, from 0
    scored: Bool  # (N,) beyond the burn-in
    ended: Bool  # (N,) last row of an episode, whose action was never taken
    overruled: Bool  # (N,) as in Episodes

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    @property
    def predicted(self) -> Bool:
        """Scored rows (N,) that the model had the true action for: what the gate did is no error of the model."""
        return self.scored & ~self.overruled

    @property
    def acted(self) -> Bool:
        """Scored rows (N,) in which an action was taken."""
        return self.scored & ~self.ended

    @property
    def carried_out(self) -> Bool:
        """Rows (N,) of `acted` whose action the gate let pass: what followed the others is not their doing."""
        changed = np.zeros_like(self.overruled)
        changed[:-1] = self.overruled[1:]
        return self.acted & ~changed

    def by_episode(self, rows: Bool | Int64, values: Float64) -> Float64:
        """Mean per episode of one value per chosen row; NaN where an episode has no such row."""
        of = self.episode[rows]
        total = np.bincount(of, values, self.episodes)
        count = np.bincount(of, minlength=self.episodes)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@torch.no_grad()
def visit(agent: Agent, replay: Replay, burn_in: int) -> Visited:
    """Filter all rollouts of a replay.

    Args:
        agent: whose world model filters.
        replay: the rollouts with their embeddings.
        burn_in: rows at the start of each episode that are not scored: the state is still settling.
    """
    first = replay.episodes.first
    begins = np.flatnonzero(first)
    ends = np.append(begins[1:], len(first))
    parts = [
        _visit_some(agent, replay, begins[i : i + CHUNK], ends[i : i + CHUNK]) for i in range(0, len(begins), CHUNK)
    ]
    h, z, surprise, ego, world = (torch.cat(columns) for columns in zip(*parts, strict=True))
    episode = np.cumsum(first) - 1
    age = np.arange(len(first)) - begins[episode]
    return Visited(
        State(h, z),
        surprise.double().numpy(),
        ego.double().numpy(),
        world.double().numpy(),
        episode.astype(np.int64),
        age >= burn_in,
        replay.ended > 0.5,
        replay.episodes.overruled,
    )


def _visit_some(agent: Agent, replay: Replay, begins: Int64, ends: Int64) -> tuple[Tensor, ...]:
    """h, z, surprise and both errors of some episodes, padded while filtered and end to end again when returned."""
    length = int((ends - begins).max())
    rows = np.minimum(begins[:, None] + np.arange(length), ends[:, None] - 1)
    kept = torch.from_numpy(begins[:, None] + np.arange(length) < ends[:, None])
    rssm = agent.world_model.rssm
    first = torch.zeros(rows.shape)
    first[:, 0] = 1.0
    seen = rssm.observe(
        torch.from_numpy(replay.embedding[rows]),
        torch.from_numpy(replay.action[rows]),
        first,
        rssm.initial(len(rows)),
        sample=False,
    )
    surprise = 0.5 * (seen.posterior.exp() - seen.prior.exp()).abs().sum(-1).mean(-1)
    expected = torch.cat([seen.h, most_probable(seen.prior)], -1)
    ego = (
        torch.from_numpy(replay.episodes.state[rows][..., ACCELERATION])
        - agent.world_model.vector(expected)[..., ACCELERATION]
    )
    world = (torch.from_numpy(replay.embedding[rows]) - agent.world_model.embedding_head(expected)).square().mean(-1)
    return seen.h[kept], seen.z[kept], surprise[kept], ego.abs()[kept], world[kept]
