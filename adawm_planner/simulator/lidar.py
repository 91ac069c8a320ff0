"""A rotating lidar by ray casting: the pose of the sensor and the objects' boxes in, points out.

The world it sees is the ground plane and upright boxes. Every azimuth column is cut with every box once in
the plane; the channels of the column then see the box's side, its top, or pass over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from adawm_planner.data_types import EgoState, Float32, Float64, Objects

OBJECT_HEIGHT_M = 1.5
"""Height of every box [m]; SUMO's passenger car."""

ATTENUATION = 0.004
"""Intensity falls as exp(-ATTENUATION * range [m]), CARLA's default."""

MOST = {"channels": 512, "range": 1000.0, "mount_height": 500.0}
"""Field of LidarConfig -> largest value, in its unit."""

MOST_POINTS = 1_000_000
"""Rays of one turn; all of them are cast in one frame."""


@dataclass(frozen=True)
class LidarConfig:
    """One sensor; defaults are carla_spawn_objects' `lidar` entry."""

    channels: int = 32
    range: float = 50.0  # m
    points_per_second: int = 320_000
    rotation_frequency: float = 20.0  # Hz, one turn per frame
    upper_fov: float = 2.0  # deg
    lower_fov: float = -26.8  # deg
    mount_height: float = 2.4  # m above the ground

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise ValueError(f"lidar {field.name} is {value}, must be finite")
        for name in ("channels", "range", "points_per_second", "rotation_frequency", "mount_height"):
            if getattr(self, name) <= 0:
                raise ValueError(f"lidar {name} is {getattr(self, name)}, must be greater than 0")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"lidar {name} is {getattr(self, name)}, must be at most {most:g}")
        if self.points_per_second / self.rotation_frequency > MOST_POINTS:
            raise ValueError(
                f"lidar points_per_second / rotation_frequency is {self.points_per_second} / "
                f"{self.rotation_frequency:g}, must be at most {MOST_POINTS} points a turn"
            )
        if not -89.0 <= self.lower_fov <= self.upper_fov <= 89.0:
            raise ValueError(f"lidar field of view {self.lower_fov}..{self.upper_fov} deg must ascend within -89..89")

    @property
    def columns(self) -> int:
        """Azimuth steps of one turn."""
        return max(int(self.points_per_second / self.rotation_frequency / self.channels), 1)


def scan(sensor: EgoState, objects: Objects, config: LidarConfig) -> Float32:
    """Cast one full turn.

    The ego itself is not hit. Channels that meet nothing within the range give no point.

    Args:
        sensor: pose (m, rad, map frame) of the sensor, of the ego where it is mounted in its centre.
        objects: boxes on the ground, all OBJECT_HEIGHT_M high.

    Returns:
        Points (P, 4): x forward, y left, z up [m] in the sensor's frame, and intensity 0..1.
    """
    azimuth, slope = _directions(config.columns, config.channels, config.upper_fov, config.lower_fov)
    reach = _ground(slope, config.mount_height, len(azimuth))  # (columns, channels) m in the plane
    for i in _near(sensor, objects, config.range):
        entry, leave = _cut_footprint(azimuth, *_relative(sensor, objects, i))
        hit = np.flatnonzero(entry < leave)
        seen = _box_reach(entry[hit], leave[hit], slope, config.mount_height)
        reach[hit] = np.minimum(reach[hit], seen)
    return _points(reach, azimuth, slope, config.range)


@lru_cache(maxsize=8)
def _directions(columns: int, channels: int, upper: float, lower: float) -> tuple[Float64, Float64]:
    """Azimuths (columns,) [rad], left positive, and tangents of the elevations (channels,), top first."""
    azimuth: Float64 = np.arange(columns, dtype=np.float64) * (2.0 * math.pi / columns) - math.pi
    slope: Float64 = np.tan(np.radians(np.linspace(upper, lower, channels)))
    return azimuth, slope


def _ground(slope: Float64, height: float, columns: int) -> Float64:
    down = np.where(slope < 0.0, -height / np.minimum(slope, -1e-9), np.inf)
    return np.tile(down, (columns, 1))


def _near(sensor: EgoState, objects: Objects, reach: float) -> list[int]:
    distance = np.hypot(objects.x - sensor.x, objects.y - sensor.y)
    return [int(i) for i in np.flatnonzero(distance < reach + 0.5 * np.hypot(objects.length, objects.width))]


def _relative(sensor: EgoState, objects: Objects, i: int) -> tuple[float, float, float, float, float]:
    """Centre (x, y) [m] and heading [rad] of a box in the sensor's frame, and its half length and width [m]."""
    dx, dy = float(objects.x[i]) - sensor.x, float(objects.y[i]) - sensor.y
    cos, sin = math.cos(sensor.yaw), math.sin(sensor.yaw)
    yaw = float(objects.yaw[i]) - sensor.yaw
    return dx * cos + dy * sin, dy * cos - dx * sin, yaw, 0.5 * float(objects.length[i]), 0.5 * float(objects.width[i])


def _cut_footprint(
    azimuth: Float64, x: float, y: float, yaw: float, half_length: float, half_width: float
) -> tuple[Float64, Float64]:
    """Distances (columns,) [m] at which rays enter and leave a footprint; entry >= leave where they miss it."""
    turned = azimuth - yaw
    along, across = np.cos(turned), np.sin(turned)
    start_along = -(x * math.cos(yaw) + y * math.sin(yaw))
    start_across = x * math.sin(yaw) - y * math.cos(yaw)
    first_in, first_out = _slab(start_along, along, half_length)
    second_in, second_out = _slab(start_across, across, half_width)
    return np.maximum(np.maximum(first_in, second_in), 0.0), np.minimum(first_out, second_out)


def _slab(start: float, direction: Float64, half: float) -> tuple[Float64, Float64]:
    """Distances at which rays enter and leave the strip |position| <= half."""
    safe = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
    one, other = (-half - start) / safe, (half - start) / safe
    return np.minimum(one, other), np.maximum(one, other)


def _box_reach(entry: Float64, leave: Float64, slope: Float64, height: float) -> Float64:
    """Plane distance (columns, channels) [m] at which rays meet the box's side or top, inf where they do not."""
    z = height + entry[:, None] * slope[None, :]
    side = (z >= 0.0) & (z <= OBJECT_HEIGHT_M)
    falling = np.where(slope < 0.0, slope, -1e-9)
    on_top = np.broadcast_to((OBJECT_HEIGHT_M - height) / falling, z.shape)
    top = (z > OBJECT_HEIGHT_M) & (on_top <= leave[:, None]) & (slope < 0.0)[None, :]
    return np.where(side, entry[:, None], np.where(top, on_top, np.inf))


def _points(reach: Float64, azimuth: Float64, slope: Float64, limit: float) -> Float32:
    distance = reach * np.sqrt(1.0 + slope * slope)[None, :]
    column, channel = np.nonzero(distance <= limit)
    plane = reach[column, channel]
    points = np.empty((len(plane), 4), dtype=np.float32)
    points[:, 0] = plane * np.cos(azimuth[column])
    points[:, 1] = plane * np.sin(azimuth[column])
    points[:, 2] = plane * slope[channel]
    points[:, 3] = np.exp(-ATTENUATION * distance[column, channel])
    return points
