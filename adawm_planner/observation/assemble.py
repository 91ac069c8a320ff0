"""Scene in, Observation out: the one place where what is known becomes what the world model sees.

Inputs are first rounded to steps far below any sensor's accuracy. A scene that crossed a topic (as
quaternions and vectors) then gives the same observation to the last bit as the one it was made from.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from adawm_planner.angles import wrap_angle
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import EgoState, Float32, Objects, Observation, Route, Scene
from adawm_planner.dims import BEV_SHAPE, STATE_FEATURES, STATE_LIMIT, STATE_SIZE
from adawm_planner.observation.bev import rasterise
from adawm_planner.observation.route import RouteProjection, project

_DIGITS = 5  # 10 micrometres, 10 microradians
_HALF_TURN = round(math.pi, _DIGITS)  # the rounded headings pi and -pi are one


def canonical(scene: Scene) -> Scene:
    """Round the moving parts of a scene to 1e-5 of their unit, headings into one turn; idempotent."""
    o = scene.objects
    yaw = wrap_angle(o.yaw)
    columns = np.round(np.stack([o.x, o.y, yaw, o.vx, o.vy, o.yaw_rate, o.length, o.width]), _DIGITS) + 0.0
    columns[2][columns[2] >= _HALF_TURN] = -_HALF_TURN
    return replace(scene, ego=canonical_ego(scene.ego), objects=Objects(o.id, *columns))


def canonical_ego(ego: EgoState) -> EgoState:
    """Round the ego's motion to 1e-5 of its units; adding 0.0 turns -0.0 into 0.0."""
    yaw = round(wrap_angle(ego.yaw), _DIGITS) + 0.0
    return EgoState(
        round(ego.x, _DIGITS) + 0.0,
        round(ego.y, _DIGITS) + 0.0,
        -_HALF_TURN if yaw >= _HALF_TURN else yaw,
        round(ego.speed, _DIGITS) + 0.0,
        round(ego.lateral_speed, _DIGITS) + 0.0,
        round(ego.yaw_rate, _DIGITS) + 0.0,
        round(ego.acceleration, _DIGITS) + 0.0,
    )


def observe(scene: Scene, last_acceleration: float, config: ObservationConfig) -> Observation:
    """Build the observation of one decision.

    Args:
        scene: all that is known at this frame.
        last_acceleration: target of the previous decision [m/s2], 0 at the first.
        config: ranges.

    Returns:
        BEV (C, H, W) uint8 and state (S,) float32, entries as dims.STATE_FEATURES.
    """
    scene = canonical(scene)
    projection = project(scene.route, scene.ego.x, scene.ego.y, scene.near)
    bev = rasterise(scene, projection, config)
    state = _state(scene, projection, last_acceleration)
    assert bev.shape == BEV_SHAPE and state.shape == (STATE_SIZE,), (bev.shape, state.shape)
    return Observation(bev, state)


def _state(scene: Scene, at: RouteProjection, last_acceleration: float) -> Float32:
    """State vector (S,), each entry scaled to about one as documented in dims.STATE_FEATURES."""
    ego, route = scene.ego, scene.route
    values = {
        "speed": ego.speed / 10.0,
        "acceleration": ego.acceleration / 4.0,
        "yaw_rate": ego.yaw_rate,
        "lateral_deviation": at.lateral / 2.0,
        "heading_error": wrap_angle(ego.yaw - at.yaw) / 0.5,
        "distance_to_bend": _distance_to_bend(route, at) / 40.0,
        "bend_progress": min(float(route.since_bend[at.index]) + at.s - float(route.s[at.index]), 40.0) / 40.0,
        "distance_to_goal": min(route.length - at.s, 60.0) / 60.0,
        "curvature_now": _curvature(route, at.s) / 0.2,
        "curvature_10m_ahead": _curvature(route, at.s + 10.0) / 0.2,
        "last_acceleration": last_acceleration / 4.0,
    }
    return np.array([values[name] for name in STATE_FEATURES], dtype=np.float32).clip(-STATE_LIMIT, STATE_LIMIT)


def _distance_to_bend(route: Route, at: RouteProjection) -> float:
    """Metres to the next bend, 0 inside one, at most 40."""
    behind = at.s - float(route.s[at.index])
    return min(max(float(route.to_bend[at.index]) - behind, 0.0), 40.0)


def _curvature(route: Route, s: float) -> float:
    return float(route.curvature[min(int(np.searchsorted(route.s, s)), len(route.s) - 1)])
