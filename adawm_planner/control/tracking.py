"""Target acceleration and scene in, Command out: runs at every frame, knows no traffic.

Steering is control/pure_pursuit.py's; the pedals are a feed-forward of the nominal vehicle under a speed governor
for bends and the end of the route.
"""

from __future__ import annotations

import math

import numpy as np

from adawm_planner.config.control import ControlConfig
from adawm_planner.control.pure_pursuit import steering
from adawm_planner.data_types import Command, Route, Scene
from adawm_planner.observation.assemble import canonical_ego
from adawm_planner.observation.route import project


def track(scene: Scene, acceleration: float, config: ControlConfig) -> Command:
    """Turn a target acceleration [m/s2] into the command of one frame.

    The values are rounded to single precision, as the message that carries them is.
    """
    ego, route = canonical_ego(scene.ego), scene.route
    s = project(route, ego.x, ego.y, scene.near).s
    allowed = config.governor_gain * (speed_limit(route, s, config) - ego.speed)
    throttle, brake = pedals(min(acceleration, allowed), ego.speed, config)
    steer = steering(ego, route, scene.vehicle, s, config)
    return Command(throttle=_single(throttle), steer=_single(steer), brake=_single(brake))


def _single(value: float) -> float:
    return float(np.float32(value))


def speed_limit(route: Route, s: float, config: ControlConfig) -> float:
    """Highest speed [m/s] at arc length `s` [m] from which every bend ahead and the end can be met.

    Looked at is what lies so far ahead that even a stop from the cruise speed ends before it: the first point farther
    away, and all behind it, limit nothing, however dense the route's points are.
    """
    reach = config.cruise_speed**2 / (2.0 * config.bend_deceleration)
    here, end = np.searchsorted(route.s, [s, s + reach])
    window = slice(max(int(here) - 1, 0), int(end) + 1)
    ahead = np.maximum(route.s[window] - s, 0.0)
    bend_squared = config.lateral_acceleration / np.maximum(np.abs(route.curvature[window]), 1e-3)
    limit_squared = float((bend_squared + 2.0 * config.bend_deceleration * ahead).min())
    end_squared = 2.0 * config.end_deceleration * max(route.length - s, 0.0)
    return min(config.cruise_speed, math.sqrt(limit_squared), math.sqrt(end_squared))


def pedals(acceleration: float, speed: float, config: ControlConfig) -> tuple[float, float]:
    """Throttle and brake (0..1 each) that give the nominal vehicle this acceleration [m/s2]."""
    if speed < config.standstill_speed and acceleration <= 0.0:
        return 0.0, config.hold_brake
    effort = acceleration + config.drag * speed * speed + config.rolling_deceleration
    if effort >= 0.0:
        return min(effort / config.throttle_acceleration, 1.0), 0.0
    return 0.0, min(-effort / config.brake_deceleration, 1.0)
