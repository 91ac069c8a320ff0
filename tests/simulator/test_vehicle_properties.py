"""The ego's motion: independent of the map frame, mirrored by its steering, steady circles in closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import Command, EgoState
from adawm_planner.simulator.vehicle import LIMITS, EgoVehicle, VehiclePreset
from tests.observation.test_motions import ANGLE, METRES, Motion

COMMANDS = st.lists(
    st.builds(Command, throttle=st.floats(0.0, 1.0), steer=st.floats(-1.0, 1.0), brake=st.floats(0.0, 1.0)),
    min_size=1,
    max_size=15,
)
PRESET = VehiclePreset("nominal")


def drive(commands: list[Command], x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> EgoState:
    vehicle = EgoVehicle(PRESET)
    vehicle.reset(x, y, yaw, 8.0)
    for command in commands:
        vehicle.tick(command)
    return vehicle.state


@settings(max_examples=40)
@given(COMMANDS, ANGLE, METRES, METRES)
def test_the_same_commands_drive_the_same_way_from_anywhere(
    commands: list[Command], turn: float, x: float, y: float
) -> None:
    expected = Motion(turn, x, y).ego(drive(commands))
    found = drive(commands, x, y, turn)
    assert (found.x, found.y) == (pytest.approx(expected.x, abs=1e-6), pytest.approx(expected.y, abs=1e-6))
    assert wrap_angle(found.yaw - expected.yaw) == pytest.approx(0.0, abs=1e-9)
    assert (found.speed, found.yaw_rate) == (pytest.approx(expected.speed), pytest.approx(expected.yaw_rate))


@settings(max_examples=40)
@given(COMMANDS)
def test_steering_the_other_way_is_the_mirror_image(commands: list[Command]) -> None:
    a = drive(commands)
    b = drive([Command(one.throttle, -one.steer, one.brake) for one in commands])
    assert (b.x, b.speed, b.acceleration) == (a.x, a.speed, a.acceleration)
    assert (b.y, b.yaw_rate) == (pytest.approx(-a.y, abs=1e-12), pytest.approx(-a.yaw_rate, abs=1e-12))


@given(st.floats(0.1, 1.0))
def test_positive_steer_turns_right(steer: float) -> None:
    state = drive([Command(throttle=0.2, steer=steer)] * 10)
    assert state.yaw_rate < 0.0 and state.yaw < 0.0 and state.y < 0.0


@settings(max_examples=10)
@given(st.floats(0.05, 0.3))
def test_a_steady_circle_has_the_single_track_models_yaw_rate(steer: float) -> None:
    """Yaw rate = v 2 sin(beta) / L with tan(beta) = tan(delta) / 2 (Rajamani 2.2, axles half way)."""
    state = drive([Command(throttle=0.15, steer=steer)] * 60)
    beta = math.atan(0.5 * math.tan(steer * PRESET.max_steer))
    assert state.yaw_rate == pytest.approx(-state.speed * 2.0 * math.sin(beta) / PRESET.wheelbase, rel=0.02)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("beyond", [0.999, 1.001])
def test_a_preset_beyond_a_limit_is_refused_with_both_ends(name: str, beyond: float) -> None:
    low, high = LIMITS[name]
    value = low * beyond - (1e-3 if low == 0.0 else 0.0) if beyond < 1.0 else high * beyond
    with pytest.raises(ValueError, match=f"{name} is .*, must be a number in .*\\.\\."):
        VehiclePreset("x", **{name: value})  # type: ignore[arg-type]
    assert getattr(VehiclePreset("x", **{name: low}), name) == low  # type: ignore[arg-type]
