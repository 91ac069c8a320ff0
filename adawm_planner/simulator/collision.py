"""Oriented boxes in, overlap and time to collision out."""

from __future__ import annotations

import math

import numpy as np

from adawm_planner.data_types import EgoState, Objects
from adawm_planner.observation.drivable import box_corners


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


def time_to_collision(ego: EgoState, length: float, objects: Objects) -> float:
    """Smallest time to collision with any object [s], infinite when nothing closes.

    Both keep their velocity; a conflict is a pair whose centres come nearer than a clearance that stands
    for both bodies, and the time is the distance to that clearance over the closing speed along the line
    between them at the moment of the conflict's start.
    """
    if len(objects) == 0:
        return math.inf
    clearance = 0.5 * (length + objects.length) * 0.6  # between half a width and half a length
    px, py = objects.x - ego.x, objects.y - ego.y
    vx = objects.vx - ego.speed * math.cos(ego.yaw)
    vy = objects.vy - ego.speed * math.sin(ego.yaw)
    # |p + v t| = clearance, smallest non-negative root
    a = vx * vx + vy * vy
    b = px * vx + py * vy
    c = px * px + py * py - clearance * clearance
    discriminant = b * b - a * c
    closing = (b < 0.0) & (discriminant > 0.0) & (a > 1e-9)
    if not closing.any():
        return math.inf
    roots = (-b[closing] - np.sqrt(discriminant[closing])) / a[closing]
    return float(np.maximum(roots, 0.0).min())
