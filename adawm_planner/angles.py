"""Headings: into one turn, and out of a quaternion."""

from __future__ import annotations

import math
from typing import TypeVar

from adawm_planner.data_types import Float64

Angle = TypeVar("Angle", float, Float64)


def wrap_angle(angle: Angle) -> Angle:
    """The angle [rad], or each of an array, in [-pi, pi)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def yaw_of(x: float, y: float, z: float, w: float) -> float:
    """Turn about the vertical [rad], left positive, of a rotation's quaternion of any length but 0."""
    return math.atan2(2.0 * (w * z + x * y), w * w + x * x - y * y - z * z)
