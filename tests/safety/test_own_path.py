"""The circle of the own motion, and where others are along it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.data_types import Command
from adawm_planner.safety.own_path import OwnPath, others_along, own_path
from adawm_planner.simulator.tasks import load_vehicle
from adawm_planner.simulator.vehicle import EgoVehicle
from tests.safety.scenes import LENGTH, VEHICLE, WIDTH, ego, objects

TIGHTEST = math.tan(VEHICLE.max_steer) / VEHICLE.wheelbase


def test_the_path_is_the_circle_of_the_yaw_rate() -> None:
    assert own_path(ego(8.0), VEHICLE).curvature == 0.0
    assert own_path(ego(8.0, yaw_rate=0.4), VEHICLE).curvature == pytest.approx(0.05)
    assert own_path(ego(5.0, yaw_rate=-0.5), VEHICLE).curvature == pytest.approx(-0.1)


def test_no_path_is_tighter_than_the_steering_and_a_standing_vehicle_has_a_straight_one() -> None:
    assert own_path(ego(0.6, yaw_rate=9.0), VEHICLE).curvature == pytest.approx(TIGHTEST)
    assert own_path(ego(0.6, yaw_rate=-9.0), VEHICLE).curvature == pytest.approx(-TIGHTEST)
    assert own_path(ego(0.5, yaw_rate=0.01), VEHICLE).curvature == pytest.approx(0.02)
    assert own_path(ego(0.49, yaw_rate=0.01), VEHICLE).curvature == 0.0


def test_poses_on_a_circle_and_on_a_line() -> None:
    s = np.array([0.0, 5.0, 10.0])
    x, y, heading = OwnPath(0.0).at(s)
    assert np.allclose(x, s) and np.allclose(y, 0.0) and np.allclose(heading, 0.0)
    x, y, heading = OwnPath(-math.pi / 20.0).at(np.array([10.0]))  # a quarter of a turn to the right
    assert (x[0], y[0], heading[0]) == pytest.approx((20.0 / math.pi, -20.0 / math.pi, -math.pi / 2.0))
    assert OwnPath(2e-4).at(np.array([10.0]))[1][0] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("steer", [-1.0, -0.5, 0.3, 1.0])
def test_the_path_is_where_a_turning_vehicle_goes(steer: float) -> None:
    vehicle = EgoVehicle(load_vehicle("nominal"))
    vehicle.reset(3.0, -4.0, 2.0, 5.0)
    for _ in range(20):
        vehicle.tick(Command(throttle=0.1, steer=steer))
    me, way = vehicle.state, 0.0
    path = own_path(me, VEHICLE)
    for _ in range(20):
        before = vehicle.state
        vehicle.tick(Command(throttle=0.1, steer=steer))
        way += math.hypot(vehicle.state.x - before.x, vehicle.state.y - before.y)
    (x,), (y,), (yaw,) = path.at(np.array([way]))
    cos, sin = math.cos(me.yaw), math.sin(me.yaw)
    gone = (vehicle.state.x - me.x - cos * x + sin * y, vehicle.state.y - me.y - sin * x - cos * y)
    assert way > 4.0 and math.hypot(*gone) < 0.2
    assert math.remainder(vehicle.state.yaw - me.yaw - yaw, math.tau) == pytest.approx(0.0, abs=0.05)


def test_no_path_slips_more_than_the_steering() -> None:
    assert own_path(ego(5.0, lateral_speed=1.0), VEHICLE).slip == pytest.approx(math.atan(0.2))
    assert own_path(ego(-5.0, lateral_speed=1.0), VEHICLE).slip == pytest.approx(-math.atan(0.2))
    assert own_path(ego(5.0, lateral_speed=9.0), VEHICLE).slip == VEHICLE.max_steer
    assert own_path(ego(5.0, lateral_speed=-9.0), VEHICLE).slip == -VEHICLE.max_steer
    assert own_path(ego(0.49, lateral_speed=0.4), VEHICLE).slip == 0.0


@given(st.floats(-0.5, 0.5), st.floats(-15.0, 15.0), st.floats(-8.0, 8.0))
def test_a_path_that_slips_is_the_turned_one(slip: float, x: float, y: float) -> None:
    cos, sin = math.cos(slip), math.sin(slip)
    there = (cos * x - sin * y, sin * x + cos * y, slip + 0.7, 3.0)
    plain = others_along(OwnPath(0.1), ego(), VEHICLE, objects((x, y, 0.7, 3.0)))
    turned = others_along(OwnPath(0.1, slip), ego(), VEHICLE, objects(there))
    for name in ("gap_ahead", "gap_beside", "turned", "angle", "along", "nearing"):
        assert getattr(turned, name)[0] == pytest.approx(getattr(plain, name)[0], abs=1e-6), name
    px, py, yaw = OwnPath(0.1, slip).at(np.array([4.0]))
    qx, qy, _ = OwnPath(0.1).at(np.array([4.0]))
    assert (px[0], py[0]) == pytest.approx((cos * qx[0] - sin * qy[0], sin * qx[0] + cos * qy[0]))
    assert yaw[0] == pytest.approx(0.4)
    ax, ay, _ = OwnPath(0.0, slip).at(np.array([4.0]))
    assert (ax[0], ay[0]) == pytest.approx((4.0 * cos, 4.0 * sin))


@given(st.floats(-0.2, 0.2), st.floats(0.5, 12.0), st.floats(-2.0, 2.0), st.floats(-3.0, 3.0))
def test_a_point_put_beside_the_path_is_found_there(k: float, s: float, left: float, heading: float) -> None:
    (x,), (y,), (yaw,) = OwnPath(k).at(np.array([s]))
    px, py = x - left * math.sin(yaw), y + left * math.cos(yaw)
    me = ego(6.0, x=3.0, y=-4.0, yaw=heading, yaw_rate=6.0 * k)
    there = (
        me.x + math.cos(heading) * px - math.sin(heading) * py,
        me.y + math.sin(heading) * px + math.cos(heading) * py,
        heading + yaw,
        2.0,
    )
    others = others_along(own_path(me, VEHICLE), me, VEHICLE, objects(there))
    assert others.gap_ahead[0] == pytest.approx(s - 0.5 * VEHICLE.length - 0.5 * LENGTH, abs=2e-3)
    assert others.gap_beside[0] == pytest.approx(abs(left) - 0.5 * VEHICLE.width - 0.5 * WIDTH, abs=2e-3)
    assert others.turned[0] == pytest.approx(yaw, abs=2e-3)
    assert others.angle[0] == pytest.approx(0.0, abs=2e-3)
    assert others.along[0] == pytest.approx(2.0, abs=1e-3)
    assert others.nearing[0] == pytest.approx(0.0, abs=6e-3)
    assert (others.x[0], others.y[0]) == pytest.approx((px, py), abs=1e-9)


def test_a_crossing_car_is_as_long_as_it_is_wide() -> None:
    others = others_along(OwnPath(0.0), ego(), VEHICLE, objects((12.0, -6.0, math.pi / 2.0, 5.0)))
    assert others.gap_ahead[0] == pytest.approx(12.0 - 2.35 - 0.5 * WIDTH)
    assert others.gap_beside[0] == pytest.approx(6.0 - 0.925 - 0.5 * LENGTH)
    assert others.nearing[0] == pytest.approx(5.0) and others.along[0] == pytest.approx(0.0, abs=1e-12)
    assert (others.vx[0], others.vy[0]) == pytest.approx((0.0, 5.0), abs=1e-12)
    assert (others.half_length[0], others.half_width[0]) == (0.5 * LENGTH, 0.5 * WIDTH)


def test_nearing_is_negative_for_who_moves_away_from_either_side() -> None:
    turned = objects((12.0, 4.0, 0.3, 5.0), (12.0, -4.0, 0.3, 5.0))
    others = others_along(OwnPath(0.0), ego(), VEHICLE, turned)
    assert others.nearing == pytest.approx([-5.0 * math.sin(0.3), 5.0 * math.sin(0.3)])
    assert others.yaw == pytest.approx([0.3, 0.3])


def test_velocity_is_over_ground_in_the_vehicles_axes() -> None:
    me = ego(8.0, yaw=math.pi / 2.0)
    moving = replace(objects((0.0, 20.0, 0.0, 0.0)), vx=np.array([3.0]), vy=np.array([7.0]))
    others = others_along(own_path(me, VEHICLE), me, VEHICLE, moving)
    assert (others.vx[0], others.vy[0]) == pytest.approx((7.0, -3.0))
    assert (others.x[0], others.y[0]) == pytest.approx((20.0, 0.0), abs=1e-12)
    assert others.angle[0] == pytest.approx(-math.pi / 2.0)


@pytest.mark.parametrize("turns", [-2.0, 0.0, 1.0])
def test_angles_are_within_half_a_turn(turns: float) -> None:
    others = others_along(OwnPath(0.0), ego(), VEHICLE, objects((12.0, 0.0, 3.0 + 2.0 * math.pi * turns, 1.0)))
    assert others.angle[0] == pytest.approx(3.0)
