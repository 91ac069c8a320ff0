"""What runs share, and what they must not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adawm_planner.adaptation import harness
from adawm_planner.adaptation.harness import Adaptation, evaluation_file
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


def test_the_points_of_a_curve_are_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    values = dict.fromkeys(("success_rate", "collision_rate", "timeout_rate", "episodes"), 0)
    for index in (0, 4, 96, 100):
        (tmp_path / f"evaluation-curve-{index:02d}.json").write_text(json.dumps(values))
    run: Any = SimpleNamespace(folder=tmp_path, rounds=[{"decisions": 10}] * 100)
    points = Adaptation._curve_points(run)
    assert [(each["round"], each["env_steps"]) for each in points] == [(0, 0), (4, 40), (96, 960), (100, 1000)]


def test_the_settings_of_a_run_are_written_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with harness._claim(tmp_path, {"seed": 0}):
        pass
    before = (tmp_path / "run.yaml").stat()
    with harness._claim(tmp_path, {"seed": 0}):
        pass
    after = (tmp_path / "run.yaml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        harness._claim(tmp_path / "new", {"seed": 0})
    assert not (tmp_path / "new" / "run.yaml").exists()
    with harness._claim(tmp_path / "new", {"seed": 1}):
        assert (tmp_path / "new" / "run.yaml").read_text() == "seed: 1\n"
