"""The gate node's parameter table, made from the limits in config/gate.py, and the configuration made from it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from adawm_planner.config.gate import GateConfig
from adawm_planner.ros.input_parameters import CONTROL_PARAMETER, INPUT_PARAMETERS, ROLE_PARAMETER, WORLD_PARAMETER
from adawm_planner.ros.parameters import Parameter
from adawm_planner.runtime.gate_loop import GateTimes

_CONFIG: Final = GateConfig()
_TIMES: Final = GateTimes()


def _rows(section: str) -> tuple[Parameter, ...]:
    limits = getattr(_CONFIG, section)
    return tuple(
        Parameter(
            f"{section}.{each.name}", float, getattr(limits, each.name), each.metadata["description"],
            each.metadata["unit"], each.metadata["low"], each.metadata["high"],
        )
        for each in fields(limits)
    )  # fmt: skip


LIMIT_PARAMETERS: Final = tuple(row for section in fields(GateConfig) for row in _rows(section.name))
"""One row per field of config/gate.py, named <section>.<field>."""

GATE_PARAMETERS: Final = (
    ROLE_PARAMETER,
    Parameter("autostart", bool, True, "configure and activate at start; false waits for lifecycle transitions"),
    CONTROL_PARAMETER,
    WORLD_PARAMETER,
    Parameter("vehicle.length_m", float, 4.7, "length of the ego vehicle, which no topic tells", "m", 0.5, 25.0),
    Parameter("vehicle.width_m", float, 1.85, "width of the ego vehicle, which no topic tells", "m", 0.3, 4.0),
    Parameter(
        "await_planner", bool, False, "command nothing before a planner is there: a stepped world waits for it"
    ),
    Parameter(
        "release_on_new_episode", bool, False, "a new route releases a stop, as where a simulator starts an episode"
    ),
    Parameter("wait_s", float, _TIMES.wait_s, "wait of a frame for its proposal", "s", 0.01, 0.9),
    Parameter(
        "standby_wait_s", float, _TIMES.standby_wait_s,
        "wait of a frame for its proposal before the gate has let anything pass; the bridge itself waits 1 s",
        "s", 0.01, 0.9,
    ),
    Parameter("watchdog_period_s", float, 0.02, "period of the watchdog's wall clock timer", "s", 0.005, 0.05),
    *INPUT_PARAMETERS,
    *LIMIT_PARAMETERS,
)  # fmt: skip


def gate_config_from(values: dict[str, Any]) -> GateConfig:
    """Return the limits a parameter table's values ask for.

    Raises:
        ValueError: limits that contradict each other, or what is accepted from the inputs; names them.
    """
    sections = {}
    for section in fields(GateConfig):
        default = getattr(_CONFIG, section.name)
        sections[section.name] = type(default)(
            **{each.name: values[f"{section.name}.{each.name}"] for each in fields(default)}
        )
    _check_inputs(values)
    return GateConfig(**sections)


def _check_inputs(values: dict[str, Any]) -> None:
    """Refuse limits of the inputs at which the gate would stop a sound vehicle, or brake for a dead one too late."""
    reached, believed = values["command.overspeed"] * values["command.speed_mps"], values["limits.speed_mps"]
    if believed <= reached:
        raise ValueError(
            f"limits.speed_mps is {believed:g}, must be above {reached:g} m/s, which command.speed_mps and "
            "command.overspeed let a vehicle reach"
        )
    route, believed = values["watch.route_m"], values["limits.route_distance_m"]
    if route >= believed:
        raise ValueError(
            f"watch.route_m is {route:g}, must be below limits.route_distance_m, {believed:g} m: no place farther from "
            "its route than that is believed, and the stop for leaving it would never come"
        )
    stale, incomplete, wait = values["limits.stale_s"], values["limits.incomplete_s"], values["wait_s"]
    if incomplete > stale:
        raise ValueError(
            f"limits.incomplete_s is {incomplete:g}, must be at most limits.stale_s, {stale:g} s: a missing part would "
            "be borne for longer than all of them"
        )
    if wait > stale and not values["await_planner"]:
        raise ValueError(
            f"wait_s is {wait:g}, must be at most limits.stale_s, {stale:g} s: no silence is noticed while a frame "
            "waits. A longer one is for a stepped world, which stands still meanwhile, and needs await_planner"
        )


def gate_times_from(values: dict[str, Any]) -> GateTimes:
    """Return the waiting times a parameter table's values ask for."""
    return GateTimes(values["wait_s"], values["standby_wait_s"])
