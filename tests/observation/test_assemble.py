"""The observation: where things are drawn, what the state says, and that rounding hides transport noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import EgoState
from adawm_planner.dims import BEV_CELL_M, BEV_CHANNELS, BEV_SHAPE, BEV_SIZE, STATE_FEATURES
from adawm_planner.observation.assemble import canonical, observe

from .scenes import objects, scene

CONFIG = ObservationConfig()
NOW, IN_1S, IN_2S = (BEV_CHANNELS.index(name) for name in ("vehicles", "vehicles_in_1s", "vehicles_in_2s"))


def centroid(channel: np.ndarray) -> tuple[float, float]:
    """Centre of mass as (forward, left) of the ego [m]."""
    weight = channel.astype(np.float64)
    rows, columns = np.indices(channel.shape)
    middle = 0.5 * (BEV_SIZE - 1)
    forward = (middle - (weight * rows).sum() / weight.sum()) * BEV_CELL_M
    left = (middle - (weight * columns).sum() / weight.sum()) * BEV_CELL_M
    return forward, left


def state_of(observation, name: str) -> float:
    return float(observation.state[STATE_FEATURES.index(name)])


@given(st.floats(-math.pi, math.pi), st.floats(-25.0, 25.0), st.floats(-25.0, 25.0))
def test_a_car_is_drawn_where_it_is_seen_from_the_ego(yaw: float, forward: float, left: float) -> None:
    x = 20.0 + forward * math.cos(yaw) - left * math.sin(yaw)
    y = forward * math.sin(yaw) + left * math.cos(yaw)
    seen = observe(scene(EgoState(20.0, 0.0, yaw, 5.0, 0.0, 0.0, 0.0), objects((x, y, yaw, 0.0, 0.0))), 0.0, CONFIG)
    assert centroid(seen.bev[NOW]) == pytest.approx((forward, left), abs=0.4)


def test_forecast_channels_move_with_the_velocity() -> None:
    seen = observe(scene(others=objects((20.0, 10.0, 0.0, 8.0, 0.0))), 0.0, CONFIG)
    ahead = [centroid(seen.bev[channel])[0] for channel in (NOW, IN_1S, IN_2S)]
    assert ahead == pytest.approx([0.0, 8.0, 16.0], abs=0.4)


@pytest.mark.parametrize("yaw", [0.0, 0.3, 0.8, 1.57])
def test_footprints_have_the_same_weight_in_every_direction(yaw: float) -> None:
    seen = observe(scene(others=objects((30.0, 8.3, yaw, 0.0, 0.0))), 0.0, CONFIG)
    area = seen.bev[NOW].sum() / 255.0 * BEV_CELL_M**2
    outlined = (4.5 + 1.25) * (1.8 + 1.25)
    assert area == pytest.approx(outlined, rel=0.25)


def test_the_route_ahead_is_drawn_and_not_the_route_behind() -> None:
    route = observe(scene(), 0.0, CONFIG).bev[BEV_CHANNELS.index("route")]
    assert route[: BEV_SIZE // 2 - 1, BEV_SIZE // 2 - 1 : BEV_SIZE // 2 + 1].min() > 0
    assert route[BEV_SIZE // 2 + 2 :].max() == 0


def test_without_a_map_the_drivable_area_is_the_route() -> None:
    drivable = observe(scene(), 0.0, CONFIG).bev[0]
    assert drivable[: BEV_SIZE // 2, BEV_SIZE // 2].min() > 0
    assert drivable[:, 0].max() == 0


def test_objects_out_of_range_are_not_drawn() -> None:
    seen = observe(scene(others=objects((20.0 + 71.0, 0.0, 0.0, -40.0, 0.0))), 0.0, CONFIG)
    assert seen.bev[NOW:].max() == 0


def test_state_of_a_displaced_ego() -> None:
    seen = observe(scene(EgoState(20.0, 1.0, 0.25, 5.0, 0.0, 0.1, -2.0)), 2.5, CONFIG)
    assert seen.bev.shape == BEV_SHAPE
    expected = {
        "speed": 0.5,
        "acceleration": -0.5,
        "yaw_rate": 0.1,
        "lateral_deviation": 0.5,
        "heading_error": 0.5,
        "distance_to_bend": 1.0,
        "bend_progress": 1.0,
        "distance_to_goal": 1.0,
        "last_acceleration": 0.625,
    }
    assert {name: state_of(seen, name) for name in expected} == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_noise_far_below_the_rounding_step_changes_no_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [tuple(row) for row in rng.uniform(-20.0, 20.0, (4, 5)).round(4)]
    ego = EgoState(20.0, 0.1234, 0.4321, 5.4321, 0.0, 0.1234, -1.2345)
    clean = scene(ego, objects(*rows))
    noise = 1e-9
    others = clean.objects
    noisy = replace(
        clean,
        ego=replace(ego, x=ego.x + noise, yaw=ego.yaw - noise, acceleration=ego.acceleration + noise),
        objects=replace(others, x=others.x + noise, yaw=others.yaw + 2.0 * math.pi + noise, vx=others.vx - noise),
    )
    a, b = observe(clean, 0.0, CONFIG), observe(noisy, 0.0, CONFIG)
    assert np.array_equal(a.bev, b.bev)
    assert np.array_equal(a.state, b.state)


def test_headings_pi_and_minus_pi_are_one() -> None:
    east, west = (
        scene(EgoState(20.0, 0.0, yaw, 5.0, 0.0, 0.0, 0.0), objects((30.0, 4.0, yaw, -8.0, 0.0)))
        for yaw in (math.pi - 1e-9, -math.pi + 1e-9)
    )
    assert canonical(east).ego == canonical(west).ego
    assert np.array_equal(observe(east, 0.0, CONFIG).bev, observe(west, 0.0, CONFIG).bev)


def test_rounding_twice_changes_nothing() -> None:
    once = canonical(scene(EgoState(20.1234567, 0.7654321, 0.1, 5.0, 0.0, 0.0, 0.0), objects((1.2345678, 2, 3, 4, 5))))
    twice = canonical(once)
    assert once.ego == twice.ego
    assert np.array_equal(once.objects.x, twice.objects.x)


@pytest.mark.parametrize("name", ["route_ahead_m", "object_range_m", "lane_width_m"])
def test_config_refuses_nonsense(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        ObservationConfig(**{name: 0.0})
