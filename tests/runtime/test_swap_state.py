"""Every stage against every step: what follows, and what is refused as a mistake."""

from __future__ import annotations

import pytest

from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.runtime.swap.state import FINAL, Stage, Step, Swap

REFUSAL = Refusal(Reason.SHADOW, "rule", "measured", "limit", "remedy")
PATH = [Stage.RECEIVED, Stage.VERIFIED, Stage.LOADED, Stage.PROBED, Stage.SHADOW, Stage.READY]
EXPECTED = {
    **{(PATH[k], Step.PASSED): PATH[k + 1] for k in range(5)},
    **{(stage, Step.FAILED): Stage.REFUSED for stage in PATH},
    (Stage.READY, Step.FLIPPED): Stage.PROBATION,
    (Stage.PROBATION, Step.PASSED): Stage.COMMITTED,
    (Stage.PROBATION, Step.FAILED): Stage.REVERTING,
    (Stage.REVERTING, Step.FLIPPED): Stage.ROLLED_BACK,
}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("step", Step)
def test_every_stage_and_step(stage: Stage, step: Step) -> None:
    swap, why = Swap("d", "policy", stage), REFUSAL if step is Step.FAILED else None
    if (stage, step) in EXPECTED:
        after = swap.after(step, why)
        assert after.stage is EXPECTED[stage, step] and after.refusal is why and after.digest == "d"
    else:
        with pytest.raises(ValueError, match=f"{stage.value} cannot have {step.value}"):
            swap.after(step, why)


def test_final_stages_lead_nowhere() -> None:
    assert not {stage for stage, _ in EXPECTED} & FINAL
    assert {stage for stage, _ in EXPECTED} | FINAL == set(Stage)


def test_a_failure_needs_a_reason_and_nothing_else_has_one() -> None:
    with pytest.raises(ValueError, match="must come with a reason"):
        Swap("d").after(Step.FAILED)
    with pytest.raises(ValueError, match="must come without a reason"):
        Swap("d").after(Step.PASSED, REFUSAL)


def test_the_reason_stays() -> None:
    swap = Swap("d", "policy", Stage.PROBATION).after(Step.FAILED, REFUSAL).after(Step.FLIPPED)
    assert swap.stage is Stage.ROLLED_BACK and swap.refusal is REFUSAL
