"""Experience messages in, judged and sealed decisions out: what the finetuner takes from the planner.

The way out is `planner_outputs.experience_message`.
"""

from __future__ import annotations

import numpy as np
from adawm_msgs.msg import Experience as ExperienceMessage

from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.finetuning.captured import Captured, capture
from adawm_planner.observation.packing import unpack_bev
from adawm_planner.ros.convert import stamp_to_ns


def captured_from(message: ExperienceMessage) -> Captured:
    """Take one decision; its arrays are read-only.

    Raises:
        ValueError: the message cannot be a decision of this planner; names the field, the value and the limit. Such
            a message is to be counted and dropped: the gap in `sequence` then ends the episode in the replay.
    """
    if message.header.frame_id != "map":
        raise ValueError(f"header.frame_id is '{message.header.frame_id[:80]}', must be 'map'")
    shape = (message.bev_channels, message.bev_height, message.bev_width)
    bev = unpack_bev(bytes(message.bev), message.bev_encoding, shape)
    state, probabilities = _floats(message.state), _floats(message.action_probabilities)
    one = Experience(
        stamp_s=stamp_to_ns(message.header.stamp) * 1e-9,
        sequence=message.sequence,
        episode=message.episode,
        observation=Observation(bev, state),
        action=Action(message.action, message.acceleration, probabilities),
        value=message.value,
        reward=RewardTerms(
            message.reward_progress,
            message.reward_speed,
            message.reward_collision,
            message.reward_lateral,
            message.reward_destination,
        ),
        is_first=message.is_first,
        is_last=message.is_last,
        is_terminal=message.is_terminal,
        adapter_digests=tuple(message.adapter_digests),
        intervention=message.intervention,
    )
    return capture(one, message.base_digest, message.decision_latency_ms)


def _floats(values: object) -> np.ndarray:
    return np.frombuffer(np.asarray(values, np.float32).tobytes(), np.float32)
