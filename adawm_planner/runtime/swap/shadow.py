"""A candidate's answers beside the live one's in, a verdict out. The live one drives all the while."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.data_types import PolicyOutput, Scene
from adawm_planner.dims import ACCELERATION_BINS, DECISION_S
from adawm_planner.observation.route import project
from adawm_planner.runtime.drive_step import Decision

BRAKING_MPS2 = 4.0
"""What the ego can rely on, and what a leading vehicle is taken to brake with [m/s2]."""

CLEARANCE_M = 0.3
"""Lateral distance of two bodies below which the other one is in the ego's way [m]."""

REMEDY = "The live adapter drives on; look at the rollouts it was made from, or adapt with a smaller step"


@dataclass(frozen=True)
class ShadowCounts:
    """What was seen so far."""

    decisions: int = 0
    disagreements: int = 0  # decisions with another action
    variation: float = 0.0  # sum of total variations between the two distributions
    violations: int = 0  # decisions on which only the candidate breaks the following-distance rule
    not_finite: int = 0  # decisions with NaN or infinity in the candidate's output

    def add(self, live: Decision, candidate: PolicyOutput, scene: Scene | None) -> ShadowCounts:
        """Count one more decision of both; without a scene the following distance is not judged."""
        theirs = candidate.probabilities
        if not (np.isfinite(theirs).all() and np.isfinite(candidate.value)):
            return replace(self, decisions=self.decisions + 1, not_finite=self.not_finite + 1)
        index, ours = int(np.argmax(theirs)), live.action.acceleration
        # What the live one would break as well is the scene's fault, not the candidate's.
        breaks = (
            scene is not None
            and ACCELERATION_BINS[index] > ours
            and too_close(scene, ACCELERATION_BINS[index])
            and not too_close(scene, ours)
        )
        return ShadowCounts(
            self.decisions + 1,
            self.disagreements + (index != live.action.index),
            self.variation + 0.5 * float(np.abs(theirs - live.action.probabilities).sum()),
            self.violations + breaks,
            self.not_finite,
        )


def verdict(counts: ShadowCounts, config: SwapConfig) -> Refusal | None:
    """Why a candidate must not drive, None while nothing is against it. Shares are judged once all decisions are in."""
    if counts.not_finite:
        return _refusal("outputs must be finite", f"{counts.not_finite} that are not", "none")
    if counts.violations > config.shadow_violations:
        return _refusal(
            "following distances must be kept where the live one keeps them",
            f"{counts.violations} violations",
            str(config.shadow_violations),
        )
    if counts.decisions < config.shadow_decisions:
        return None
    for name, found, limit in (
        ("actions must mostly agree with the live one's", counts.disagreements, config.shadow_disagreement),
        ("distributions must be near the live one's", counts.variation, config.shadow_variation),
    ):
        if found / counts.decisions > limit:
            return _refusal(name, f"{found / counts.decisions:.3f} over {counts.decisions} decisions", f"{limit:g}")
    return None


def _refusal(rule: str, measured: str, limit: str) -> Refusal:
    return Refusal(Reason.SHADOW, f"in shadow, {rule}", measured, limit, REMEDY)


def too_close(scene: Scene, acceleration: float) -> bool:
    """Whether a vehicle ahead on the ego's way could not be avoided by braking after one decision with an acceleration.

    The longitudinal safe distance of Shalev-Shwartz et al., "On a Formal Model of Safe and Scalable Self-driving Cars"
    (2017), definition 1, with one decision as the response time. Only vehicles whose bodies now overlap with the ego's
    path along the route count; crossing traffic that is not there yet is the policy's and the gate's to see.

    Args:
        scene: of the decision.
        acceleration: of the ego until the next decision [m/s2].
    """
    ego, others, vehicle = scene.ego, scene.objects, scene.vehicle
    start = project(scene.route, ego.x, ego.y, scene.near)
    speed = max(ego.speed, 0.0)
    after = max(speed + DECISION_S * acceleration, 0.0)
    stopping = 0.5 * (speed + after) * DECISION_S + after**2 / (2.0 * BRAKING_MPS2)
    for k in range(len(others.id)):
        at = project(scene.route, float(others.x[k]), float(others.y[k]), start.index)
        gap = at.s - start.s - 0.5 * (vehicle.length + float(others.length[k]))
        beside = abs(at.lateral - start.lateral) - 0.5 * (vehicle.width + float(others.width[k]))
        if at.s <= start.s or beside > CLEARANCE_M:
            continue
        along = max(float(others.vx[k]) * np.cos(at.yaw) + float(others.vy[k]) * np.sin(at.yaw), 0.0)
        if gap < stopping - along**2 / (2.0 * BRAKING_MPS2):
            return True
    return False
