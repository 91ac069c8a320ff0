"""Tracking: pedals of the nominal vehicle, the governor, the sign of the wheel, and holding a route."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import pedals, speed_limit, track
from adawm_planner.data_types import EgoState, Route, Scene
from adawm_planner.observation.route import project, route_from_points
from adawm_planner.simulator.vehicle import EgoVehicle, VehiclePreset
from tests.observation.scenes import VEHICLE, objects, scene

CONFIG = ControlConfig()


@given(st.floats(-10.0, 10.0), st.floats(0.0, 20.0))
def test_pedals_are_in_range_and_never_both_pressed(acceleration: float, speed: float) -> None:
    throttle, brake = pedals(acceleration, speed, CONFIG)
    assert 0.0 <= throttle <= 1.0 and 0.0 <= brake <= 1.0
    assert throttle == 0.0 or brake == 0.0


@pytest.mark.parametrize("target", [-4.0, -2.0, 0.0, 1.2, 2.5])
def test_the_nominal_vehicle_does_what_the_pedals_were_asked_for(target: float) -> None:
    vehicle = EgoVehicle(VehiclePreset("nominal"))
    vehicle.reset(20.0, 0.0, 0.0, 5.0)
    for _ in range(16):
        command = track(scene(vehicle.state), target, replace(CONFIG, cruise_speed=30.0))
        vehicle.tick(command)
    assert vehicle.state.acceleration == pytest.approx(target, abs=0.1)


def test_a_standing_vehicle_is_held() -> None:
    command = track(scene(EgoState(20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)), 0.0, CONFIG)
    assert command.throttle == 0.0 and command.brake == pytest.approx(CONFIG.hold_brake)


@pytest.mark.parametrize(("y", "sign"), [(1.0, 1.0), (-1.0, -1.0)])
def test_positive_steer_is_right(y: float, sign: float) -> None:
    command = track(scene(EgoState(20.0, y, 0.0, 5.0, 0.0, 0.0, 0.0)), 0.0, CONFIG)
    assert math.copysign(1.0, command.steer) == sign


def test_the_governor_slows_for_a_bend_and_stops_at_the_end() -> None:
    arc = np.radians(np.arange(5.0, 91.0, 5.0))
    x = np.concatenate([np.arange(0.0, 61.0), 60.0 + 10.0 * np.sin(arc)])
    y = np.concatenate([np.zeros(61), 10.0 * (1.0 - np.cos(arc))])
    route = route_from_points(x, y)
    assert speed_limit(route, 0.0, CONFIG) == CONFIG.cruise_speed
    in_bend = speed_limit(route, 65.0, CONFIG)
    assert in_bend == pytest.approx(math.sqrt(CONFIG.lateral_acceleration * 10.0), rel=0.05)
    assert speed_limit(route, route.length, CONFIG) == 0.0


def corner(spacing: float) -> Route:
    """A route of 200 m eastwards, a quarter circle of 8 m to the left, and 40 m on; points `spacing` [m] apart."""
    s = np.arange(0.0, 240.0 + 4.0 * math.pi, spacing)
    angle = np.clip((s - 200.0) / 8.0, 0.0, 0.5 * math.pi)
    x = np.minimum(s, 200.0) + 8.0 * np.sin(angle)
    return route_from_points(x, 8.0 * (1.0 - np.cos(angle)) + np.maximum(s - 200.0 - 4.0 * math.pi, 0.0))


@pytest.mark.parametrize("spacing", [0.2, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("cruise", [8.0, 14.0, 30.0])
def test_the_governor_sees_a_bend_as_far_ahead_as_it_must(spacing: float, cruise: float) -> None:
    config, route = replace(CONFIG, cruise_speed=cruise), corner(spacing)
    bend = math.sqrt(CONFIG.lateral_acceleration * 8.0)
    for before in (5.0, 10.0, 15.0, 50.0, 120.0):  # m
        allowed = math.sqrt(bend**2 + 2.0 * CONFIG.bend_deceleration * before)
        assert speed_limit(route, 200.0 - before, config) == pytest.approx(min(allowed, cruise), abs=0.7)


def test_what_the_governor_does_not_look_at_limits_nothing() -> None:
    route, looks_far = corner(1.0), replace(CONFIG, cruise_speed=100.0)
    for s in np.arange(0.0, route.length, 0.3):
        seen = min(speed_limit(route, float(s), looks_far), CONFIG.cruise_speed)
        assert speed_limit(route, float(s), CONFIG) == seen


@pytest.mark.parametrize("preset", [VehiclePreset("nominal"), VehiclePreset("slow", delay=0.4)])
def test_a_vehicle_holds_a_winding_route_and_stops_at_its_end(preset: VehiclePreset) -> None:
    s = np.arange(0.0, 150.0)
    route = route_from_points(s, 6.0 * np.sin(s / 18.0))
    vehicle = EgoVehicle(preset)
    vehicle.reset(0.0, 0.0, math.atan(6.0 / 18.0), 4.0)
    worst = 0.0
    for _ in range(1000):
        state = vehicle.state
        vehicle.tick(track(Scene(0.0, state, objects(), route, None, VEHICLE), 2.5, CONFIG))
        worst = max(worst, abs(project(route, state.x, state.y).lateral))
    assert worst < 0.8
    assert vehicle.state.speed < 0.3
    assert route.length - project(route, vehicle.state.x, vehicle.state.y).s < 2.0


def test_commands_survive_single_precision() -> None:
    command = track(scene(EgoState(20.0, 0.3, 0.1, 5.0, 0.0, 0.0, 0.0)), 1.2, CONFIG)
    for value in (command.throttle, command.steer, command.brake):
        assert float(np.float32(value)) == value


@pytest.mark.parametrize("change", [{"cruise_speed": 0.0}, {"drag": -1.0}, {"hold_brake": 1.5}])
def test_config_refuses_nonsense(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ControlConfig(**change)
