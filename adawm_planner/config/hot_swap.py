"""Limits of a hot swap: how long a new adapter runs beside the live one, and how long it is watched afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.config.checks import above, share


@dataclass(frozen=True)
class SwapConfig:
    """Limits of shadow and probation; a value exactly at a limit passes."""

    shadow_decisions: int = 25  # decisions (0.2 s each) that a candidate runs beside the live one
    shadow_disagreement: float = 0.6  # share of the shadow decisions whose action may differ
    shadow_variation: float = 0.6  # mean total variation between the two action distributions
    shadow_violations: int = 0  # decisions on which only the candidate may break the following-distance rule
    probation_episodes: int = 10  # episodes at least before the adapter is committed
    probation_level: float = 0.05  # chance at most that an adapter as good as the record is rolled back
    probation_margin: float = 0.05  # loss of success rate that is not held against an adapter
    return_share: float = 0.5  # of the record's mean return, which an episode must reach to be a success
    episode_decisions: int = 3000  # decisions (0.2 s each) without an end that count as an episode that failed
    record_episodes: int = 10  # episodes before the planner's own record replaces `record_success`; the newest 2x count
    record_success: float = 0.8  # success rate that is asked for while there is no such record

    def __post_init__(self) -> None:
        above("swap", self, 0, "shadow_decisions", "probation_episodes", "record_episodes")
        above("swap", self, 0, "episode_decisions")
        above("swap", self, -1, "shadow_violations")
        share("swap", self, "shadow_disagreement", "shadow_variation")
        share("swap", self, "probation_margin", "return_share", "record_success")
        if not 0.0 < self.probation_level < 1.0:
            raise ValueError(f"swap.probation_level is {self.probation_level}, must be above 0 and below 1")
