"""The vehicle's own motion in, the path it makes out, and where others are along it.

The path is the circle of the present yaw rate: no plan is asked, so a bad one cannot hide an obstacle (as
Autoware's emergency braking does with the IMU's path). It begins along the velocity of the vehicle's centre, which in a
turn is not where the body points: the rear axle moves along the body, and the centre into the turn.
Coordinates: s along the path from the vehicle's centre, l to its left, both in metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import EgoState, Float64, Objects, VehicleInfo

STRAIGHT = 1e-4
"""Curvature below which the path counts as straight [1/m]: 1 cm off after 14 m."""

SLOWEST_MPS = 0.5
"""Speed below which yaw rate over speed says nothing about a path [m/s]."""


@dataclass(frozen=True)
class OwnPath:
    """Circle through the vehicle's centre."""

    curvature: float  # 1/m, left positive
    slip: float = 0.0  # rad, where the path begins relative to the body's heading, left positive

    def at(self, s: Float64) -> tuple[Float64, Float64, Float64]:
        """Poses of the body in the vehicle's frame [m, m, rad] at path lengths of any shape [m]."""
        k, cos, sin = self.curvature, math.cos(self.slip), math.sin(self.slip)
        if abs(k) < STRAIGHT:
            return s * cos, s * sin, np.zeros_like(s)
        x, y = np.sin(k * s) / k, (1.0 - np.cos(k * s)) / k
        return cos * x - sin * y, sin * x + cos * y, k * s


@dataclass(frozen=True)
class Others:
    """Other road users, in the vehicle's frame and along its path; arrays (N,)."""

    x: Float64  # m, forward of the vehicle's centre
    y: Float64  # m, left
    yaw: Float64  # rad, relative to the vehicle
    vx: Float64  # m/s, in the vehicle's axes, over ground
    vy: Float64  # m/s
    yaw_rate: Float64  # rad/s, over ground, left positive
    half_length: Float64  # m
    half_width: Float64  # m
    gap_ahead: Float64  # m along the path from bumper to bumper, negative beside and behind
    gap_beside: Float64  # m across the path, body to body, negative on the path
    turned: Float64  # rad, how far the path has turned there
    angle: Float64  # rad, heading relative to the path there, in [-pi, pi)
    along: Float64  # m/s along the path's direction there
    nearing: Float64  # m/s across the path, towards it


def own_path(ego: EgoState, vehicle: VehicleInfo) -> OwnPath:
    """Return the path of the present motion; it never turns or slips more than the steering allows."""
    if abs(ego.speed) < SLOWEST_MPS:
        return OwnPath(0.0)
    tightest, steepest = math.tan(vehicle.max_steer) / vehicle.wheelbase, vehicle.max_steer
    curvature, slip = ego.yaw_rate / ego.speed, math.atan(ego.lateral_speed / ego.speed)
    return OwnPath(min(max(curvature, -tightest), tightest), min(max(slip, -steepest), steepest))


def others_along(path: OwnPath, ego: EgoState, vehicle: VehicleInfo, objects: Objects) -> Others:
    """Place other road users along the path."""
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    dx, dy = objects.x - ego.x, objects.y - ego.y
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    vx, vy = cos * objects.vx + sin * objects.vy, cos * objects.vy - sin * objects.vx
    yaw = objects.yaw - ego.yaw
    s, left, turned = _project(path, x, y)
    heading = path.slip + turned
    angle = wrap_angle(yaw - heading)
    c, d = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    half_length, half_width = 0.5 * objects.length, 0.5 * objects.width
    along = vx * np.cos(heading) + vy * np.sin(heading)
    leftward = vy * np.cos(heading) - vx * np.sin(heading)
    return Others(
        x=x,
        y=y,
        yaw=yaw,
        vx=vx,
        vy=vy,
        yaw_rate=objects.yaw_rate,
        half_length=half_length,
        half_width=half_width,
        gap_ahead=s - 0.5 * vehicle.length - (c * half_length + d * half_width),
        gap_beside=np.abs(left) - 0.5 * vehicle.width - (c * half_width + d * half_length),
        turned=turned,
        angle=angle,
        along=along,
        nearing=-np.sign(left) * leftward,
    )


def _project(path: OwnPath, x: Float64, y: Float64) -> tuple[Float64, Float64, Float64]:
    """Path length, distance to the left, and turn of the path at the foot point."""
    cos, sin, k = math.cos(path.slip), math.sin(path.slip), path.curvature
    x, y = cos * x + sin * y, cos * y - sin * x
    if abs(k) < STRAIGHT:
        return x, y, np.zeros_like(x)
    side, radius = math.copysign(1.0, k), 1.0 / abs(k)
    inward = radius - side * y
    turned = np.arctan2(x, inward)
    return radius * turned, side * (radius - np.hypot(x, inward)), side * turned
