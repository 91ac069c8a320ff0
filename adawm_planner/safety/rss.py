"""Speeds in, safe distances of Responsibility-Sensitive Safety out.

Formulas of Shalev-Shwartz, Shammah and Shashua 2017 (arXiv 1708.06374), definitions 1, 2 and 6, as ad-rss-lib
computes them (ad_rss/src/structured/RssFormulas.cpp): across, two who move apart need less than the fluctuation's
margin, where definition 6 adds all of it. Pure, for scalars and arrays alike.
"""

from __future__ import annotations

import numpy as np

from adawm_planner.data_types import Float64

Number = float | Float64


def stopping_distance(speed: Number, response_s: float, acceleration: float, brake: float) -> Number:
    """Distance [m] until standstill, for one who accelerates first and brakes then.

    Args:
        speed: at the start [m/s], not negative.
        response_s: duration of the acceleration [s].
        acceleration, brake: both positive [m/s2].
    """
    after = speed + response_s * acceleration
    return speed * response_s + 0.5 * acceleration * response_s**2 + after * after / (2.0 * brake)


def safe_distance_same_direction(
    rear: Number, front: Number, response_s: float, acceleration: float, brake_min: float, brake_max: float
) -> Number:
    """Gap [m] that a vehicle needs to one ahead which may brake with `brake_max` at any moment.

    Args:
        rear, front: speeds [m/s], not negative.
        response_s: of the rear vehicle [s], during which it may accelerate.
        acceleration, brake_min: of the rear vehicle [m/s2].
        brake_max: of the front vehicle [m/s2].
    """
    own = stopping_distance(rear, response_s, acceleration, brake_min)
    return np.maximum(own - front * front / (2.0 * brake_max), 0.0)


def safe_distance_opposite_direction(
    own: Number,
    other: Number,
    own_response_s: float,
    other_response_s: float,
    acceleration: float,
    own_brake: float,
    other_brake: float,
) -> Number:
    """Gap [m] that two vehicles need to stop before they meet.

    Args:
        own, other: speeds towards each other [m/s], not negative.
        own_response_s, other_response_s: [s].
        acceleration: of both during their response [m/s2].
        own_brake, other_brake: [m/s2]; the gentler one belongs to who keeps to his own side.
    """
    mine = stopping_distance(own, own_response_s, acceleration, own_brake)
    return mine + stopping_distance(other, other_response_s, acceleration, other_brake)


def safe_distance_lateral(
    own: Number,
    other: Number,
    own_response_s: float,
    other_response_s: float,
    acceleration: float,
    brake: float,
    margin: float,
) -> Number:
    """Gap [m] that two vehicles side by side need.

    Args:
        own, other: lateral speeds towards each other [m/s], negative when moving away.
        own_response_s, other_response_s: during which each accelerates towards the other [s].
        acceleration, brake: lateral, of both, positive [m/s2].
        margin: mean of both vehicles' lateral fluctuation [m].
    """
    nearer = _approach(own, own_response_s, acceleration, brake)
    nearer = nearer + _approach(other, other_response_s, acceleration, brake)
    return np.maximum(nearer + margin, 0.0)


def _approach(speed: Number, response_s: float, acceleration: float, brake: float) -> Number:
    """How far [m] one comes nearer while accelerating, then stopping his lateral motion; negative when moving away."""
    after = speed + response_s * acceleration
    return speed * response_s + 0.5 * acceleration * response_s**2 + after * np.abs(after) / (2.0 * brake)
