"""Ego dynamics against closed-form cases."""

from __future__ import annotations

import math

import pytest

from adawm_planner.data_types import Command
from adawm_planner.dims import FRAME_S
from adawm_planner.simulator.vehicle import GRAVITY, EgoVehicle, VehiclePreset


def driven(preset: VehiclePreset, command: Command, frames: int, speed: float = 8.0) -> EgoVehicle:
    vehicle = EgoVehicle(preset)
    vehicle.reset(0.0, 0.0, 0.0, speed)
    for _ in range(frames):
        vehicle.tick(command)
    return vehicle


def test_full_brake_reaches_force_over_mass() -> None:
    preset = VehiclePreset("p", drag=0.0, rolling_force=0.0)
    vehicle = driven(preset, Command(brake=0.5), 20)
    assert vehicle.state.acceleration == pytest.approx(-0.5 * preset.brake_force / preset.mass, rel=0.01)


def test_friction_limits_braking() -> None:
    preset = VehiclePreset("p", friction=0.2, drag=0.0, rolling_force=0.0)
    vehicle = driven(preset, Command(brake=1.0), 10)
    assert vehicle.state.acceleration == pytest.approx(-0.2 * GRAVITY, rel=0.01)


def test_brakes_stop_and_never_push() -> None:
    vehicle = driven(VehiclePreset("p"), Command(brake=1.0), 100, speed=5.0)
    assert vehicle.state.speed == 0.0


def test_a_delay_holds_commands_back_for_its_time() -> None:
    vehicle = EgoVehicle(VehiclePreset("p", delay=0.2))
    vehicle.reset(0.0, 0.0, 0.0, 0.0)
    applied = [vehicle.tick(Command(throttle=1.0)).throttle for _ in range(6)]
    assert applied == [0.0] * 4 + [1.0] * 2


@pytest.mark.parametrize("frames", range(41))
def test_every_delay_of_whole_frames_is_taken(frames: int) -> None:
    for delay in (frames * FRAME_S, round(frames * 0.05, 2)):
        vehicle = EgoVehicle(VehiclePreset("p", delay=delay))
        applied = [vehicle.tick(Command(throttle=1.0)).throttle for _ in range(frames + 1)]
        assert applied == [0.0] * frames + [1.0]


@pytest.mark.parametrize(("steer", "left"), [(-0.5, True), (0.5, False)])
def test_steady_turn_has_the_single_track_radius(steer: float, left: bool) -> None:
    preset = VehiclePreset("p", drag=0.0, rolling_force=0.0)
    vehicle = driven(preset, Command(steer=steer), 40, speed=3.0)
    angle = 0.5 * preset.max_steer
    slip = math.atan(0.5 * math.tan(angle))
    rate = 3.0 * 2.0 * math.sin(slip) / preset.wheelbase
    assert vehicle.state.yaw_rate == pytest.approx(rate if left else -rate, rel=0.01)


def test_a_slippery_road_limits_the_yaw_rate() -> None:
    preset = VehiclePreset("p", friction=0.2, drag=0.0, rolling_force=0.0)
    vehicle = driven(preset, Command(steer=-1.0), 30, speed=10.0)
    assert vehicle.state.yaw_rate * vehicle.state.speed <= 0.2 * GRAVITY * 1.01


def test_reset_forgets_everything() -> None:
    used = driven(VehiclePreset("p", delay=0.3), Command(throttle=1.0, steer=1.0), 30)
    used.reset(1.0, 2.0, 0.5, 4.0)
    fresh = EgoVehicle(VehiclePreset("p", delay=0.3))
    fresh.reset(1.0, 2.0, 0.5, 4.0)
    for _ in range(10):
        used.tick(Command(brake=0.1, steer=0.2))
        fresh.tick(Command(brake=0.1, steer=0.2))
    assert used.state == fresh.state


def test_reverse_drives_backwards() -> None:
    vehicle = driven(VehiclePreset("p"), Command(throttle=0.5, reverse=True), 20, speed=0.0)
    assert vehicle.state.speed < -0.5 and vehicle.state.x < 0.0


def test_distance_is_the_integral_of_speed() -> None:
    preset = VehiclePreset("p", drag=0.0, rolling_force=0.0)
    assert driven(preset, Command(), 20, speed=6.0).state.x == pytest.approx(6.0 * 20 * FRAME_S)
