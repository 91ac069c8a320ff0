"""Each term of a frame's reward against its closed form."""

from __future__ import annotations

import math

import pytest

from adawm_planner.data_types import EgoState
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import RouteProjection
from adawm_planner.reward import RewardWeights, frame_reward

WEIGHTS = RewardWeights(speed_per_s=2.0, lateral_per_s=4.0, target_speed=8.0)


def test_weights_are_the_ones_that_were_trained_with() -> None:
    assert tuple(vars(RewardWeights()).values()) == (0.02, 0.05, 1.5, 0.05, 0.5, 1.0, 8.0)


@pytest.mark.parametrize(
    ("speed", "error", "pace"),
    [
        (8.0, 0.0, 1.0),
        (0.0, 0.0, 0.0),
        (4.0, 0.0, 0.5),
        (12.0, 0.0, 0.5),  # too fast costs as much as too slow
        (20.0, 0.0, -0.5),
        (-4.0, 0.0, -0.5),
        (8.0, math.pi, -1.0),
        (8.0, 2.0 * math.pi, 1.0),
        (0.4, 0.5 * math.pi, (8.0 - 8.0 - 2.0 * 0.4) / 8.0),
        (0.4, -0.5 * math.pi, (8.0 - 8.0 - 2.0 * 0.4) / 8.0),
        (6.0, 0.5 * math.pi, (8.0 - 8.0 - 2.0 * 0.5) / 8.0),  # across the route counts up to 0.5 m/s
        (8.0, math.pi / 3.0, (4.0 - 2.0 * 0.5) / 8.0),
    ],
)
def test_speed_is_measured_along_the_route_and_against_the_target(speed: float, error: float, pace: float) -> None:
    ego = EgoState(0.0, 0.0, 0.3 + error, speed, 0.0, 0.0, 0.0)
    terms = frame_reward(ego, RouteProjection(0, 0.0, 0.0, 0.3), 0.0, False, False, WEIGHTS)
    assert terms.speed == pytest.approx(2.0 * FRAME_S * pace, abs=1e-12)
    assert terms.lateral == terms.collision == terms.progress == terms.destination == 0.0


@pytest.mark.parametrize(
    ("lateral", "deviation"), [(0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.75, 0.25), (-0.75, 0.25), (2.5, 2.0)]
)
def test_half_a_metre_beside_the_route_is_free_on_both_sides(lateral: float, deviation: float) -> None:
    ego = EgoState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0)
    terms = frame_reward(ego, RouteProjection(0, 0.0, lateral, 0.0), 0.0, False, False, WEIGHTS)
    assert terms.lateral == pytest.approx(-4.0 * FRAME_S * deviation, abs=1e-12)
