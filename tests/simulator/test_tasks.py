"""Task and vehicle files: the built-in ones load, wrong ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adawm_planner.simulator.tasks import (
    BUILT_IN_TASKS,
    BUILT_IN_VEHICLES,
    TASKS_DIR,
    VEHICLES_DIR,
    load_task,
    load_vehicle,
)


@pytest.mark.parametrize("name", BUILT_IN_TASKS)
def test_built_in_tasks_load_and_carry_their_name(name: str) -> None:
    task = load_task(name)
    assert task.name == name and task.description and task.map_source.is_dir()


@pytest.mark.parametrize("name", BUILT_IN_VEHICLES)
def test_built_in_vehicles_load_and_carry_their_name(name: str) -> None:
    assert load_vehicle(name).name == name


def test_every_file_is_listed() -> None:
    assert {path.stem for path in TASKS_DIR.glob("*.yaml")} == set(BUILT_IN_TASKS)
    assert {path.stem for path in VEHICLES_DIR.glob("*.yaml")} == set(BUILT_IN_VEHICLES)


def test_every_shift_differs_from_the_nominal_vehicle() -> None:
    nominal = load_vehicle("nominal")
    for name in BUILT_IN_VEHICLES[1:]:
        shifted = load_vehicle(name)
        assert any(
            getattr(shifted, field) != getattr(nominal, field) for field in ("mass", "brake_force", "delay", "friction")
        )


def _task(tmp_path: Path, **changes: object) -> str:
    content = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text())
    content.update(changes)
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"map": None}, "entry 'map' is missing"),
        ({"colour": "red"}, "unknown entry 'colour'"),
        ({"limits": {"time": "long"}}, "time is 'long', must be a finite number"),
        ({"limits": {"time": float("nan")}}, "must be a finite number"),
        ({"limits": 3}, "limits is 3, must be a mapping"),
        ({"flows": [{"route": ["a", "b"]}]}, "entry 'vehicles' is missing"),
        ({"name": 5}, "name is 5, must be a str"),
    ],
)
def test_a_wrong_task_is_refused_by_name(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_task(_task(tmp_path, **changes))


def test_a_flow_out_of_range_is_refused(tmp_path: Path) -> None:
    flow = {"route": ["a", "b"], "vehicles": [2, 1], "headway_m": [1, 2], "gap_s": [1, 2], "speed": [1, 2]}
    with pytest.raises(ValueError, match=r"flow.vehicles is \[2.0, 1.0\]"):
        load_task(_task(tmp_path, flows=[flow]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nmass: -5\n", "mass is -5"),
        ("name: x\nmass: heavy\n", "mass is 'heavy'"),
        ("name: x\ndelay: 3\n", "at most 2 s"),
        ("[1, 2]\n", "holds a list"),
        ("name: [\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_vehicle_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "vehicle.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_vehicle(str(path))


@pytest.mark.parametrize("load", [load_task, load_vehicle])
def test_an_unknown_name_lists_the_known_ones(load) -> None:
    with pytest.raises(ValueError, match="nowhere.*built in are"):
        load("nowhere")
