"""Others along the own path in, what Responsibility-Sensitive Safety says to them out.

Looks at vehicles ahead that move along the path, either way. A situation is dangerous only where the distances
along and across the path are both unsafe; the proper response then is to brake (RSS definitions 8 to 10).
Crossing traffic has no longitudinal distance: safety/braking.py looks at it.
"""

from __future__ import annotations

import numpy as np

from adawm_planner.config.gate import RssLimits
from adawm_planner.data_types import Float64, Int64
from adawm_planner.safety.braking import Bools
from adawm_planner.safety.own_path import Others
from adawm_planner.safety.rss import (
    safe_distance_lateral,
    safe_distance_opposite_direction,
    safe_distance_same_direction,
)
from adawm_planner.safety.verdict import Rule, Verdict


def judge_following(speed: float, others: Others, met: Bools, ids: Int64, limits: RssLimits) -> list[Verdict]:
    """Return a verdict for each direction in which a distance is unsafe: the one that lacks most.

    Args:
        speed: of the own vehicle [m/s].
        others: along its path (N,).
        met: who of them is met on it if both go on (N,).
        ids: of the others (N,).
    """
    own = max(speed, 0.0)
    # A circle is a guess of the own lane only for as long as it has not turned far.
    ahead = (others.gap_ahead > 0.0) & (np.abs(others.turned) <= limits.turned_rad)
    ahead &= others.gap_beside < _lateral(others, limits)
    same = ahead & (np.abs(others.angle) <= limits.aligned_rad)
    # A circle that only touches the other lane meets nobody there.
    opposite = ahead & met & (np.abs(others.angle) >= np.pi - limits.aligned_rad)
    leading, oncoming = np.maximum(others.along, 0.0), np.maximum(-others.along, 0.0)
    needed = np.asarray(
        safe_distance_same_direction(
            own, leading, limits.response_s, limits.acceleration_mps2, limits.brake_min_mps2, limits.brake_max_mps2
        )
    )
    apart = np.asarray(
        safe_distance_opposite_direction(
            own,
            oncoming,
            limits.response_s,
            limits.other_response_s,
            limits.acceleration_mps2,
            limits.brake_min_mps2,
            limits.brake_correct_mps2,
        )
    )
    rows = ((Rule.RSS_SAME_DIRECTION, same, needed), (Rule.RSS_OPPOSITE_DIRECTION, opposite, apart))
    verdicts = []
    for rule, considered, safe in rows:
        lacking = np.where(considered, safe - others.gap_ahead, 0.0)
        if lacking.max(initial=0.0) > 0.0:
            i = int(np.argmax(lacking))
            about = f"object {ids[i]}"
            verdicts.append(Verdict(rule, float(others.gap_ahead[i]), float(safe[i]), limits.brake_min_mps2, about))
    return verdicts


def _lateral(others: Others, limits: RssLimits) -> Float64:
    """Unsafe distance across the path for each of the others (N,) [m]; the path itself does not move sideways."""
    return np.asarray(
        safe_distance_lateral(
            0.0,
            others.nearing,
            limits.response_s,
            limits.other_response_s,
            limits.lateral_acceleration_mps2,
            limits.lateral_brake_mps2,
            limits.lateral_margin_m,
        )
    )
