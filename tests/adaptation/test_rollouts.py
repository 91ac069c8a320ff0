"""Stored rollouts: what is damaged is refused by name, with what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adawm_planner.adaptation.rollouts import Place, Rollouts, drive_seeds, stored
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import save_chunk
from tests.adaptation.conftest import random_episodes
from tests.pretraining.crossing import crossing_rig


def never() -> Rollouts:
    raise AssertionError("what is stored is driven again")


def test_stored_rollouts_are_not_driven_again(tmp_path: Path) -> None:
    made = Rollouts(random_episodes(2, 1), ("success", "collision"))
    assert stored(tmp_path / "some.npz", lambda: made).outcomes == made.outcomes
    assert stored(tmp_path / "some.npz", never).outcomes == made.outcomes


@pytest.mark.parametrize(
    ("meta", "column"),
    [
        ({}, "outcomes"),
        ({"outcomes": ["success"]}, "outcomes"),
        ({"outcomes": ["success"] * 2, "seconds": "long"}, "seconds"),
        ({"outcomes": ["success"] * 2, "seconds": [1.0, 2.0]}, "seconds"),
        ({"outcomes": ["success"] * 2, "seconds": float("nan")}, "seconds"),
    ],
)
def test_damaged_rollouts_are_refused_by_name(tmp_path: Path, meta: dict[str, Any], column: str) -> None:
    path = tmp_path / "some.npz"
    save_chunk(path, random_episodes(2, 1), meta)
    with pytest.raises(ValueError, match=f"some.npz: .*'meta_{column}' .*; remove it, then it is driven again"):
        stored(path, never)


def test_rewards_that_the_model_could_not_tell_are_refused(agent: Agent) -> None:
    place = cast(Place, SimpleNamespace(rig=crossing_rig()))
    assert drive_seeds(place, agent, [1], 1, 0.0, 0).outcomes
    agent.world_model.config = replace(agent.world_model.config, reward_limit=0.01)
    with pytest.raises(ValueError, match=r"a reward of -?\d.*, the model tells none beyond 0.01 apart"):
        drive_seeds(place, agent, [1], 1, 0.0, 0)
