"""Made-up decisions that tell their own place in the drive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, BEV_SHAPE, DECISION_S, STATE_SIZE
from adawm_planner.finetuning.captured import Captured, capture

BASE = "b" * 64
ADAPTER = "a" * 64


def experience(k: int, **changes: Any) -> Experience:
    """Decision k of one long drive; `changes` replace fields."""
    bev = np.zeros(BEV_SHAPE, np.uint8)
    bev[k % 5, k % 32, :] = k % 251
    state = np.full(STATE_SIZE, 1e-3 * (k % 1000), np.float32)
    index = k % ACTION_COUNT
    probabilities = np.full(ACTION_COUNT, 0.1, np.float32)
    probabilities[index] = 0.6
    acceleration = float(np.float32(ACCELERATION_BINS[index]))
    one = Experience(
        stamp_s=k * DECISION_S,
        sequence=k,
        episode=0,
        observation=Observation(bev, state),
        action=Action(index, acceleration, probabilities),
        value=0.5,
        reward=RewardTerms(progress=0.25, speed=0.125),
        is_first=False,
        is_last=False,
        is_terminal=False,
    )
    return replace(one, **changes)


def decision(k: int, base: str = BASE, adapters: tuple[str, ...] = (), **changes: Any) -> Captured:
    """Decision k, captured."""
    return capture(experience(k, **{"adapter_digests": adapters, **changes}), base, 1.5)


def first(k: int, **changes: Any) -> Captured:
    """Decision k as the first of an episode."""
    return decision(k, is_first=True, reward=RewardTerms(), **changes)


def same(ours: Captured, theirs: Captured) -> bool:
    """Whether two decisions are equal in every bit."""
    one, other = ours.experience, theirs.experience
    rest = {"observation": other.observation, "action": other.action}
    arrays = (
        (one.observation.bev, other.observation.bev),
        (one.observation.state, other.observation.state),
        (one.action.probabilities, other.action.probabilities),
    )
    return (
        replace(one, **rest) == other
        and (one.action.index, one.action.acceleration) == (other.action.index, other.action.acceleration)
        and all(mine.tobytes() == its.tobytes() for mine, its in arrays)
        and replace(ours, experience=other) == theirs
    )
