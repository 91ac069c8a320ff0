"""What small sensors measure, from poses alone: motion of the others, IMU, GNSS, collision impulse.

World frames in, plain numbers out in ROS axes; the ROS side puts them into messages.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from adawm_planner.data_types import EgoState, Float64, Int64, Objects
from adawm_planner.simulator.vehicle import GRAVITY

EARTH_RADIUS_M = 6_378_137.0
OTHER_MASS_KG = 1500.0
"""Mass of the other vehicle in a collision impulse [kg]."""


@dataclass(frozen=True)
class ObjectMotion:
    """What a tracker adds to Objects; arrays of equal length N, in the order of the objects."""

    ax: Float64  # m/s2, map axes
    ay: Float64  # m/s2, map axes
    age: Int64  # frames seen, 1 at the first


class MotionTracker:
    """Differences between consecutive frames, by id; zero for an object's first frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all objects, as at the start of an episode."""
        self._before: dict[int, tuple[float, float, int]] = {}

    def step(self, objects: Objects, dt: float) -> ObjectMotion:
        """Take the next frame, `dt` [s] after the last one."""
        rows = np.zeros((len(objects), 3))
        now: dict[int, tuple[float, float, int]] = {}
        columns = (objects.id.tolist(), objects.vx.tolist(), objects.vy.tolist())
        for i, (number, vx, vy) in enumerate(zip(*columns, strict=True)):
            old_vx, old_vy, age = self._before.get(number, (vx, vy, 0))
            rows[i] = (vx - old_vx) / dt, (vy - old_vy) / dt, age + 1
            now[number] = vx, vy, age + 1
        self._before = now
        return ObjectMotion(rows[:, 0], rows[:, 1], rows[:, 2].astype(np.int64))


def map_acceleration(ego: EgoState) -> tuple[float, float]:
    """Change of the ego's velocity (ax, ay) [m/s2] in map axes, without gravity."""
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    sideways = ego.speed * ego.yaw_rate
    return ego.acceleration * cos - sideways * sin, ego.acceleration * sin + sideways * cos


def imu_acceleration(
    ego: EgoState, ahead: float, left: float, turned: float, yaw_acceleration: float
) -> tuple[float, float, float]:
    """Specific force [m/s2] felt by a level sensor, in its axes; at rest it points up with gravity.

    Args:
        ahead: m, of the centre.
        left: m, of the centre.
        turned: rad, from the body's axes to the sensor's, left positive.
        yaw_acceleration: rad/s2, left positive.
    """
    square = ego.yaw_rate * ego.yaw_rate
    along = ego.acceleration - square * ahead - yaw_acceleration * left
    across = ego.speed * ego.yaw_rate + yaw_acceleration * ahead - square * left
    cos, sin = math.cos(turned), math.sin(turned)
    return along * cos + across * sin, across * cos - along * sin, GRAVITY


@dataclass(frozen=True)
class GeoReference:
    """Where the map's origin lies; the default is CARLA's for a map that does not say."""

    latitude: float = 42.0  # deg
    longitude: float = 2.0  # deg

    @staticmethod
    def from_opendrive(xml: str) -> GeoReference:
        """Read +lat_0 and +lon_0 of the map's geoReference."""
        header = re.search(r"<geoReference>(.*?)</geoReference>", xml[:10_000], re.DOTALL)
        text = header.group(1) if header else ""
        found = {name: re.search(rf"\+{name}=(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)", text) for name in ("lat_0", "lon_0")}
        latitude, longitude = found["lat_0"], found["lon_0"]
        if latitude is None or longitude is None:
            return GeoReference()
        return GeoReference(float(latitude.group(1)), float(longitude.group(1)))

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """Latitude and longitude [deg] of a position [m, map]; x is east, y is north.

        Mercator scaled at the reference, CARLA's own approximation (LibCarla, geom/GeoLocation.cpp).
        """
        radius = EARTH_RADIUS_M * math.cos(math.radians(self.latitude))
        east = radius * math.radians(self.longitude) + x
        north = radius * math.log(math.tan(math.radians(90.0 + self.latitude) / 2.0)) + y
        latitude = math.degrees(2.0 * math.atan(math.exp(north / radius))) - 90.0
        return latitude, math.degrees(east / radius)


def collision_impulse(ego: EgoState, mass: float, objects: Objects, other_id: int) -> tuple[float, float]:
    """Impulse on the ego (x, y) [N s, map axes] of a plastic collision of two point masses.

    An estimate: the world has no contact mechanics. It points from the other's centre to the ego's and is
    zero when the two are not closing.

    Args:
        mass: of the ego [kg].
        other_id: which of the objects was hit.
    """
    (i,) = np.flatnonzero(objects.id == other_id)[:1]
    dx, dy = ego.x - float(objects.x[i]), ego.y - float(objects.y[i])
    distance = max(math.hypot(dx, dy), 1e-6)
    dx, dy = dx / distance, dy / distance
    vx = ego.speed * math.cos(ego.yaw) - float(objects.vx[i])
    vy = ego.speed * math.sin(ego.yaw) - float(objects.vy[i])
    closing = max(-(vx * dx + vy * dy), 0.0)
    impulse = closing * mass * OTHER_MASS_KG / (mass + OTHER_MASS_KG)
    return impulse * dx, impulse * dy
