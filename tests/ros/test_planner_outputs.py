"""The imagined path follows the route at the imagined speeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")

from adawm_planner.data_types import EgoState, Scene
from adawm_planner.dims import DECISION_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.ros.planner_outputs import imagined_path
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
