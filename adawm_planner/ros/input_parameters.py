"""The parameters that planner and gate share: whose topics, and what is accepted from them."""

from __future__ import annotations

from typing import Any, Final

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from adawm_planner.config.checks import NAME_RULE, is_name
from adawm_planner.ros.parameters import Parameter
from adawm_planner.runtime.input_monitor import InputLimits

_LIMITS: Final = InputLimits()


def role_problem(name: str) -> str:
    """What is wrong with a role name; empty: nothing."""
    return "" if is_name(name) else NAME_RULE


def _topic_problem(name: str) -> str:
    try:
        validate_topic_name(name or "default")
    except InvalidTopicNameException:
        return "must be empty or the name of a topic, as /vehicle/command"
    return ""


ROLE_PARAMETER: Final = Parameter(
    "role_name", str, "ego_vehicle", "role of the ego vehicle, as in /carla/<role_name>/odometry", check=role_problem
)
CONTROL_PARAMETER: Final = Parameter(
    "control_topic", str, "", "topic of the commands; empty: /carla/<role_name>/vehicle_control_cmd",
    check=_topic_problem,
)  # fmt: skip
WORLD_PARAMETER: Final = Parameter(
    "use_world_status", bool, True,
    "believe /carla/status that the world is paused or stepped; false, for a vehicle: nobody can lift the watchdog",
)  # fmt: skip

INPUT_PARAMETERS: Final = (
    Parameter(
        "limits.stale_s", float, _LIMITS.stale_s, "wall time without input before the watchdog brakes", "s", 0.05, 5.0
    ),
    Parameter(
        "limits.incomplete_s", float, _LIMITS.incomplete_s,
        "wall time an incomplete frame is waited for before the vehicle is braked", "s", 0.01, 5.0,
    ),
    Parameter(
        "limits.stepped_stale_s", float, _LIMITS.stepped_stale_s,
        "wall time without input before the watchdog brakes, where a world in synchronous mode stands still",
        "s", 0.1, 60.0,
    ),
    Parameter(
        "limits.stepped_incomplete_s", float, _LIMITS.stepped_incomplete_s,
        "wall time an incomplete frame is waited for before the vehicle is braked, where a world in synchronous mode "
        "waits; the bridge itself waits 1 s",
        "s", 0.01, 0.9,
    ),
    Parameter(
        "limits.repeat_s", float, _LIMITS.repeat_s,
        "wall time between two braking commands in a silence", "s", 0.05, 5.0,
    ),
    Parameter(
        "limits.gap_s", float, _LIMITS.gap_s,
        "simulated time between two frames before the vehicle is braked", "s", 0.1, 5.0,
    ),
    Parameter(
        "limits.route_distance_m", float, _LIMITS.route_distance_m,
        "distance of ego and route before they contradict each other", "m", 1.0, 100.0,
    ),
    Parameter(
        "limits.jump_m", float, _LIMITS.jump_m,
        "move between two frames, beyond the way that its speed explains, that begins a new episode", "m", 0.5, 100.0,
    ),
    Parameter(
        "limits.speed_mismatch_mps", float, _LIMITS.speed_mismatch_mps,
        "difference of odometry's and vehicle_status's speed before they contradict each other", "m/s", 0.1, 50.0,
    ),
    Parameter(
        "limits.speed_mps", float, _LIMITS.speed_mps, "speed above which odometry is not believed", "m/s", 1.0, 150.0
    ),
)  # fmt: skip

PERIOD_PARAMETER: Final = Parameter(
    "limits.period_error", float, _LIMITS.period_error,
    "deviation of the mean frame period from 0.05 s before the vehicle is braked", "of 0.05 s", 0.05, 1.0,
)  # fmt: skip
"""The planner's alone: the gate does not check the period."""


def limits_from(values: dict[str, Any]) -> InputLimits:
    """Return the input limits a parameter table's values ask for; those that it lacks keep their defaults."""
    return InputLimits(
        **{name.removeprefix("limits."): value for name, value in values.items() if name.startswith("limits.")}
    )
