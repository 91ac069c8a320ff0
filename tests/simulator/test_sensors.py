"""Signs, units and frames of the small sensors."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from adawm_planner.data_types import EgoState, Objects
from adawm_planner.simulator.sensors import (
    GeoReference,
    MotionTracker,
    collision_impulse,
    imu_acceleration,
    map_acceleration,
)
from adawm_planner.simulator.vehicle import GRAVITY


def ego(yaw: float = 0.0, speed: float = 0.0, yaw_rate: float = 0.0, acceleration: float = 0.0) -> EgoState:
    return EgoState(0.0, 0.0, yaw, speed, 0.0, yaw_rate, acceleration)


def objects(*rows: tuple[int, float, float]) -> Objects:
    """Objects of (id, vx, vy) at (5, 0)."""
    ids, vx, vy = (np.array(column) for column in zip(*rows, strict=True))
    zeros, ones = np.zeros(len(rows)), np.ones(len(rows))
    return Objects(ids, 5.0 * ones, zeros, zeros, vx, vy, zeros, ones, ones)


def test_motion_is_differenced_by_id_whatever_the_order() -> None:
    tracker = MotionTracker()
    first = tracker.step(objects((3, 1.0, 0.0), (9, 0.0, 2.0)), 0.05)
    assert not first.ax.any() and not first.ay.any() and first.age.tolist() == [1, 1]
    second = tracker.step(objects((9, 0.0, 2.5), (3, 1.5, 0.0), (4, 0.0, 0.0)), 0.05)
    assert second.ax == pytest.approx([0.0, 10.0, 0.0])
    assert second.ay == pytest.approx([10.0, 0.0, 0.0])
    assert second.age.tolist() == [2, 2, 1]


def test_a_lost_object_starts_again() -> None:
    tracker = MotionTracker()
    tracker.step(objects((1, 5.0, 0.0)), 0.05)
    tracker.step(objects((2, 0.0, 0.0)), 0.05)
    again = tracker.step(objects((1, 9.0, 0.0)), 0.05)
    assert again.ax == pytest.approx([0.0]) and again.age.tolist() == [1]


def test_acceleration_in_map_axes_projects_back_onto_the_body() -> None:
    state = ego(yaw=2.1, speed=7.0, yaw_rate=0.3, acceleration=-1.7)
    ax, ay = map_acceleration(state)
    assert ax * math.cos(2.1) + ay * math.sin(2.1) == pytest.approx(-1.7)
    assert ay * math.cos(2.1) - ax * math.sin(2.1) == pytest.approx(2.1)


def test_imu_feels_gravity_at_rest_and_the_left_turn_to_the_left() -> None:
    assert imu_acceleration(ego(), 2.0, 0.0, 0.0, 0.0) == (0.0, 0.0, GRAVITY)
    forward, left, up = imu_acceleration(ego(speed=5.0, yaw_rate=0.4), 2.0, 0.0, 0.0, 0.1)
    assert (forward, left, up) == pytest.approx((-0.32, 2.2, GRAVITY))


def test_imu_beside_the_centre_and_turned_feels_its_own_motion_in_its_own_axes() -> None:
    """Against the second difference of the sensor's place on a circle that is driven ever faster."""
    ahead, aside, turned, dt = 1.2, 0.7, 0.9, 1e-3
    radius, speed, gain = 12.0, 6.0, 1.5

    def sensor(t: float) -> complex:
        yaw = (speed * t + 0.5 * gain * t * t) / radius
        centre = -1j * radius * cmath.exp(1j * yaw)
        return centre + complex(ahead, aside) * cmath.exp(1j * yaw)

    in_map = (sensor(dt) - 2.0 * sensor(0.0) + sensor(-dt)) / dt**2
    expected = in_map * cmath.exp(-1j * turned)  # the yaw of the ego is 0 at t = 0
    state = ego(speed=speed, yaw_rate=speed / radius, acceleration=gain)
    forward, left, _ = imu_acceleration(state, ahead, aside, turned, gain / radius)
    assert (forward, left) == pytest.approx((expected.real, expected.imag), abs=1e-4)


def test_gnss_equals_carlas_own_library() -> None:
    carla = pytest.importorskip("carla")
    xml = (
        '<OpenDRIVE><header revMajor="1" revMinor="4"><geoReference>'
        "<![CDATA[+proj=tmerc +lat_0=49 +lon_0=8]]></geoReference></header>"
        '<road length="10" id="1" junction="-1"><planView><geometry s="0" x="0" y="0" hdg="0" length="10"><line/>'
        '</geometry></planView><lanes><laneSection s="0"><center><lane id="0" type="none"/></center><right>'
        '<lane id="-1" type="driving"><width sOffset="0" a="3" b="0" c="0" d="0"/></lane></right></laneSection></lanes>'
        "</road></OpenDRIVE>"
    )
    reference, theirs = GeoReference.from_opendrive(xml), carla.Map("m", xml)
    for x, y in ((0.0, 0.0), (120.0, 80.0), (-300.0, 500.0)):
        # This library's latitude grows with the location it is given; its GNSS sensor gives it -y (north is up).
        there = theirs.transform_to_geolocation(carla.Location(x, y, 0.0))
        assert reference.locate(x, y) == pytest.approx((there.latitude, there.longitude), abs=5e-6)


def test_north_is_up_and_the_default_reference_is_carlas() -> None:
    reference = GeoReference.from_opendrive("<OpenDRIVE/>")
    assert reference.locate(0.0, 0.0) == pytest.approx((42.0, 2.0))
    assert reference.locate(0.0, 111_000.0)[0] == pytest.approx(43.0, abs=0.02)
    assert reference.locate(10.0, 0.0)[1] > 2.0


def test_impulse_pushes_the_ego_back_and_is_zero_when_parting() -> None:
    still = objects((1, 0.0, 0.0))
    x, y = collision_impulse(ego(speed=6.0), 1500.0, still, 1)
    assert (x, y) == pytest.approx((-4500.0, 0.0))
    x, y = collision_impulse(ego(speed=6.0), 1500.0, objects((1, 9.0, 0.0)), 1)
    assert abs(x) == 0.0 and abs(y) == 0.0
