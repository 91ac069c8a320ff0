"""One decision as it came over the wire, judged once and sealed: what is stored and trained on is what happened.

`ros/experience_input` makes these from messages, `replay_store` keeps them, `episodes` cuts them into episodes.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import astuple, dataclass

import numpy as np

from adawm_planner.data_types import Experience
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, BEV_SHAPE, STATE_LIMIT, STATE_SIZE

PROBABILITY_ERROR = 1e-3
"""How far the probabilities' sum may be from 1: far above single precision, far below any distribution's meaning."""

MOST_ADAPTERS = 8
"""Adapters that may be active at once."""

LARGEST_REWARD = 100.0
"""Absolute value of a reward term, and of all together: far above what a vehicle earns between two decisions, which is
5 km of its route, and far below what would spoil a mean."""

_LARGEST = float(np.finfo(np.float32).max)
_COUNT_END = 2**63
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RULE = re.compile(r"[a-z_]{0,64}")
_FIXED = struct.Struct("<dqqH7fBf")


@dataclass(frozen=True)
class Captured:
    """One decision, who made it, and the seal over both."""

    experience: Experience  # numbers as the wire has them: single precision, the stamp double
    base_digest: str  # sha256 of the base model, hex
    latency_ms: float  # newest input's arrival to action
    seal: bytes  # (32,) sha256 over all of the above, taken at capture

    @property
    def adapter_digests(self) -> tuple[str, ...]:
        """The adapter bundles that decided with the base model."""
        return self.experience.adapter_digests


def capture(experience: Experience, base_digest: str, latency_ms: float) -> Captured:
    """Judge and seal a decision.

    Raises:
        ValueError: a value cannot be a decision of this planner; names the field of adawm_msgs/Experience, the value
            and the limit.
    """
    check(experience, base_digest, latency_ms)
    return Captured(experience, base_digest, latency_ms, seal(experience, base_digest, latency_ms))


def check(experience: Experience, base_digest: str, latency_ms: float) -> None:
    """Judge a decision. Raises ValueError as `capture`."""
    _check_observation(experience)
    _check_decision(experience)
    _check_outcome(experience)
    _check_counts(experience)
    _check_origin(base_digest, experience.adapter_digests)
    if not _RULE.fullmatch(experience.intervention):
        raise ValueError(f"intervention is '{experience.intervention[:80]}', must be the name of a rule, or empty")
    if not 0.0 <= latency_ms <= _LARGEST:
        raise ValueError(f"decision_latency_ms is {latency_ms}, must be finite and at least 0")


def is_unchanged(one: Captured) -> bool:
    """Whether a decision is still what was captured."""
    return one.seal == seal(one.experience, one.base_digest, one.latency_ms)


def seal(one: Experience, base_digest: str, latency_ms: float) -> bytes:
    """sha256 (32,) over every value in its precision on the wire.

    All arrays have fixed sizes (`capture` checks them), so no two decisions share the same bytes.
    """
    flags = one.is_first | one.is_last << 1 | one.is_terminal << 2
    total = hashlib.sha256(
        _FIXED.pack(
            one.stamp_s,
            one.sequence,
            one.episode,
            one.action.index,
            one.action.acceleration,
            one.value,
            *astuple(one.reward),
            flags,
            latency_ms,
        )
    )
    total.update(one.observation.bev.tobytes())
    total.update(one.observation.state.tobytes())
    total.update(one.action.probabilities.tobytes())
    total.update(",".join((base_digest, *one.adapter_digests)).encode())
    if one.intervention:  # only then, so that what was sealed before there was a gate keeps its seal
        total.update(b";" + one.intervention.encode())
    return total.digest()


def _check_observation(one: Experience) -> None:
    bev, state = one.observation.bev, one.observation.state
    if bev.shape != BEV_SHAPE or bev.dtype != np.uint8:
        raise ValueError(f"bev is {bev.shape} {bev.dtype}, must be {BEV_SHAPE} uint8")
    if state.shape != (STATE_SIZE,) or state.dtype != np.float32:
        raise ValueError(f"state is {state.shape} {state.dtype}, must be ({STATE_SIZE},) float32")
    if not (np.abs(state) <= STATE_LIMIT).all():  # NaN is not
        raise ValueError(f"state is {state.tolist()}, each must be finite and within +-{STATE_LIMIT:g}")


def _check_decision(one: Experience) -> None:
    index, probabilities = one.action.index, one.action.probabilities
    if not 0 <= index < ACTION_COUNT:
        raise ValueError(f"action is {index}, must be in 0..{ACTION_COUNT - 1}")
    if not abs(one.action.acceleration - ACCELERATION_BINS[index]) <= 1e-6:
        raise ValueError(
            f"acceleration is {one.action.acceleration}, action {index} is {ACCELERATION_BINS[index]} m/s2"
        )
    if probabilities.shape != (ACTION_COUNT,) or probabilities.dtype != np.float32:
        raise ValueError(
            f"action_probabilities is {probabilities.shape} {probabilities.dtype}, must be ({ACTION_COUNT},) float32"
        )
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise ValueError(f"action_probabilities is {probabilities.tolist()}, each must be in 0..1")
    total = float(probabilities.sum(dtype=np.float64))
    if not abs(total - 1.0) <= PROBABILITY_ERROR:
        raise ValueError(f"action_probabilities sum to {total:.6f}, must be 1 within {PROBABILITY_ERROR:g}")
    if probabilities[index] == 0.0:
        raise ValueError(f"action_probabilities[{index}] is 0 for the action that was taken, must be above 0")
    if not abs(one.value) <= _LARGEST:
        raise ValueError(f"value is {one.value}, must be finite")


def _check_outcome(one: Experience) -> None:
    for name, term in vars(one.reward).items():
        if not abs(term) <= LARGEST_REWARD:
            raise ValueError(f"reward_{name} is {term}, must be finite and within +-{LARGEST_REWARD:g}")
        if one.is_first and term != 0.0:
            raise ValueError(f"reward_{name} is {term} where is_first is set, must be 0: nothing was done before it")
    if not abs(one.reward.total) <= LARGEST_REWARD:
        raise ValueError(f"the sum of all rewards is {one.reward.total}, must be within +-{LARGEST_REWARD:g}")
    if one.is_terminal and not one.is_last:
        raise ValueError("is_terminal is set without is_last, must be set with it")


def _check_counts(one: Experience) -> None:
    for name, count in (("sequence", one.sequence), ("episode", one.episode)):
        if not 0 <= count < _COUNT_END:
            raise ValueError(f"{name} is {count}, must be in 0..{_COUNT_END - 1}")
    if not 0.0 <= one.stamp_s <= _LARGEST:
        raise ValueError(f"header.stamp is {one.stamp_s} s, must be finite and at least 0")


def _check_origin(base_digest: str, adapter_digests: tuple[str, ...]) -> None:
    if not _SHA256.fullmatch(base_digest):
        raise ValueError(f"base_digest is '{base_digest[:80]}', must be 64 hexadecimal digits")
    if len(adapter_digests) > MOST_ADAPTERS:
        raise ValueError(f"adapter_digests has {len(adapter_digests)} entries, must have at most {MOST_ADAPTERS}")
    for digest in adapter_digests:
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"adapter_digests holds '{digest[:80]}', must be 64 hexadecimal digits each")
