"""One table per node in, declared, checked and typed parameter values out.

Each parameter has its type, unit, range and description in one place; values are checked when declared
and before every change.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from adawm_planner.ros.node_table import known_parameters

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One row of a parameter table."""

    name: str
    type: type[Any]  # bool, int, float or str
    default: Value
    description: str
    unit: str = ""
    low: float | None = None  # inclusive
    high: float | None = None  # inclusive
    choices: tuple[str, ...] = ()
    dynamic: bool = False  # may change while the node runs
    check: Callable[[Any], str] | None = None  # what is wrong with a value of the right type, empty: nothing

    def text(self) -> str:
        """Return the description with unit, range and choices, as shown by `ros2 param describe`."""
        parts = [self.description]
        if self.unit:
            parts.append(f"[{self.unit}]")
        if self.low is not None or self.high is not None:
            parts.append(f"range {_number(self.low)}..{_number(self.high)}")
        if self.choices:
            parts.append("one of " + ", ".join(self.choices))
        return " ".join(parts)

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type:
            return f"{self.name} is {value!r}, must be of type {self.type.__name__}"
        if self.type in (int, float) and not self._in_range(value):
            unit = f" {self.unit}" if self.unit else ""
            return f"{self.name} is {value}, must lie in {_number(self.low)}..{_number(self.high)}{unit}"
        if self.choices and value not in self.choices:
            return f"{self.name} is '{value}', must be one of {', '.join(self.choices)}"
        if self.check is not None and (wrong := self.check(value)):
            return f"{self.name} is '{value}', {wrong}"
        return None

    def _in_range(self, value: float) -> bool:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return math.isfinite(value) and low <= value <= high


_ROS_OWN: Final = ("use_sim_time", "start_type_description_service")
"""What rclpy itself declares, the second not in every distribution."""


def _always() -> bool:
    return True


def declare(node: Node, table: Iterable[Parameter], is_fixed: Callable[[], bool] = _always) -> None:
    """Declare every parameter of a table, once per node, and check every later change against it.

    Args:
        is_fixed: tells whether parameters that are not dynamic may no longer change; for a lifecycle node,
            whether it is configured.

    Raises:
        ValueError: a value was given for a parameter that neither this nor another node of the package has.
        rclpy's parameter exceptions: an override is of the wrong type or out of range.
    """
    rows = {row.name: row for row in table}
    refuse_unknown(node._parameter_overrides, rows)  # rclpy tells them nowhere else
    for row in rows.values():
        node.declare_parameter(row.name, row.default, _descriptor(row))
    node.add_on_set_parameters_callback(_checker(rows, is_fixed))


def refuse_unknown(given: Iterable[str], own: Iterable[str]) -> None:
    """Refuse what is misspelt; what another node of the package has may stand in a file that several nodes read.

    Args:
        given: names of the parameters that the node was started with.
        own: those it has.

    Raises:
        ValueError: naming each unknown one and the node's nearest.
    """
    own = [*own, *_ROS_OWN]
    foreign = [name for name in given if name not in own and not name.startswith("qos_overrides.")]
    if foreign and (unknown := sorted(set(foreign) - known_parameters())):
        raise ValueError("; ".join(f"unknown parameter {name}{_nearest(name, own)}" for name in unknown))


def _nearest(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {found[0]}?" if found else "; the page of the node in docs/ lists all that there are"


def read(node: Node, table: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values of a table's parameters.

    Raises:
        ValueError: a value is outside its row; names the parameter.
    """
    values: dict[str, Any] = {}
    for row in table:
        value = node.get_parameter(row.name).value
        problem = row.problem(value)
        if problem:
            raise ValueError(f"parameter {problem}")
        values[row.name] = value
    return values


def markdown(table: Iterable[Parameter]) -> str:
    """Return a table for the documentation."""
    lines = ["| parameter | type | default | unit | range | description |", "|---|---|---|---|---|---|"]
    for row in table:
        ranged = row.low is not None or row.high is not None
        span = f"{_number(row.low)}..{_number(row.high)}" if ranged else ", ".join(row.choices)
        note = "; may change while running" if row.dynamic else ""
        cells = (row.name, row.type.__name__, f"`{row.default!r}`", row.unit, span, row.description + note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _descriptor(row: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=row.name, description=row.text(), additional_constraints=", ".join(row.choices), read_only=False
    )
    low = -1e308 if row.low is None else row.low
    high = 1e308 if row.high is None else row.high
    ranged = row.low is not None or row.high is not None
    if ranged and row.type is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    if ranged and row.type is int:
        bounds = (int(max(low, -(2**63))), int(min(high, 2**63 - 1)))
        descriptor.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=1)]
    return descriptor


def _checker(
    rows: dict[str, Parameter], is_fixed: Callable[[], bool]
) -> Callable[[list[RosParameter]], SetParametersResult]:
    """Return the callback that refuses, with the reason, what a row does not allow."""

    def check(changes: list[RosParameter]) -> SetParametersResult:
        for change in changes:
            row = rows.get(change.name)
            if row is None:
                continue
            problem = row.problem(change.value)
            if problem is None and not row.dynamic and is_fixed():
                problem = f"{row.name} is fixed once the node is configured; set it at start"
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)

    return check
