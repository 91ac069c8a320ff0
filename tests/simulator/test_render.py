"""The picture shows things where the pinhole model of its camera_info puts them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adawm_planner.data_types import DrivableMap, EgoState, Objects
from adawm_planner.observation.route import route_from_points
from adawm_planner.simulator.render import EGO, GRASS, ROAD, TRAFFIC, TopDownCamera, render

CAMERA = TopDownCamera(ahead=0.0)
SIZE = (4.7, 1.85)
FAR_ROUTE = route_from_points([1000.0, 1010.0], [1000.0, 1000.0])


def one_object(x: float, y: float) -> Objects:
    return Objects(np.array([1]), *(np.array([v]) for v in (x, y, 0.0, 0.0, 0.0, 0.0, 4.0, 4.0)))


def rows_columns(picture: np.ndarray, colour: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((picture == np.array(colour, dtype=np.uint8)).all(axis=-1))


def test_the_ego_is_in_the_middle_and_longer_than_wide() -> None:
    picture = render(CAMERA, EgoState(3.0, 4.0, 0.7, 0, 0, 0, 0), SIZE, one_object(500, 500), FAR_ROUTE, None)
    assert picture.shape == (600, 800, 4) and picture.dtype == np.uint8
    rows, columns = rows_columns(picture, EGO)
    assert columns.mean() == pytest.approx(400, abs=2)
    assert rows.max() - rows.min() == pytest.approx(SIZE[0] * CAMERA.scale, abs=3)
    assert columns.max() - columns.min() == pytest.approx(SIZE[1] * CAMERA.scale, abs=3)


@pytest.mark.parametrize("yaw", [0.0, 1.1, math.pi])
def test_a_vehicle_ahead_and_left_is_up_and_left(yaw: float) -> None:
    ego = EgoState(-20.0, 30.0, yaw, 0, 0, 0, 0)
    ahead, left = 12.0, 5.0
    x = ego.x + ahead * math.cos(yaw) - left * math.sin(yaw)
    y = ego.y + ahead * math.sin(yaw) + left * math.cos(yaw)
    rows, columns = rows_columns(render(CAMERA, ego, SIZE, one_object(x, y), FAR_ROUTE, None), TRAFFIC)
    assert 0.5 * (columns.min() + columns.max()) == pytest.approx(400 - left * CAMERA.scale, abs=2)
    assert 0.5 * (rows.min() + rows.max()) == pytest.approx(300 - ahead * CAMERA.scale, abs=2)


def test_the_road_is_drawn_where_the_map_has_it() -> None:
    mask = np.zeros((400, 400), dtype=np.uint8)
    mask[:, 200:] = 255  # x > 0
    drivable = DrivableMap(mask, -100.0, -100.0, 0.5)
    ego = EgoState(0.0, 0.0, 0.5 * math.pi, 0, 0, 0, 0)
    picture = render(CAMERA, ego, SIZE, one_object(500, 500), FAR_ROUTE, drivable)
    assert tuple(picture[100, 700]) == ROAD  # heading north, x > 0 is on the right
    assert tuple(picture[100, 100]) == GRASS


def test_scale_follows_the_pinhole_model() -> None:
    assert TopDownCamera(fov=90.0, above=40.0).scale == pytest.approx(10.0)


@pytest.mark.parametrize("bad", [{"fov": 0.0}, {"above": 0.0}, {"width": 0}])
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="camera"):
        TopDownCamera(**bad)  # type: ignore[arg-type]
