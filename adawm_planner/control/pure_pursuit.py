"""Vehicle and route in, steering command out: pure pursuit from the rear axle (Coulter 1992, CMU-RI-TR-92-01)."""

from __future__ import annotations

import math

import numpy as np

from adawm_planner.angles import wrap_angle
from adawm_planner.config.control import ControlConfig
from adawm_planner.data_types import EgoState, Route, VehicleInfo


def steering(ego: EgoState, route: Route, vehicle: VehicleInfo, s: float, config: ControlConfig) -> float:
    """Steering command (-1..1, positive = right) towards the route point one lookahead ahead of `s` [m]."""
    lookahead = min(max(config.lookahead_time * ego.speed, config.min_lookahead), config.max_lookahead)
    # The centre runs half a wheelbase ahead of the rear axle, so the target is measured from there too.
    target_s = s - 0.5 * vehicle.wheelbase + lookahead
    target_x, target_y = np.interp(target_s, route.s, route.x), np.interp(target_s, route.s, route.y)
    if target_s > route.length:
        beyond, yaw = target_s - route.length, float(route.yaw[-1])
        target_x, target_y = route.x[-1] + beyond * math.cos(yaw), route.y[-1] + beyond * math.sin(yaw)
    rear_x = ego.x - 0.5 * vehicle.wheelbase * math.cos(ego.yaw)
    rear_y = ego.y - 0.5 * vehicle.wheelbase * math.sin(ego.yaw)
    dx, dy = float(target_x) - rear_x, float(target_y) - rear_y
    bearing = wrap_angle(math.atan2(dy, dx) - ego.yaw)
    angle = math.atan2(2.0 * vehicle.wheelbase * math.sin(bearing), math.hypot(dx, dy))
    return min(max(-angle / vehicle.max_steer, -1.0), 1.0)
