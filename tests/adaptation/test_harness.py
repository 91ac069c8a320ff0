"""What runs share, and what they must not."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adawm_planner.adaptation import harness
from adawm_planner.adaptation.harness import (
    Adaptation,
    Cell,
    baseline_of,
    evaluation_file,
    measured_with,
    settings_of,
)
from adawm_planner.adaptation.source_file import source_file
from adawm_planner.config.adaptation import load_adaptation, with_steps
from adawm_planner.config.mapping import to_mapping
from adawm_planner.paths import default_model_dir
from adawm_planner.runtime.model_files import digest
from adawm_planner.simulator.network import NETS_DIR
from adawm_planner.simulator.tasks import TASKS_DIR, VEHICLES_DIR, Task, load_task


def kept_of(task: Task, vehicle: str = "v", agent: str = "a", seed: int = 5000, episodes: int = 2) -> Path:
    """Where an evaluation is kept."""
    world = SimpleNamespace(task=task, vehicle=vehicle)
    place: Any = SimpleNamespace(rig=SimpleNamespace(env=SimpleNamespace(world=world)))
    return evaluation_file(Path("cache"), agent, place, seed, episodes)


def keys(task: Path, vehicle: Path) -> list[Any]:
    """What is driven by a task and a vehicle of one's own is found by these, as the source or as what is adapted to."""
    config = load_adaptation()
    rollouts = replace(config.rollouts, source_task=str(task), source_vehicle=str(vehicle))
    config = replace(config, rollouts=rollouts)
    settings = settings_of(Cell(str(task), str(vehicle), "none", 0), "m", config)
    wanted = measured_with(config)
    return [
        source_file("m", config, Path("cache")),
        *((settings[key], settings["rollouts"][f"source_{key}"]) for key in ("task", "vehicle")),
        (wanted["rollouts.source_task"], wanted["rollouts.source_vehicle"]),
    ]


def own_place(folder: Path) -> tuple[Path, Path, Path]:
    """A task on a net of its own, a vehicle, and a file of that net."""
    shutil.copytree(NETS_DIR / "intersection", folder / "crossing")
    content = (TASKS_DIR / "right_turn_moderate.yaml").read_text().replace("map: intersection", "map: crossing")
    (folder / "mine.yaml").write_text(content)
    shutil.copy(VEHICLES_DIR / "nominal.yaml", folder / "car.yaml")
    return folder / "mine.yaml", folder / "car.yaml", next((folder / "crossing").glob("*.nod.xml"))


def test_what_was_driven_by_a_file_of_ones_own_is_known_by_its_content(tmp_path: Path) -> None:
    task, vehicle, net = own_place(tmp_path / "here")
    before = keys(task, vehicle)
    assert keys(*own_place(tmp_path / "there")[:2]) == before, "they may move"
    for file in (task, net, vehicle):
        file.write_text(file.read_text() + "\n")
        changed = keys(task, vehicle)
        assert [key for key, old in zip(changed, before, strict=True) if key == old] == (
            [before[1]] if file is vehicle else [before[2]]
        )
        before = changed


def test_a_kept_evaluation_is_of_one_net(tmp_path: Path) -> None:
    file, _, net = own_place(tmp_path)
    task = load_task(str(file))
    before = kept_of(task)
    net.write_text(net.read_text() + "\n")
    assert kept_of(task) != before


def test_built_in_places_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So the source rollouts, the baseline and the results of the shipped model are still found."""
    config, model = load_adaptation(), default_model_dir()
    monkeypatch.chdir(tmp_path)
    Path("nominal").write_text("not the vehicle that is meant")
    assert source_file(digest(model), config, Path()).name == "source-8c6d222835a14979.npz"
    baseline_of(model, digest(model), config)
    cell = Cell("left_turn_moderate", "nominal", "adawm", 0)
    assert settings_of(cell, "m", config) == {**asdict(cell), "model": "m", **to_mapping(config)}
    task = load_task("left_turn_moderate")
    key = hashlib.sha256(f"a{task}v5000 2 {harness.MEASURES}".encode()).hexdigest()
    assert kept_of(task).stem == key[:24]


def test_a_kept_evaluation_is_of_one_agent_place_seeds_and_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(agent: str = "a", task: str = "t", vehicle: str = "v", seed: int = 5000, episodes: int = 2) -> Path:
        return kept_of(replace(load_task("right_turn_moderate"), name=task), vehicle, agent, seed, episodes)

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
