"""Parameters are declared from one table, refused with a reason, and documented from the same rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
from adawm_planner.ros.gate_parameters import GATE_PARAMETERS
from adawm_planner.ros.input_parameters import limits_from
from adawm_planner.ros.parameters import Parameter, declare, markdown, read
from adawm_planner.ros.planner_parameters import _CALIBRATION, PLANNER_PARAMETERS, config_from, model_dir_from
from adawm_planner.runtime.input_monitor import InputLimits
from adawm_planner.runtime.planner_core import PlannerConfig

pytestmark = pytest.mark.ros
TABLE = (
    Parameter("speed", float, 5.0, "how fast", "m/s", 0.0, 10.0, dynamic=True),
    Parameter("count", int, 2, "how many", low=1, high=4),
    Parameter("mode", str, "a", "which", choices=("a", "b"), dynamic=True),
)


def make_node(context: Context, **values: Any) -> Node:
    overrides = [RosParameter(name, value=value) for name, value in values.items()]
    return Node("table_test", context=context, parameter_overrides=overrides)


def test_defaults_and_overrides_are_read(context: Context) -> None:
    node = make_node(context, speed=7.5)
    declare(node, TABLE)
    assert read(node, TABLE) == {"speed": 7.5, "count": 2, "mode": "a"}
    node.destroy_node()


@pytest.mark.parametrize(
    "override",
    [{"speed": 10.5}, {"speed": -0.1}, {"count": 5}, {"mode": "c"}, {"speed": "fast"}, {"speed": float("nan")}],
)
def test_override_that_is_not_allowed_stops_the_start(context: Context, override: dict[str, Any]) -> None:
    node = make_node(context, **override)
    with pytest.raises((ValueError, rclpy.exceptions.ParameterException)):
        declare(node, TABLE)
        read(node, TABLE)
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("speed", 11.0, "range"),
        ("mode", "c", "must be one of a, b"),
        ("count", 3, "fixed"),
        ("mode", 3, "type"),
    ],
)
def test_change_is_refused_with_the_reason(context: Context, name: str, value: Any, reason: str) -> None:
    node = make_node(context)
    declare(node, TABLE)
    (result,) = node.set_parameters([RosParameter(name, value=value)])
    assert not result.successful and reason in result.reason.lower()
    assert node.get_parameter(name).value == next(row.default for row in TABLE if row.name == name)
    node.destroy_node()


def test_dynamic_change_is_taken(context: Context) -> None:
    node = make_node(context)
    declare(node, TABLE)
    changes = [RosParameter("speed", value=1.0), RosParameter("mode", value="b")]
    assert all(result.successful for result in node.set_parameters(changes))
    assert read(node, TABLE) == {"speed": 1.0, "count": 2, "mode": "b"}
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sped", "unknown parameter sped, did you mean speed?"),
        ("xyzzy", "unknown parameter xyzzy; the page of the node"),
    ],
)
def test_misspelt_parameter_is_refused_with_the_nearest(context: Context, name: str, words: str) -> None:
    node = make_node(context, **{name: 1.0})
    with pytest.raises(ValueError, match=re.escape(words)):
        declare(node, TABLE)
    node.destroy_node()


def test_parameters_of_ros_and_of_the_packages_other_nodes_are_let_pass(context: Context) -> None:
    names = ("use_sim_time", "start_type_description_service")
    topic = {"qos_overrides./parameter_events.publisher.depth": 1000}
    others = {"command.brake_mps2": 8.0, "task": "right_turn_dense", "fixed_delta_seconds": 0.05, "nice": 3}
    node = make_node(context, **dict.fromkeys(names, True), **topic, **others)
    declare(node, TABLE)
    assert not node.has_parameter("task")
    node.destroy_node()


def test_descriptor_shows_unit_and_range(context: Context) -> None:
    node = make_node(context)
    declare(node, TABLE)
    descriptor = node.describe_parameter("speed")
    assert descriptor.description == "how fast [m/s] range 0..10"
    assert descriptor.floating_point_range[0].to_value == 10.0
    node.destroy_node()


def test_every_planner_parameter_says_what_it_is() -> None:
    for row in PLANNER_PARAMETERS:
        assert row.description
        if row.type is float:
            assert row.unit and row.low is not None and row.high is not None, row.name
        assert row.problem(row.default) is None


def test_planner_defaults_are_the_configurations_own() -> None:
    values = {row.name: row.default for row in PLANNER_PARAMETERS}
    assert limits_from(values) == InputLimits()
    assert config_from(values) == PlannerConfig()


def test_each_calibration_reaches_its_own_field() -> None:
    """Values apart from each other and from the defaults: a swapped pair would not go unseen."""
    names = [row.name for row in PLANNER_PARAMETERS if row.name.startswith("control.")]
    values = {row.name: row.default for row in PLANNER_PARAMETERS}
    wanted = {name: 0.5 + 0.01 * number for number, name in enumerate(names)}
    control = config_from(values | wanted).drive.control
    assert set(_CALIBRATION) == set(names)
    assert {name: getattr(control, field) for name, field in _CALIBRATION.items()} == wanted
    pedals = "throttle_acceleration", "brake_deceleration", "drag", "rolling_deceleration", "hold_brake"
    assert set(pedals) <= set(_CALIBRATION.values())


def test_every_limit_is_a_parameter() -> None:
    names = {row.name for row in PLANNER_PARAMETERS}
    assert {f"limits.{entry.name}" for entry in fields(InputLimits) if entry.name != "map_frame"} <= names


def test_model_dir_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert model_dir_from(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match="missing"):
        model_dir_from(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="~nobody-of-this-name/model is not a folder"):
        model_dir_from("~nobody-of-this-name/model")


def test_documentation_holds_the_current_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "planner_node.md"
    assert markdown(PLANNER_PARAMETERS) in page.read_text()


def test_documentation_names_every_state_of_the_planner_s_diagnostics() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [
        root / "adawm_planner" / "ros" / f"{name}.py" for name in ("planner_node", "planner_inputs", "vehicle_inputs")
    ]
    code = "".join(source.read_text() for source in sources)
    names = {*re.findall(r'(?:\.note|diagnostics\.set)\(\s*"([^"]+)"', code), "qos TOPIC"}
    page = (root / "docs" / "planner_node.md").read_text()
    listed = page[page.index("States in `/diagnostics`, each as") : page.index("| service | type |")]
    assert len(names) == 10 and names == set(re.findall(r"`([a-z]+(?: [a-zA-Z]+)?)`", listed))


def test_the_gate_is_given_no_limit_that_it_does_not_check() -> None:
    assert "limits.period_error" in {row.name for row in PLANNER_PARAMETERS}
    assert "limits.period_error" not in {row.name for row in GATE_PARAMETERS}


@pytest.mark.parametrize("table", [PLANNER_PARAMETERS, FINETUNER_PARAMETERS], ids=["planner", "finetuner"])
def test_a_vehicle_id_that_no_bundle_can_name_is_refused(table: Sequence[Parameter]) -> None:
    (row,) = [each for each in table if each.name == "vehicle_id"]
    assert row.problem("") is row.problem("car-7") is row.problem("a:b.c_d") is None
    for wrong in ("car 7", "-car", "ä", "x" * 65):
        assert row.problem(wrong) == (
            f"vehicle_id is '{wrong}', must be empty or 1 to 64 letters, digits, dots, dashes, underscores or colons"
        )


def test_an_adapter_lives_for_ever_or_for_a_minute_at_least() -> None:
    (row,) = [each for each in FINETUNER_PARAMETERS if each.name == "expires_h"]
    assert row.problem(0.0) is row.problem(1.0 / 60.0) is row.problem(720.0) is None
    assert row.problem(0.0002) == "expires_h is '0.0002', must be 0 or at least 0.0167 h, a minute"
