"""Two mismatch scores and how driving ended in, the part to repair out, with the reason in words.

The rule of AdaWM (arXiv 2501.13072) and two things more: evidence that is not significant asks for nothing, and the
choice does not flip on noise. Where driving fails, the paper's rule chooses what goes first. Where it does not, the
policy is left alone whatever its score, which is mostly noise of its estimate: repairing a policy that drives well has
done harm (docs/experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from adawm_planner.adaptation.scores import Failures, Score
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
class Evidence:
    """What one look at some rollouts gave."""

    dynamics: Score  # mismatch as an excess over the pretraining baseline, units as in `mismatch`
    policy: Score
    failures: Failures  # of the same driving; no repair changes them

    def __str__(self) -> str:
        return f"dynamics {self.dynamics}, policy {self.policy}, {self.failures}"


def select_part(seen: Evidence, last: Part, config: SelectConfig) -> Selection:
    """Decide what to repair, on rollouts that nothing was fitted to yet.

    Args:
        seen: the evidence.
        last: what was repaired first in the round before; it is given up for the other only when that wins by the
            hysteresis.
        config: C, significance and hysteresis.

    Returns:
        Where driving does not fail significantly more often than at home: the dynamics if its score is significant,
        else nothing. Where it does: the dynamics if its mismatch exceeds C times the policy's, the policy if not.
    """
    if not seen.failures.significant(config.significance):
        if seen.dynamics.significant(config.significance):
            return Selection(Part.DYNAMICS, f"{seen}: only the dynamics is significantly above its baseline")
        return Selection(Part.NOTHING, f"{seen}: neither is significant")
    limit = config.c * _margin(seen.policy.value, last, config) * seen.policy.value
    part = Part.DYNAMICS if seen.dynamics.value > limit else Part.POLICY
    sign = ">" if part is Part.DYNAMICS else "<="
    kept = "" if last is Part.NOTHING or not config.hysteresis else f" (hysteresis for {last.value})"
    rule = f"{seen.dynamics.value:.4f} {sign} C x policy = {limit:.4f}{kept}"
    return Selection(part, f"{seen}: driving fails significantly, {rule}")


def _margin(policy: float, last: Part, config: SelectConfig) -> float:
    """What the policy's score is multiplied by, so that the part that was repaired before is not given up too soon.

    The limit falls for the dynamics and rises for the policy; a limit below zero falls by being multiplied by more.
    """
    if last is Part.NOTHING:
        return 1.0
    more = 1.0 + config.hysteresis
    return more if (last is Part.POLICY) == (policy > 0.0) else 1.0 / more


def select_next(seen: Evidence, repaired: Part, config: SelectConfig) -> Selection:
    """Decide what to repair after one part was, on the same rollouts.

    Args:
        seen: the evidence, scores measured with the repaired part; where that is the dynamics, its score is of data it
            was just fitted to.
        repaired: the part; not `NOTHING`.
        config: significance.

    Returns:
        The dynamics after the policy where its score is significant. Else the policy where driving failed
        significantly: it has not learned from the repaired model yet, or what it learned has not been driven yet, and
        only driving shows a recovery. Else nothing.
    """
    text = f"{repaired.value} repaired, now {seen}"
    if repaired is Part.POLICY and seen.dynamics.significant(config.significance):
        return Selection(Part.DYNAMICS, f"{text}: the dynamics is significantly above its baseline")
    if seen.failures.significant(config.significance):
        return Selection(Part.POLICY, f"{text}: driving failed significantly")
    return Selection(Part.NOTHING, f"{text}: nothing is left to repair")
