"""The planner node's parameter table, and the configuration objects made from its values."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from adawm_planner.adapters.manifest import VEHICLE, VEHICLE_RULE
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.control import ControlConfig
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.paths import default_model_dir, user_path
from adawm_planner.reward import RewardWeights
from adawm_planner.ros.input_parameters import (
    CONTROL_PARAMETER,
    INPUT_PARAMETERS,
    PERIOD_PARAMETER,
    ROLE_PARAMETER,
    WORLD_PARAMETER,
)
from adawm_planner.ros.parameters import Parameter
from adawm_planner.runtime.drive_step import DriveConfig
from adawm_planner.runtime.experience import EpisodeRules
from adawm_planner.runtime.planner_core import PlannerConfig

_CALIBRATION: Final = {
    "control.cruise_speed_mps": "cruise_speed",
    "control.end_deceleration_mps2": "end_deceleration",
    "control.lateral_mps2": "lateral_acceleration",
    "control.bend_deceleration_mps2": "bend_deceleration",
    "control.throttle_mps2": "throttle_acceleration",
    "control.brake_mps2": "brake_deceleration",
    "control.drag_per_m": "drag",
    "control.rolling_mps2": "rolling_deceleration",
    "control.hold_brake": "hold_brake",
}
"""Parameter -> field of ControlConfig."""

_CONTROL: Final = ControlConfig()
_RULES: Final = EpisodeRules()
_ADAPTERS: Final = AdapterLimits()
_SWAP: Final = SwapConfig()


def vehicle_problem(name: str) -> str:
    """What is wrong with the id of a vehicle, which no bundle could name; empty: nothing."""
    return "" if not name or VEHICLE.fullmatch(name) else f"must be empty or {VEHICLE_RULE}"


PLANNER_PARAMETERS: Final = (
    ROLE_PARAMETER,
    Parameter("autostart", bool, True, "configure and activate at start; false waits for lifecycle transitions"),
    Parameter("model_dir", str, "", "folder of the base model (planner.onnx); empty: the one that was installed"),
    Parameter(
        "provider", str, "auto", "where inference runs; auto takes the best there is",
        choices=("auto", "cpu", "cuda", "tensorrt"),
    ),
    Parameter("threads", int, 1, "threads of inference", low=1, high=64),
    CONTROL_PARAMETER,
    Parameter("use_gate", bool, False, "propose commands to adawm_gate, which publishes them, instead"),
    WORLD_PARAMETER,
    Parameter("use_map", bool, True, "draw the drivable area from world_info's OpenDRIVE; false: from the route alone"),
    Parameter("vehicle.length_m", float, 4.7, "length of the ego vehicle, which no topic tells", "m", 0.5, 25.0),
    Parameter("vehicle.width_m", float, 1.85, "width of the ego vehicle, which no topic tells", "m", 0.3, 4.0),
    *INPUT_PARAMETERS,
    PERIOD_PARAMETER,
    Parameter("fault_brake", float, 0.8, "brake while an input cannot be trusted", "of full brake", 0.1, 1.0),
    Parameter("watchdog_period_s", float, 0.05, "period of the watchdog's wall clock timer", "s", 0.01, 1.0),
    Parameter(
        "control.cruise_speed_mps", float, _CONTROL.cruise_speed, "highest speed on a straight road", "m/s", 0.5, 40.0
    ),
    Parameter(
        "control.end_deceleration_mps2", float, _CONTROL.end_deceleration,
        "deceleration of the stop at the end of the route", "m/s2", 0.2, 6.0,
    ),
    Parameter(
        "control.lateral_mps2", float, _CONTROL.lateral_acceleration,
        "lateral acceleration that sets the speed in bends", "m/s2", 0.5, 6.0,
    ),
    Parameter(
        "control.bend_deceleration_mps2", float, _CONTROL.bend_deceleration,
        "deceleration that is assumed when slowing down for a bend", "m/s2", 0.2, 6.0,
    ),
    Parameter(
        "control.throttle_mps2", float, _CONTROL.throttle_acceleration,
        "acceleration of this vehicle at throttle 1; the gate's is command.throttle_mps2", "m/s2", 0.5, 20.0,
    ),
    Parameter(
        "control.brake_mps2", float, _CONTROL.brake_deceleration,
        "deceleration of this vehicle at brake 1; the gate's is command.brake_mps2", "m/s2", 1.0, 20.0,
    ),
    Parameter(
        "control.drag_per_m", float, _CONTROL.drag,
        "deceleration of the rolling vehicle by the air, per squared speed", "1/m", 0.00001, 0.1,
    ),
    Parameter(
        "control.rolling_mps2", float, _CONTROL.rolling_deceleration,
        "deceleration of the rolling vehicle by its tyres", "m/s2", 0.001, 1.0,
    ),
    Parameter(
        "control.hold_brake", float, _CONTROL.hold_brake, "brake that keeps the vehicle at a standstill",
        "of full brake", 0.05, 1.0,
    ),
    Parameter(
        "reward.goal_before_end_m", float, _RULES.goal_before_end_m,
        "distance of the goal before the route's last point, for the reward only", "m", 0.0, 1000.0,
    ),
    Parameter(
        "reward.off_lane_m", float, _RULES.off_lane_m,
        "distance from the route that ends an episode, for the reward only", "m", 0.5, 100.0,
    ),
    Parameter(
        "reward.target_speed_mps", float, _RULES.weights.target_speed,
        "speed the reward asks for", "m/s", 0.5, 40.0,
    ),
    Parameter("adapters.store", str, "", "folder of the adapters that were accepted; empty: adapters are not taken"),
    Parameter(
        "adapters.trust", str, "",
        "public key (.pub), or a folder of them, whose bundles are accepted; empty: no bundle is accepted",
    ),
    Parameter(
        "vehicle_id", str, "", "id of this vehicle; empty: bundles for a certain vehicle are refused",
        check=vehicle_problem,
    ),
    Parameter("adapters.rank", int, _ADAPTERS.rank, "highest rank of a layer's factors", "", 1, 1024),
    Parameter(
        "adapters.norm_ratio", float, _ADAPTERS.norm_ratio,
        "largest change of a layer", "of its weights' norm", 0.01, 100.0,
    ),
    Parameter("adapters.require_expiry", bool, False, "refuse bundles that never expire"),
    Parameter("adapters.require_vehicle", bool, False, "refuse bundles that name no vehicle"),
    Parameter(
        "adapters.clock_tolerance_s", int, _ADAPTERS.clock_tolerance_s,
        "difference of the signer's and this machine's clock that is borne", "s", 0, 86400,
    ),
    Parameter(
        "adapters.shadow_decisions", int, _SWAP.shadow_decisions,
        "decisions that a new adapter runs beside the live one", "decisions of 0.2 s", 1, 100000,
    ),
    Parameter(
        "adapters.shadow_disagreement", float, _SWAP.shadow_disagreement,
        "share of adapters.shadow_decisions on which a new adapter's action may differ", "share", 0.0, 1.0,
    ),
    Parameter(
        "adapters.shadow_variation", float, _SWAP.shadow_variation,
        "mean total variation allowed between the action distributions of new and live adapter", "of 1", 0.0, 1.0,
    ),
    Parameter(
        "adapters.shadow_violations", int, _SWAP.shadow_violations,
        "decisions on which only the new adapter may break the following-distance rule", "decisions", 0, 100000,
    ),
    Parameter(
        "adapters.probation_episodes", int, _SWAP.probation_episodes,
        "episodes at least that a new adapter drives before it is committed", "episodes", 1, 10000,
    ),
    Parameter(
        "adapters.probation_level", float, _SWAP.probation_level,
        "chance at most that an adapter as good as the record is rolled back", "chance", 0.0001, 0.5,
    ),
    Parameter(
        "adapters.probation_margin", float, _SWAP.probation_margin,
        "loss of success rate that is not held against a new adapter", "success rate", 0.0, 1.0,
    ),
    Parameter(
        "adapters.return_share", float, _SWAP.return_share,
        "share of the record's mean return that a success must reach", "share", 0.0, 1.0,
    ),
    Parameter(
        "adapters.episode_decisions", int, _SWAP.episode_decisions,
        "decisions without an end that count as a failed episode; above those of the longest route",
        "decisions of 0.2 s", 1, 1000000,
    ),
    Parameter(
        "adapters.record_episodes", int, _SWAP.record_episodes,
        "episodes of the planner's own record before it replaces adapters.record_success", "episodes", 1, 10000,
    ),
    Parameter(
        "adapters.record_success", float, _SWAP.record_success,
        "success rate that is asked for while the planner has no record of its own", "success rate", 0.0, 1.0,
    ),
)  # fmt: skip


def config_from(values: dict[str, Any]) -> PlannerConfig:
    """Return the core's configuration a parameter table's values ask for."""
    control = ControlConfig(**{field: values[name] for name, field in _CALIBRATION.items()})
    rules = EpisodeRules(
        weights=RewardWeights(target_speed=values["reward.target_speed_mps"]),
        goal_before_end_m=values["reward.goal_before_end_m"],
        off_lane_m=values["reward.off_lane_m"],
    )
    return PlannerConfig(DriveConfig(ObservationConfig(), control), rules, values["fault_brake"])


_LIMIT_NAMES: Final = ("rank", "norm_ratio", "require_expiry", "require_vehicle", "clock_tolerance_s")


def adapter_limits_from(values: dict[str, Any]) -> AdapterLimits:
    """Return the limits of bundles a parameter table's values ask for."""
    return AdapterLimits(**{name: values[f"adapters.{name}"] for name in _LIMIT_NAMES})


def swap_config_from(values: dict[str, Any]) -> SwapConfig:
    """Return the limits of a swap a parameter table's values ask for."""
    return SwapConfig(**{each.name: values[f"adapters.{each.name}"] for each in fields(SwapConfig)})


def model_dir_from(value: str) -> Path:
    """Return the model folder: the one given, else the installed or the checked-out one.

    Raises:
        ValueError, FileNotFoundError: there is no such folder; the message names it.
    """
    folder = user_path(value) if value else default_model_dir()
    if not folder.is_dir():
        raise ValueError(f"model_dir {folder} is not a folder; give the folder that holds planner.onnx")
    return folder
