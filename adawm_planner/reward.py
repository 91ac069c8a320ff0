"""Reward of one frame: the same function scores the simulator and the vehicle.

The terms have the form of CarDreamer's reward (ucd-dare/CarDreamer, toolkit): progress along the route,
speed towards a target, a collision penalty growing with speed, lateral deviation, and the destination.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import EgoState, RewardTerms
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import RouteProjection

TOLERATED_LATERAL_M = 0.5


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the reward terms, per metre, second or event (CarDreamer's form, scaled by 1/20)."""

    progress_per_m: float = 0.02
    speed_per_s: float = 0.05
    collision: float = 1.5
    collision_per_mps: float = 0.05
    lateral_per_s: float = 0.5
    destination: float = 1.0
    target_speed: float = 8.0  # m/s

    def __post_init__(self) -> None:
        """Raises ValueError for a weight that is not finite or below 0, and for a target speed that is not above 0."""
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"reward.{name} is {value}, must be finite")
        if self.target_speed <= 0.0:
            raise ValueError(f"reward.target_speed is {self.target_speed} m/s, must be above 0")
        for name, value in vars(self).items():
            if value < 0.0:
                raise ValueError(f"reward.{name} is {value}, must be at least 0; penalties are positive numbers too")


def frame_reward(
    ego: EgoState,
    at: RouteProjection,
    advanced: float,
    collided: bool,
    arrived: bool,
    weights: RewardWeights,
) -> RewardTerms:
    """Score one frame.

    Args:
        at: where the ego is on its route.
        advanced: metres of route gained in this frame.
        collided, arrived: whether this frame ended in a collision or at the goal.
    """
    error = wrap_angle(ego.yaw - at.yaw)
    along, across = ego.speed * math.cos(error), abs(ego.speed * math.sin(error))
    target = weights.target_speed
    pace = (target - abs(target - along) - 2.0 * min(across, 0.5)) / target
    deviation = max(abs(at.lateral) - TOLERATED_LATERAL_M, 0.0)
    return RewardTerms(
        progress=weights.progress_per_m * advanced,
        speed=weights.speed_per_s * FRAME_S * pace,
        collision=-(weights.collision + weights.collision_per_mps * abs(ego.speed)) if collided else 0.0,
        lateral=-weights.lateral_per_s * FRAME_S * deviation,
        destination=weights.destination if arrived else 0.0,
    )
