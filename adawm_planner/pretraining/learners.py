"""Policies under training as collection sees them: observation in, action probabilities out.

A worker process loads one by folder; both kinds run torch on one thread, because there are as many workers as
cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adawm_planner.data_types import Float64
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.policy.agent import Agent, load_agent
from adawm_planner.pretraining.clone import CLONE_FILE, Clone, load_clone
from adawm_planner.pretraining.collect import Learner


def _tensors(observation: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    state = np.asarray(observation["state"], np.float32)
    return torch.from_numpy(np.ascontiguousarray(observation["bev"]))[None], torch.from_numpy(state)[None]


def _exact(probabilities: Tensor) -> Float64:
    """First row (A,), renormalised in double precision as numpy's sampling demands."""
    exact: Float64 = probabilities[0].double().numpy()
    return np.asarray(exact / exact.sum(), np.float64)


class CloneLearner:
    """Drives by the clone: no memory."""

    def __init__(self, clone: Clone) -> None:
        """Drive with this network."""
        self._clone = clone

    def reset(self) -> None:
        """Nothing to forget."""

    def probabilities(self, observation: Mapping[str, Any]) -> Float64:
        """Action probabilities (A,)."""
        with torch.inference_mode():
            return _exact(self._clone(*_tensors(observation)).softmax(-1))

    def chose(self, action: int) -> None:
        """Nothing to remember."""


class AgentLearner:
    """Drives by world model and actor."""

    def __init__(self, agent: Agent) -> None:
        """Drive with this agent."""
        self._agent = agent
        self.reset()

    def reset(self) -> None:
        """Back to the initial state."""
        self._state, self._action, self._first = self._agent.initial(1), torch.zeros(1, ACTION_COUNT), 1.0

    def probabilities(self, observation: Mapping[str, Any]) -> Float64:
        """Filter one observation; action probabilities (A,)."""
        with torch.inference_mode():
            first = torch.full((1, 1), self._first)
            self._state, probabilities, _ = self._agent.step(self._state, self._action, first, *_tensors(observation))
        self._first = 0.0
        return _exact(probabilities)

    def chose(self, action: int) -> None:
        """Remember the action for the next step."""
        self._action = torch.zeros(1, ACTION_COUNT)
        self._action[0, action] = 1.0


def load_learner(folder: Path) -> Learner:
    """The policy in `folder`, clone or agent."""
    torch.set_num_threads(1)
    if (folder / CLONE_FILE).exists():
        return CloneLearner(load_clone(folder))
    return AgentLearner(load_agent(folder))
