"""Two mismatch scores in, the part to repair out, with the reason in words.

The rule of AdaWM (PAPERS A5) with what its reviewers missed: a score that is not significantly above its baseline
asks for nothing, and the choice does not flip on noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from adawm_planner.adaptation.scores import Score
from adawm_planner.config.adaptation import SelectConfig


class Part(Enum):
    """What an update changes."""

    DYNAMICS = "dynamics"
    POLICY = "policy"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Selection:
    """A decision."""

    part: Part
    reason: str


@dataclass(frozen=True)
class Last:
    """What the step before repaired, and from which dynamics mismatch."""

    part: Part = Part.NOTHING
    dynamics: float = 0.0


def select_part(dynamics: Score, policy: Score, last: Last, config: SelectConfig) -> Selection:
    """Decide what to repair.

    Args:
        dynamics, policy: mismatch as an excess over the pretraining baseline, units as in `mismatch`.
        last: the step before; a part is given up for the other only when that wins by the hysteresis.
        config: C, significance, hysteresis and progress.

    Returns:
        Nothing when neither score is significant. The policy when the dynamics was repaired last and its mismatch has
        not fallen by the share `progress`: a new task may be harder to predict for good, and repairing the model for
        ever would leave the policy alone. Else the significant one when only one is, else the dynamics if its
        mismatch exceeds C times the policy's and the policy if not.
    """
    both = f"dynamics {dynamics}, policy {policy}"
    high = dynamics.significant(config.significance), policy.significant(config.significance)
    if high == (False, False):
        return Selection(Part.NOTHING, f"{both}: neither is {config.significance:g} standard errors above its baseline")
    limit = (1.0 - config.progress) * last.dynamics
    if last.part is Part.DYNAMICS and dynamics.value > limit:
        reason = f"{both}: repairing the dynamics left {dynamics.value:.4f} > {limit:.4f}, the rest is not the model's"
        return Selection(Part.POLICY, reason)
    if high == (True, False):
        return Selection(Part.DYNAMICS, f"{both}: only the dynamics is significantly above its baseline")
    if high == (False, True):
        return Selection(Part.POLICY, f"{both}: only the policy is significantly above its baseline")
    margin = {Part.DYNAMICS: 1.0 / (1.0 + config.hysteresis), Part.POLICY: 1.0 + config.hysteresis}.get(last.part, 1.0)
    limit = config.c * margin * policy.value
    part = Part.DYNAMICS if dynamics.value > limit else Part.POLICY
    sign = ">" if part is Part.DYNAMICS else "<="
    kept = "" if margin == 1.0 else f" (hysteresis for {last.part.value})"
    return Selection(part, f"{both}: {dynamics.value:.4f} {sign} C x policy = {limit:.4f}{kept}, both significant")
