"""Events of one swap in, the stage it is in out. Pure: what each stage does is hot_swap.py's.

received -> verified -> loaded -> probed -> shadow -> ready -> probation -> committed
    \\__________\\_________\\________\\________\\_______\\-> refused      \\-> reverting -> rolled_back
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from adawm_planner.adapters.refusal import Refusal


class Stage(Enum):
    """How far a bundle has come; values are stable, for messages and logs."""

    RECEIVED = "received"
    VERIFIED = "verified"  # every rule of the bundle holds
    LOADED = "loaded"  # beside the live adapters
    PROBED = "probed"  # acts here as where it was made
    SHADOW = "shadow"  # runs beside the live one, which drives
    READY = "ready"  # drives as soon as it may
    PROBATION = "probation"  # drives, and is watched
    REVERTING = "reverting"  # drives until the last good one may
    COMMITTED = "committed"  # comes back after a restart
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


class Step(Enum):
    """What happened to it."""

    PASSED = "passed"  # the stage's check
    FLIPPED = "flipped"  # the planner drives with another engine now
    FAILED = "failed"  # with a refusal


FINAL = frozenset({Stage.COMMITTED, Stage.ROLLED_BACK, Stage.REFUSED})
"""Nothing follows them."""

TRANSITIONS = {
    (Stage.RECEIVED, Step.PASSED): Stage.VERIFIED,
    (Stage.VERIFIED, Step.PASSED): Stage.LOADED,
    (Stage.LOADED, Step.PASSED): Stage.PROBED,
    (Stage.PROBED, Step.PASSED): Stage.SHADOW,
    (Stage.SHADOW, Step.PASSED): Stage.READY,
    (Stage.READY, Step.FLIPPED): Stage.PROBATION,
    (Stage.PROBATION, Step.PASSED): Stage.COMMITTED,
    (Stage.PROBATION, Step.FAILED): Stage.REVERTING,
    (Stage.REVERTING, Step.FLIPPED): Stage.ROLLED_BACK,
    **{
        (stage, Step.FAILED): Stage.REFUSED
        for stage in (Stage.RECEIVED, Stage.VERIFIED, Stage.LOADED, Stage.PROBED, Stage.SHADOW, Stage.READY)
    },
}
"""Everything else is a mistake of the caller."""


@dataclass(frozen=True)
class Swap:
    """One bundle on its way."""

    digest: str
    part: str = ""  # empty until it is verified
    stage: Stage = Stage.RECEIVED
    refusal: Refusal | None = None  # why it was refused or rolled back

    def after(self, step: Step, refusal: Refusal | None = None) -> Swap:
        """The swap after one more step.

        Args:
            refusal: why, for FAILED and for nothing else.

        Raises:
            ValueError: the step cannot follow, or a reason is missing or out of place.
        """
        stage = TRANSITIONS.get((self.stage, step))
        if stage is None:
            raise ValueError(f"a swap that is {self.stage.value} cannot have {step.value}")
        if (refusal is not None) != (step is Step.FAILED):
            raise ValueError(f"{step.value} must come {'with' if step is Step.FAILED else 'without'} a reason")
        return replace(self, stage=stage, refusal=refusal or self.refusal)
