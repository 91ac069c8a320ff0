"""The corridor is the raster's own for short routes, and goes along with the ego on long ones."""

from __future__ import annotations

import numpy as np

from adawm_planner.observation.drivable import drivable_from_route
from adawm_planner.runtime.corridor import Corridor
from tests.runtime.inputs import straight_route

WIDTH = 3.2


def is_road(corridor: Corridor, at: float, x: float, y: float) -> bool:
    """Whether (x, y) is drivable in the bitmap for an ego at (at, 0)."""
    drawn = corridor.around(at, 0.0)
    row, column = int((y - drawn.origin_y) / drawn.cell), int((x - drawn.origin_x) / drawn.cell)
    inside = 0 <= row < drawn.mask.shape[0] and 0 <= column < drawn.mask.shape[1]
    return inside and bool(drawn.mask[row, column] > 127)


def test_short_route_is_drawn_once_and_whole() -> None:
    route = straight_route(300)
    corridor = Corridor(route, WIDTH)
    drawn = corridor.around(5.0, 0.0)
    np.testing.assert_array_equal(drawn.mask, drivable_from_route(route, WIDTH).mask)
    assert corridor.around(250.0, 0.0) is drawn


def test_long_route_always_has_its_surroundings() -> None:
    corridor = Corridor(straight_route(6000), WIDTH)
    for at in (10.0, 700.0, 1500.0, 5990.0, 30.0):
        for offset in (-57.0, 0.0, 57.0):
            on_route = 0.0 < at + offset < 6000.0
            assert is_road(corridor, at, at + offset, 0.0) == on_route
            assert not is_road(corridor, at, at + offset, 8.0)


def test_long_route_is_not_drawn_anew_at_every_call() -> None:
    corridor = Corridor(straight_route(6000), WIDTH)
    drawn = {id(corridor.around(float(x), 0.0)): corridor.around(float(x), 0.0) for x in range(0, 2400, 5)}
    assert len(drawn) <= 3
