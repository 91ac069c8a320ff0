"""Rasters become pictures: right size, right colours, the ego in the middle, up is ahead."""

from __future__ import annotations

import numpy as np
import pytest

from adawm_planner.dims import BEV_CHANNELS, BEV_SHAPE, BEV_SIZE
from adawm_planner.observation.picture import BACKGROUND, COLOURS, EGO_COLOUR, bev_picture, imagined_picture


def one_cell(channel: str, row: int, column: int) -> np.ndarray:
    bev = np.zeros(BEV_SHAPE, dtype=np.uint8)
    bev[BEV_CHANNELS.index(channel), row, column] = 255
    return bev


@pytest.mark.parametrize("channel", BEV_CHANNELS)
def test_each_channel_has_its_colour_in_its_place(channel: str) -> None:
    picture = bev_picture(one_cell(channel, 3, 20), scale=11)
    assert picture.shape == (BEV_SIZE * 11, BEV_SIZE * 11, 3) and picture.dtype == np.uint8
    centre = picture[3 * 11 + 5, 20 * 11 + 5].astype(int)
    assert np.abs(centre - COLOURS[channel]).max() <= 3
    assert tuple(picture[25 * 11, 5 * 11]) == BACKGROUND


def test_colours_differ() -> None:
    assert len(set(COLOURS.values()) | {BACKGROUND, EGO_COLOUR}) == len(BEV_CHANNELS) + 2


def test_ego_is_in_the_middle() -> None:
    picture = bev_picture(np.zeros(BEV_SHAPE, dtype=np.uint8))
    middle = BEV_SIZE * 12 // 2
    assert tuple(picture[middle, middle]) == EGO_COLOUR


def test_vehicle_is_drawn_over_road() -> None:
    bev = one_cell("vehicles", 8, 8)
    bev[BEV_CHANNELS.index("drivable")] = 255
    centre = bev_picture(bev, scale=11)[8 * 11 + 5, 8 * 11 + 5].astype(int)
    assert np.abs(centre - COLOURS["vehicles"]).max() <= 3


def test_imagined_tiles_in_reading_order() -> None:
    bevs = np.zeros((7, *BEV_SHAPE), dtype=np.uint8)
    bevs[5, BEV_CHANNELS.index("vehicles")] = 255
    picture = imagined_picture(bevs, 0.2, scale=2, columns=5)
    side = BEV_SIZE * 2
    assert picture.shape == (2 * side, 5 * side, 3)
    lit = np.abs(picture.astype(int) - COLOURS["vehicles"]).max(axis=2) <= 3
    assert lit[side:, :side].mean() > 0.5 and lit[:side].mean() < 0.01 and lit[side:, side:].mean() < 0.01


def test_refuses_what_is_no_raster() -> None:
    with pytest.raises(ValueError, match="channels"):
        bev_picture(np.zeros((3, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="0 rasters"):
        imagined_picture(np.zeros((0, *BEV_SHAPE), dtype=np.uint8), 0.2)
