"""Two sets of visited points in, the total variation between their visitation distributions out.

The proxies of AdaWM's paper (arXiv 2501.13072): state visitation for the policy, state-action visitation for the
dynamics, between new rollouts and pretraining data. A classifier that tells the two sets apart in latent space gives a
lower bound on the total variation: its rate of 'new' on new points minus that on old ones. Cross-fitted by episode,
else it would remember which episode a point belongs to; both sets weigh the same, so one half is the threshold.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adawm_planner.adaptation.scores import Sample
from adawm_planner.adaptation.visited import Visited
from adawm_planner.data_types import Float64, Int64
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.pretraining.dataset import Bool, Episodes

ITERATIONS = 40
SKETCH = 32


def state_points(visited: Visited) -> Tensor:
    """States (N, D + G * N)."""
    return visited.state.latent()


def state_action_points(visited: Visited, episodes: Episodes) -> Tensor:
    """States with the action taken in them (N, D + G * N + A + A * P): the action alone, and under it a sketch of h.

    The sketch is a random projection to P numbers: without products of state and action a linear classifier could not
    see that another action is taken in the same state.
    """
    action = functional.one_hot(torch.from_numpy(episodes.action), ACTION_COUNT).float()
    h = visited.state.h
    projection = torch.randn(h.shape[1], SKETCH, generator=torch.Generator().manual_seed(0)) / h.shape[1] ** 0.5
    joint = (action[:, :, None] * (h @ projection)[:, None]).flatten(1)
    return torch.cat([visited.state.latent(), action, joint], -1)


def visitation_distance(
    new: Tensor, new_episode: Int64, old: Tensor, old_episode: Int64, folds: int, ridge: float
) -> Sample:
    """Total variation between two sets of points.

    Args:
        new, old: points (N, F) and (M, F).
        new_episode, old_episode: number of the episode of each point.
        folds: of the cross-fit, at least 2.
        ridge: penalty per point on squared weights.

    Returns:
        One number per new episode, whose mean is the distance; its deviation counts the old episodes' spread as well.
    """
    points = torch.cat([new, old])
    spread, centre = torch.std_mean(points, 0)
    points = (points - centre) / spread.clamp(min=1e-3)
    is_new = torch.cat([torch.ones(len(new)), torch.zeros(len(old))])
    fold = np.concatenate([new_episode % folds, old_episode % folds])
    called_new = np.zeros(len(points))
    for number in range(folds):
        inside = fold == number
        called_new[inside] = _classify(points, is_new, torch.from_numpy(~inside), torch.from_numpy(inside), ridge)
    rate_new = _per_episode(called_new[: len(new)], new_episode)
    rate_old = _per_episode(called_new[len(new) :], old_episode)
    ours, theirs = Sample.of(rate_new), Sample.of(rate_old)
    error = math.hypot(ours.error, theirs.error)
    return Sample(ours.mean - theirs.mean, error * math.sqrt(ours.episodes), ours.episodes)


def halves(visited: Visited, episodes: int) -> tuple[Bool, Bool]:
    """Rows of the last `episodes` episodes, at most half of all, and rows of the others: the null of this estimator."""
    count = min(episodes, visited.episodes // 2)
    last = visited.episode >= visited.episodes - count
    return last, ~last


def _per_episode(values: Float64, episode: Int64) -> Float64:
    number = np.unique(episode, return_inverse=True)[1]
    mean: Float64 = np.bincount(number, values) / np.bincount(number)
    return mean


def _classify(points: Tensor, is_new: Tensor, train: Tensor, test: Tensor, ridge: float) -> Float64:
    """Whether each test point is called new, 0 or 1, by ridge-penalised logistic regression on the training points."""
    x, y = points[train], is_new[train]
    share = y.mean()
    balance = torch.where(y > 0.5, 0.5 / share, 0.5 / (1.0 - share))
    weight = torch.zeros(x.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(x @ weight + bias, y, balance) + ridge * (weight**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        called: Float64 = ((points[test] @ weight + bias) > 0.0).double().numpy()
    return called
