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


def select_part(dynamics: Score, policy: Score, last: Part, config: SelectConfig) -> Selection:
    """Decide what to repair, on rollouts that nothing was fitted to yet.

    Args:
        dynamics, policy: mismatch as an excess over the pretraining baseline, units as in `mismatch`.
        last: what was repaired first in the round before; it is given up for the other only when that wins by the
            hysteresis.
        config: C, significance and hysteresis.

    Returns:
        Nothing when neither score is significant, the significant one when only one is, else the dynamics if its
        mismatch exceeds C times the policy's and the policy if not.
    """
    both = f"dynamics {dynamics}, policy {policy}"
    high = dynamics.significant(config.significance), policy.significant(config.significance)
    if high == (False, False):
        return Selection(Part.NOTHING, f"{both}: neither is significantly above its baseline")
    if high == (True, False):
        return Selection(Part.DYNAMICS, f"{both}: only the dynamics is significantly above its baseline")
    if high == (False, True):
        return Selection(Part.POLICY, f"{both}: only the policy is significantly above its baseline")
    margin = {Part.DYNAMICS: 1.0 / (1.0 + config.hysteresis), Part.POLICY: 1.0 + config.hysteresis}.get(last, 1.0)
    limit = config.c * margin * policy.value
    part = Part.DYNAMICS if dynamics.value > limit else Part.POLICY
    sign = ">" if part is Part.DYNAMICS else "<="
    kept = "" if margin == 1.0 else f" (hysteresis for {last.value})"
    return Selection(part, f"{both}: {dynamics.value:.4f} {sign} C x policy = {limit:.4f}{kept}, both significant")


def select_next(dynamics: Score, policy: Score, repaired: Part, config: SelectConfig) -> Selection:
    """Decide what to repair after one part was, on the same rollouts.

    Args:
        dynamics, policy: as in `select_part`, measured with the repaired part; where that is the dynamics, its score is
            of data it was just fitted to.
        repaired: the part; not `NOTHING`.
        config: significance.

    Returns:
        The other part when its score is significant. The policy when repairing the dynamics left it significantly
        above its baseline: a new task may be harder to predict for good, and repairing the model for ever would leave
        the policy alone. The policy again when only it is significant. Else nothing.
    """
    both = f"{repaired.value} repaired, now dynamics {dynamics}, policy {policy}"
    wrong, unfit = dynamics.significant(config.significance), policy.significant(config.significance)
    if repaired is Part.POLICY and wrong:
        return Selection(Part.DYNAMICS, f"{both}: the dynamics is significantly above its baseline")
    if unfit:
        return Selection(Part.POLICY, f"{both}: the policy is significantly above its baseline")
    if wrong:
        return Selection(Part.POLICY, f"{both}: the dynamics stays above its baseline, the rest is not the model's")
    return Selection(Part.NOTHING, f"{both}: neither is significantly above its baseline")
