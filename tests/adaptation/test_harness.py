"""What runs share, and what they must not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adawm_planner.adaptation import harness
from adawm_planner.adaptation.harness import evaluation_file
from adawm_planner.config.adaptation import load_adaptation, with_steps


def test_a_kept_evaluation_is_of_one_agent_place_seeds_and_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(agent: str = "a", task: str = "t", vehicle: str = "v", seed: int = 5000, episodes: int = 2) -> Path:
        world = SimpleNamespace(task=task, vehicle=vehicle)
        place: Any = SimpleNamespace(rig=SimpleNamespace(env=SimpleNamespace(world=world)))
        return evaluation_file(Path("cache"), agent, place, seed, episodes)

    before = kept()
    assert kept() == before and before.parent == Path("cache/evaluations")
    others = [kept(agent="b"), kept(task="u"), kept(vehicle="w"), kept(seed=5001), kept(episodes=3)]
    monkeypatch.setattr(harness, "MEASURES", harness.MEASURES + 1)
    assert len({before, kept(), *others}) == 7


@pytest.mark.parametrize(
    ("steps", "rounds"), [(1, 1), (1000, 1), (1001, 2), (1400, 2), (1500, 2), (2500, 3), (16000, 16)]
)
def test_a_run_has_as_many_rounds_as_its_steps_take(steps: int, rounds: int) -> None:
    config = load_adaptation()
    assert config.rollouts.decisions == 1000
    assert with_steps(config, steps).rounds == rounds
