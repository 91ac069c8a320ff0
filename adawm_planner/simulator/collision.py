"""Oriented boxes in, overlap and time to collision out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adawm_planner.data_types import EgoState, Objects
from adawm_planner.observation.drivable import box_corners

HORIZON_S = 10.0
"""Time to collision beyond which there is no conflict [s]: nobody keeps velocity and heading for longer in town."""


def first_overlap(ego: EgoState, length: float, width: float, objects: Objects) -> int | None:
    """Id of the nearest object whose oriented box overlaps the ego's, or None.

    Args:
        length, width: of the ego [m].
    """
    if len(objects) == 0:
        return None
    distance = np.hypot(objects.x - ego.x, objects.y - ego.y)
    reach = 0.5 * (np.hypot(objects.length, objects.width) + math.hypot(length, width))
    for i in np.argsort(distance, kind="stable"):
        if distance[i] > reach[i]:
            if distance[i] > 20.0:
                break
            continue
        if _boxes_overlap(ego, length, width, objects, int(i)):
            return int(objects.id[i])
    return None


def _boxes_overlap(ego: EgoState, length: float, width: float, objects: Objects, i: int) -> bool:
    """Separating-axis test of two rectangles."""
    yaws = np.array([ego.yaw, objects.yaw[i]])
    corners = box_corners(
        np.array([ego.x, objects.x[i]]),
        np.array([ego.y, objects.y[i]]),
        yaws,
        np.array([length, objects.length[i]]),
        np.array([width, objects.width[i]]),
    )
    angles = np.concatenate([yaws, yaws + 0.5 * math.pi])
    axes = np.stack([np.cos(angles), np.sin(angles)])
    spans = corners @ axes  # (2, 4 corners, 4 axes)
    low, high = spans.min(axis=1), spans.max(axis=1)
    return bool((low[0] <= high[1]).all() and (low[1] <= high[0]).all())


def time_to_collision(ego: EgoState, length: float, width: float, objects: Objects) -> float:
    """Smallest time to collision with any object [s]: 0 where boxes overlap, infinite when none would within HORIZON_S.

    All keep their velocity and heading, so two boxes overlap from the moment on at which their shadows overlap on the
    last of the four directions of their sides (separating axes of moving boxes; Ericson, "Real-Time Collision
    Detection", 2004, 5.5.8).

    Args:
        length, width: of the ego [m].
    """
    if len(objects) == 0:
        return math.inf
    here = np.full(len(objects), ego.yaw)
    yaw = np.stack([here, here + 0.5 * math.pi, objects.yaw, objects.yaw + 0.5 * math.pi])  # (4 sides, N)
    ux, uy = np.cos(yaw), np.sin(yaw)
    apart = (objects.x - ego.x) * ux + (objects.y - ego.y) * uy
    speed = (objects.vx - ego.speed * math.cos(ego.yaw)) * ux + (objects.vy - ego.speed * math.sin(ego.yaw)) * uy
    reach = _half_shadow(yaw - ego.yaw, length, width) + _half_shadow(yaw - objects.yaw, objects.length, objects.width)
    moving = np.abs(speed) > 1e-9
    rate = np.where(moving, speed, 1.0)
    ends = np.stack([(-reach - apart) / rate, (reach - apart) / rate])
    always = np.abs(apart) <= reach
    begin = np.where(moving, ends.min(axis=0), np.where(always, -math.inf, math.inf)).max(axis=0)
    end = np.where(moving, ends.max(axis=0), math.inf).min(axis=0)
    meets = (begin <= end) & (end >= 0.0) & (begin <= HORIZON_S)
    return float(np.maximum(begin[meets], 0.0).min(initial=math.inf))


def _half_shadow(angle: np.ndarray, length: Any, width: Any) -> np.ndarray:
    """Half of what a box covers on directions at an angle [rad] to its heading [m]."""
    covered: np.ndarray = 0.5 * (length * np.abs(np.cos(angle)) + width * np.abs(np.sin(angle)))
    return covered
