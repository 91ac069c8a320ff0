"""Answers become messages without loss; the imagined path follows the route at the imagined speeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")

from adawm_planner.data_types import Action, EgoState, Experience, Observation, RewardTerms, Scene
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, BEV_SHAPE, DECISION_S, STATE_SIZE
from adawm_planner.observation.route import route_from_points
from adawm_planner.ros.planner_outputs import experience_message, imagined_path
from tests.runtime.inputs import VEHICLE, objects, straight_route

pytestmark = pytest.mark.ros
EGO = EgoState(10.0, 0.5, 0.1, 5.0, 0.0, 0.0, 0.0)
SCENE = Scene(1.0, EGO, objects(), straight_route(), None, VEHICLE)


def test_path_starts_at_the_ego_and_drives_the_route() -> None:
    speed = np.array([5.0, 4.0, 0.0, -1.0], dtype=np.float32)
    x, y, yaw = imagined_path(SCENE, speed)
    assert (x[0], y[0], yaw[0]) == (EGO.x, EGO.y, EGO.yaw)
    np.testing.assert_allclose(x[1:], [11.0, 11.8, 11.8, 11.8], atol=1e-9)
    np.testing.assert_allclose(y[1:], 0.0, atol=1e-9)


def test_path_goes_round_bends_and_ends_with_the_route() -> None:
    corner = route_from_points([0.0, 10.0, 10.0], [0.0, 0.0, 10.0])
    ego = replace(EGO, x=8.0, y=0.0)
    x, y, _ = imagined_path(replace(SCENE, ego=ego, route=corner), np.full(15, 10.0))
    assert (x[2], y[2]) == pytest.approx((10.0, 2.0), abs=1e-9)
    assert (x[-1], y[-1]) == pytest.approx((10.0, 10.0), abs=1e-9)
    steps = np.hypot(np.diff(x), np.diff(y))
    assert steps.max() <= 10.0 * DECISION_S + 1e-9


def test_experience_survives_the_message() -> None:
    rng = np.random.default_rng(0)
    bev = rng.integers(0, 256, BEV_SHAPE, dtype=np.uint8)
    state = rng.normal(size=STATE_SIZE).astype(np.float32)
    probabilities = np.full(ACTION_COUNT, 1.0 / ACTION_COUNT, dtype=np.float32)
    one = Experience(
        stamp_s=12.35,
        sequence=7,
        episode=2,
        observation=Observation(bev, state),
        action=Action(1, ACCELERATION_BINS[1], probabilities),
        value=0.75,
        reward=RewardTerms(0.125, 0.25, -1.5, -0.5, 1.0),
        is_first=False,
        is_last=True,
        is_terminal=True,
    )
    message = experience_message(one, "ab" * 32, 1.5)
    assert np.array_equal(np.frombuffer(bytes(message.bev), np.uint8).reshape(BEV_SHAPE), bev)
    assert np.asarray(message.state, np.float32).tobytes() == state.tobytes()
    assert (message.action, message.acceleration) == (1, ACCELERATION_BINS[1])
    assert np.asarray(message.action_probabilities, np.float32).tobytes() == probabilities.tobytes()
    rewards = (message.reward_progress, message.reward_speed, message.reward_collision, message.reward_lateral)
    assert rewards == (0.125, 0.25, -1.5, -0.5) and message.reward_destination == 1.0
    assert (message.is_first, message.is_last, message.is_terminal) == (False, True, True)
    assert (message.sequence, message.episode, message.base_digest) == (7, 2, "ab" * 32)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 350_000_000)
