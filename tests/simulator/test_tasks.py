"""Task and vehicle files: the built-in ones load, wrong ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        ({"limits": {"time": 10**400}}, "must be a finite number"),
        ({"limits": 3}, "limits is 3, must be a mapping"),
        ({"flows": [{"route": ["a", "b"]}]}, "entry 'vehicles' is missing"),
        ({"name": 5}, "name is 5, must be of type str"),
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
        (f"name: x\nmass: 1{'0' * 400}\n", "must be a finite number"),
        ("name: x\ndelay: 3\n", r"delay is 3.0, must be a number in 0\.\.2"),
        ("name: x\ndelay: 0.02\n", r"delay is 0.02 s, must be a multiple of 0.05 s"),
        ("name: x\ndelay: 0.37\n", r"delay is 0.37 s, must be a multiple of 0.05 s"),
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


EGO = {"route": ["a"], "start_m": [1, 2], "start_speed": [1, 2], "goal_m": 1}
FLOW = {"route": ["a", "b"], "vehicles": [1, 2], "headway_m": [1, 2], "gap_s": [1, 2], "speed": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ego": {**EGO, "route": []}}, "ego.route is empty"),
        ({"ego": {**EGO, "start_m": [5, 2]}}, r"ego.start_m is \[5.0, 2.0\]"),
        ({"ego": {**EGO, "start_speed": [-1, 2]}}, r"start_speed is \[-1.0, 2.0\]"),
        ({"ego": {**EGO, "goal_m": -3}}, "ego.goal_m is -3.0"),
        ({"flows": [{**FLOW, "route": []}]}, "flow.route is empty"),
        ({"flows": [{**FLOW, "vehicles": [1, 1e9]}]}, "needs 0 < low <= high <= 1000"),
        ({"flows": [{**FLOW, "vehicles": [1.5, 2]}]}, "must be whole numbers"),
        ({"flows": [{**FLOW, "speed": [10, 500]}]}, "needs 0 < low <= high <= 70"),
        ({"flows": [{**FLOW, "decoy_share": 0.5}]}, "needs a flow.decoy_route"),
        ({"flows": [{**FLOW, "lane": -1}]}, "flow.lane is -1, must lie in 0..20"),
        ({"driver": {"deceleration": -3.0}}, "driver.deceleration is -3.0, must lie in 0.1..20"),
        ({"driver": {"sigma": 2.0}}, "driver.sigma is 2.0, must lie in 0..1"),
        ({"reward": {"target_speed": 0}}, "reward.target_speed is 0.0 m/s, must be above 0"),
        ({"reward": {"collision": -30}}, "reward.collision is -30.0, must be at least 0; penalties are positive"),
        ({"reward": {"lateral_per_s": -0.5}}, "reward.lateral_per_s is -0.5, must be at least 0"),
        ({"reward": {"target_speed": -8}}, "reward.target_speed is -8.0 m/s"),
        ({"limits": {"time": 0}}, "limits.time is 0.0, must lie in 0.1..3600"),
        ({"limits": {"off_lane": -1}}, "limits.off_lane is -1.0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_limit(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        load_task(_task(tmp_path, **changes))
    assert "task.yaml" in str(refused.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), ANYTHING)
def test_whatever_stands_in_a_task_is_taken_or_refused_by_file_and_entry(
    tmp_path: Path, data: st.DataObject, anything: object
) -> None:
    content = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text())
    entry = data.draw(st.sampled_from(sorted(content)))
    below = content[entry]
    if isinstance(below, dict) and data.draw(st.booleans()):
        below[data.draw(st.sampled_from(sorted(below)))] = anything
    else:
        content[entry] = anything
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        load_task(str(path))
    except ValueError as error:
        assert "any.yaml" in str(error) and "\n" not in str(error)
