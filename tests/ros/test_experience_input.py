"""Decisions survive the message bit for bit; a malformed message is refused by field, value and limit."""

from __future__ import annotations

import array
import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")

from adawm_msgs.msg import Experience as ExperienceMessage
from rclpy.serialization import deserialize_message, serialize_message

from adawm_planner.data_types import Action, Observation, RewardTerms
from adawm_planner.dims import ACCELERATION_BINS, BEV_SHAPE, STATE_SIZE
from adawm_planner.finetuning.captured import capture
from adawm_planner.observation.packing import BevEncoding
from adawm_planner.ros.experience_input import captured_from
from adawm_planner.ros.planner_outputs import experience_message
from tests.finetuning.decisions import ADAPTER, experience, first, same
from tests.runtime.fake_engine import FakeEngine

pytestmark = pytest.mark.ros
RNG = np.random.default_rng(0)
ADAPTERS = (ADAPTER, "c" * 64)


def sent(**changes: Any) -> Any:
    """A message as it arrives; `changes` replace fields."""
    message = experience_message(replace(experience(7), adapter_digests=ADAPTERS), FakeEngine(), 1.5)
    for name, value in changes.items():
        setattr(message, name, value)
    return deserialize_message(serialize_message(message), ExperienceMessage)


def test_encodings_are_the_messages() -> None:
    names = {"RAW": BevEncoding.RAW, "ZLIB": BevEncoding.ZLIB, "BITS": BevEncoding.BITS}
    assert {name: getattr(ExperienceMessage, f"BEV_{name}") for name in names} == names


def test_a_decision_survives_bit_for_bit() -> None:
    bev = RNG.integers(0, 256, BEV_SHAPE, dtype=np.uint8)
    state = RNG.normal(size=STATE_SIZE).astype(np.float32)
    chances = RNG.dirichlet(np.ones(len(ACCELERATION_BINS))).astype(np.float32)
    one = experience(
        7,
        stamp_s=12_350_000_000 * 1e-9,  # as frame_inputs makes it of a stamp
        episode=2,
        observation=Observation(bev, state),
        action=Action(3, float(np.float32(ACCELERATION_BINS[3])), chances),
        value=0.75,
        reward=RewardTerms(0.125, 0.25, -1.5, -0.5, 1.0),
        is_last=True,
        is_terminal=True,
        intervention="braking_distance",
    )
    told = experience_message(replace(one, adapter_digests=ADAPTERS), FakeEngine(), 1.5)
    message = deserialize_message(serialize_message(told), ExperienceMessage)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 350_000_000)
    assert message.bev_encoding == ExperienceMessage.BEV_RAW
    back = captured_from(message)
    assert same(back, capture(replace(one, adapter_digests=ADAPTERS), FakeEngine.digest, 1.5))
    assert not back.experience.observation.bev.flags.writeable


def test_the_first_of_an_episode_and_other_encodings_are_taken() -> None:
    start = first(0).experience
    assert captured_from(experience_message(start, FakeEngine(), 0.0)).experience.is_first
    bev = experience(7).observation.bev
    packed = sent(bev_encoding=ExperienceMessage.BEV_ZLIB, bev=array.array("B", zlib.compress(bev.tobytes())))
    assert same(captured_from(packed), captured_from(sent()))
    binary = np.asarray(RNG.integers(0, 2, BEV_SHAPE) * 255, np.uint8)
    bits = sent(bev_encoding=ExperienceMessage.BEV_BITS, bev=array.array("B", np.packbits(binary).tobytes()))
    assert np.array_equal(captured_from(bits).experience.observation.bev, binary)


PACKED = zlib.compress(bytes(sent().bev))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bev_channels": 4}, r"bev is \(4, 32, 32\) .* must be \(5, 32, 32\)"),
        ({"bev_height": 65535}, "bev is"),
        ({"bev_encoding": 9}, "bev_encoding is 9, must be one of"),
        ({"bev": [0] * 5121}, "bev holds 5121 bytes, must hold 5120"),
        ({"bev": []}, "bev holds 0 bytes"),
        ({"bev_encoding": 1, "bev": []}, "zlib stream ends early, after 0 of 5120 bytes"),
        ({"bev_encoding": 1, "bev": list(PACKED[:-1] + bytes([PACKED[-1] ^ 1]))}, "bev is no zlib stream"),
        ({"bev_encoding": 1, "bev": list(zlib.compress(bytes(5121)))}, "more than 5120 bytes"),
        ({"bev_encoding": 2}, "bytes of bits, must hold 640"),
        ({"state": []}, r"state is \(0,\) float32, must be \(11,\)"),
        ({"state": [0.0] * (STATE_SIZE + 1)}, r"state is \(12,\)"),
        ({"state": [math.nan] * STATE_SIZE}, "state is .*nan.* must be finite"),
        ({"action": 5}, r"action is 5, must be in 0\.\.4"),
        ({"action": 65535}, "action is 65535"),
        ({"acceleration": 1.0}, "acceleration is 1.0, action 2 is 0.0"),
        ({"action_probabilities": []}, r"action_probabilities is \(0,\)"),
        ({"action_probabilities": [math.nan] * 5}, "action_probabilities is .*nan"),
        ({"action_probabilities": [0.3] * 5}, "sum to 1.500000, must be 1 within 0.001"),
        ({"action_probabilities": [1.5, -0.5, 0.0, 0.0, 0.0]}, r"each must be in 0\.\.1"),
        ({"value": math.nan}, "value is nan"),
        ({"reward_lateral": -math.inf}, "reward_lateral is -inf"),
        ({"is_first": True}, "reward_progress is 0.25 where is_first"),
        ({"is_terminal": True}, "is_terminal is set without is_last"),
        ({"sequence": 2**63}, "sequence is 9223372036854775808"),
        ({"base_digest": "latest"}, "base_digest is 'latest', must be 64 hexadecimal digits"),
        ({"adapter_digests": ["x"]}, "adapter_digests holds 'x'"),
        ({"adapter_digests": [ADAPTER] * 9}, "9 entries, must have at most 8"),
        ({"decision_latency_ms": math.nan}, "decision_latency_ms is nan"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    captured_from(sent())
    with pytest.raises(ValueError, match=reason):
        captured_from(sent(**changes))


def test_another_frame_and_a_time_before_time_are_refused() -> None:
    message = sent()
    message.header.frame_id = "odom"
    with pytest.raises(ValueError, match="header.frame_id is 'odom', must be 'map'"):
        captured_from(message)
    message = sent()
    message.header.stamp.sec = -1
    with pytest.raises(ValueError, match=r"header.stamp is -0\.\d+ s|header.stamp is"):
        captured_from(message)
