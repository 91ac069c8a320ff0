"""The lidar meets boxes where geometry says, in the sensor's frame, with the ground behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.data_types import EgoState, Objects
from adawm_planner.simulator.lidar import OBJECT_HEIGHT_M, LidarConfig, scan

CONFIG = LidarConfig()
AT_ORIGIN = EgoState(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def boxes(*rows: tuple[float, float, float]) -> Objects:
    """Boxes of 4 m by 2 m at (x, y, yaw)."""
    x, y, yaw = (np.array(column, dtype=float) for column in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3
    n = len(x)
    return Objects(np.arange(n), x, y, yaw, np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, 4.0), np.full(n, 2.0))


def above_ground(points: np.ndarray) -> np.ndarray:
    return points[points[:, 2] > -CONFIG.mount_height + 1e-3]


def test_empty_world_is_a_flat_ground_within_range() -> None:
    points = scan(AT_ORIGIN, boxes(), CONFIG)
    assert points.dtype == np.float32 and points.shape[1] == 4
    assert np.allclose(points[:, 2], -CONFIG.mount_height, atol=1e-5)
    assert np.linalg.norm(points[:, :3], axis=1).max() <= CONFIG.range + 1e-3
    assert ((points[:, 3] > 0.0) & (points[:, 3] <= 1.0)).all()


def test_a_box_ahead_is_met_at_its_rear_face() -> None:
    hits = above_ground(scan(AT_ORIGIN, boxes((12.0, 0.0, 0.0)), CONFIG))
    assert len(hits) > 50
    assert hits[:, 0].min() == pytest.approx(10.0, abs=1e-4)
    assert np.abs(hits[:, 1]).max() <= 1.0 + 0.05
    assert hits[:, 2].max() <= OBJECT_HEIGHT_M - CONFIG.mount_height + 1e-4


def test_a_box_on_the_left_has_positive_y() -> None:
    hits = above_ground(scan(AT_ORIGIN, boxes((0.0, 8.0, 0.0)), CONFIG))
    assert hits[:, 1].min() == pytest.approx(7.0, abs=1e-4)


def test_points_turn_with_the_ego() -> None:
    facing_north = EgoState(5.0, 5.0, 0.5 * math.pi, 0.0, 0.0, 0.0, 0.0)
    hits = above_ground(scan(facing_north, boxes((5.0, 17.0, 0.5 * math.pi)), CONFIG))
    assert hits[:, 0].min() == pytest.approx(10.0, abs=1e-4)


def test_a_nearer_box_hides_the_ground_and_the_box_behind() -> None:
    near, far = (12.0, 0.0, 0.0), (30.0, 0.0, 0.0)
    alone = above_ground(scan(AT_ORIGIN, boxes(near), CONFIG))
    both = above_ground(scan(AT_ORIGIN, boxes(near, far), CONFIG))
    ahead = np.abs(both[:, 1]) < 0.5
    assert (both[ahead][:, 0] > 27.0).sum() < (above_ground(scan(AT_ORIGIN, boxes(far), CONFIG))[:, 0] > 27.0).sum()
    assert len(both) >= len(alone)


def test_the_roof_is_seen_from_above() -> None:
    hits = above_ground(scan(AT_ORIGIN, boxes((6.0, 0.0, 0.0)), CONFIG))
    roof = np.isclose(hits[:, 2], OBJECT_HEIGHT_M - CONFIG.mount_height, atol=1e-4)
    assert roof.any()
    assert hits[roof][:, 0].min() > 4.0 - 1e-3 and hits[roof][:, 0].max() < 8.0 + 1e-3


def test_points_lie_on_the_box_for_any_heading() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.uniform(6, 20, 2) * rng.choice([-1, 1], 2)
        yaw = rng.uniform(-math.pi, math.pi)
        hits = above_ground(scan(AT_ORIGIN, boxes((x, y, yaw)), CONFIG)).astype(float)
        dx, dy = hits[:, 0] - x, hits[:, 1] - y
        along = np.abs(dx * math.cos(yaw) + dy * math.sin(yaw))
        across = np.abs(dy * math.cos(yaw) - dx * math.sin(yaw))
        assert len(hits) and along.max() < 2.0 + 1e-3 and across.max() < 1.0 + 1e-3


def test_beyond_the_range_nothing_is_seen() -> None:
    assert len(above_ground(scan(AT_ORIGIN, boxes((60.0, 0.0, 0.0)), CONFIG))) == 0


@pytest.mark.parametrize("name", ["channels", "range", "points_per_second", "mount_height"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LidarConfig(**{name: 0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 513),
        ("range", 1001.0),
        ("mount_height", 501.0),
        ("points_per_second", 10**15),
        ("rotation_frequency", 1e-9),
    ],
)
def test_a_turn_that_no_memory_holds_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.*must be at most"):
        LidarConfig(**{name: value})
