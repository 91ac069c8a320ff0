"""What cannot be a decision is refused by field, value and limit; a seal sees every change."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_LIMIT, STATE_SIZE
from adawm_planner.finetuning.captured import LARGEST_REWARD, MOST_ADAPTERS, capture, is_unchanged
from tests.finetuning.decisions import ADAPTER, BASE, decision, experience

GOOD = experience(7)


def observed(**changes: Any) -> Experience:
    return replace(GOOD, observation=replace(GOOD.observation, **changes))


def acted(**changes: Any) -> Experience:
    return replace(GOOD, action=replace(GOOD.action, **changes))


def chances(*values: float) -> Experience:
    return acted(probabilities=np.array(values, np.float32))


STATE = GOOD.observation.state
BAD = {
    "bev": observed(bev=np.zeros((5, 32, 31), np.uint8)),
    "bev is": observed(bev=np.zeros(BEV_SHAPE, np.float32)),
    "state": observed(state=np.zeros(STATE_SIZE + 1, np.float32)),
    "state is": observed(state=np.where(np.arange(STATE_SIZE) == 3, np.nan, STATE).astype(np.float32)),
    "must be finite": observed(state=np.where(np.arange(STATE_SIZE) == 3, np.inf, STATE).astype(np.float32)),
    r"state is .*, each must be finite and within \+-5": observed(
        state=np.where(np.arange(STATE_SIZE) == 3, np.nextafter(np.float32(-5), np.float32(-6)), STATE).astype(
            np.float32
        )
    ),
    "action is 5, must be in 0..4": acted(index=ACTION_COUNT),
    "action is -1": acted(index=-1),
    "acceleration is 2.5, action 2 is 0.0": acted(acceleration=2.5),
    "acceleration is nan": acted(acceleration=math.nan),
    "action_probabilities is .4,.": chances(0.25, 0.25, 0.25, 0.25),
    "action_probabilities is .*nan": chances(0.1, 0.1, math.nan, 0.1, 0.1),
    "action_probabilities is .*-0.1": chances(0.5, -0.1, 0.5, 0.05, 0.05),
    "sum to 0.900000, must be 1 within 0.001": chances(0.1, 0.1, 0.5, 0.1, 0.1),
    r"action_probabilities\[2\] is 0": chances(0.5, 0.5, 0.0, 0.0, 0.0),
    "value is nan": replace(GOOD, value=math.nan),
    "value is inf": replace(GOOD, value=math.inf),
    "value is 1e[+]39": replace(GOOD, value=1e39),
    "reward_progress is nan": replace(GOOD, reward=RewardTerms(progress=math.nan)),
    "reward_destination is inf": replace(GOOD, reward=RewardTerms(destination=math.inf)),
    r"reward_lateral is -100.1, must be finite and within \+-100": replace(GOOD, reward=RewardTerms(lateral=-100.1)),
    r"the sum of all rewards is 120.0, must be within \+-100": replace(
        GOOD, reward=RewardTerms(progress=60.0, destination=60.0)
    ),
    "reward_speed is 0.1 where is_first": replace(GOOD, is_first=True, reward=RewardTerms(speed=0.1)),
    "is_terminal": replace(GOOD, is_terminal=True),
    "sequence is -1": replace(GOOD, sequence=-1),
    "episode is 9223372036854775808": replace(GOOD, episode=2**63),
    "intervention is 'Jerk'": replace(GOOD, intervention="Jerk"),
    "intervention is 'a;b'": replace(GOOD, intervention="a;b"),
    "header.stamp is nan": replace(GOOD, stamp_s=math.nan),
    "header.stamp is -0.2": replace(GOOD, stamp_s=-0.2),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_a_decision_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        capture(BAD[reason], BASE, 1.5)


def test_what_is_clipped_may_be_at_its_limit() -> None:
    at_limit = np.where(np.arange(STATE_SIZE) % 2 == 0, STATE_LIMIT, -STATE_LIMIT).astype(np.float32)
    capture(observed(state=at_limit), BASE, 1.5)
    capture(replace(GOOD, reward=RewardTerms(progress=LARGEST_REWARD)), BASE, 1.5)


@pytest.mark.parametrize(
    ("base", "adapters", "latency", "reason"),
    [
        ("", (), 1.0, "base_digest is ''"),
        ("B" * 64, (), 1.0, "base_digest"),
        (BASE, (ADAPTER, "x"), 1.0, "adapter_digests holds 'x'"),
        (BASE, (ADAPTER,) * (MOST_ADAPTERS + 1), 1.0, "adapter_digests has 9 entries, must have at most 8"),
        (BASE, (), -1.0, "decision_latency_ms is -1.0"),
        (BASE, (), math.nan, "decision_latency_ms is nan"),
    ],
)
def test_unknown_origin_is_refused(base: str, adapters: tuple[str, ...], latency: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        capture(replace(GOOD, adapter_digests=adapters), base, latency)


CHANGED: dict[str, Any] = {
    "stamp_s": 1e-9,
    "sequence": 8,
    "episode": 1,
    "observation": Observation(GOOD.observation.bev ^ 1, STATE),
    "action": Action(
        GOOD.action.index, GOOD.action.acceleration, np.nextafter(GOOD.action.probabilities, np.float32(1))
    ),
    "value": 0.25,
    "reward": RewardTerms(progress=0.125, speed=0.25),
    "is_first": True,
    "is_last": True,
    "is_terminal": True,
    "adapter_digests": (ADAPTER,),
    "intervention": "jerk",
}


def test_a_seal_sees_a_change_of_any_field() -> None:
    one = decision(7)
    assert is_unchanged(one)
    assert set(CHANGED) == {field.name for field in fields(Experience)}
    for name, value in CHANGED.items():
        assert not is_unchanged(replace(one, experience=replace(GOOD, **{name: value}))), name
    for name, value in {"base_digest": "c" * 64, "latency_ms": 2.0}.items():
        assert not is_unchanged(replace(one, **{name: value})), name
