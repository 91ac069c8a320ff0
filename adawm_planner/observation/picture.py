"""BEV rasters in, pictures for people out (blue green red, uint8); for topics, reports and the README."""

from __future__ import annotations

import cv2
import numpy as np

from adawm_planner.data_types import UInt8
from adawm_planner.dims import BEV_CELL_M, BEV_CHANNELS

COLOURS = {
    "drivable": (70, 62, 58),
    "route": (190, 150, 60),
    "vehicles": (60, 170, 250),
    "vehicles_in_1s": (90, 90, 220),
    "vehicles_in_2s": (150, 70, 150),
}
"""Colour of each BEV channel, blue green red."""

DRAWING_ORDER = ("drivable", "route", "vehicles_in_2s", "vehicles_in_1s", "vehicles")
BACKGROUND = (28, 24, 22)
EGO_COLOUR = (120, 220, 120)


def bev_picture(bev: UInt8, scale: int = 12) -> UInt8:
    """Colour a raster (C, H, W), channels as dims.BEV_CHANNELS, into (H * scale, W * scale, 3)."""
    channels, height, width = bev.shape
    if channels != len(BEV_CHANNELS):
        raise ValueError(f"raster has {channels} channels, must have {len(BEV_CHANNELS)}")
    size = (width * scale, height * scale)
    picture = np.full((height * scale, width * scale, 3), BACKGROUND, dtype=np.float32)
    for name in DRAWING_ORDER:
        cover = cv2.resize(bev[BEV_CHANNELS.index(name)], size, interpolation=cv2.INTER_LINEAR)
        alpha = (cover.astype(np.float32) / 255.0)[:, :, None]
        picture += alpha * (np.array(COLOURS[name], dtype=np.float32) - picture)
    return _with_ego(np.round(picture).astype(np.uint8), scale)


def imagined_picture(bevs: UInt8, step_s: float, scale: int = 5, columns: int = 5) -> UInt8:
    """Lay out imagined rasters (K, C, H, W), `step_s` seconds apart, as captioned tiles in reading order."""
    tiles = [_captioned(bev_picture(bev, scale), f"+{step_s * (k + 1):.1f} s") for k, bev in enumerate(bevs)]
    if not tiles:
        raise ValueError("nothing was imagined: 0 rasters")
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], BACKGROUND)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


def _with_ego(picture: UInt8, scale: int) -> UInt8:
    """Mark the ego: an arrowhead at the centre, pointing up."""
    height, width = picture.shape[:2]
    half_length, half_width = 2.4 / BEV_CELL_M * scale, 1.0 / BEV_CELL_M * scale
    x, y = 0.5 * width, 0.5 * height
    corners = [(x, y - half_length), (x + half_width, y + half_length), (x - half_width, y + half_length)]
    cv2.fillPoly(picture, [np.round(np.array(corners)).astype(np.int32)], EGO_COLOUR, cv2.LINE_AA)
    return picture


def _captioned(tile: UInt8, text: str) -> UInt8:
    cv2.putText(tile, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
    tile[-1:], tile[:, -1:] = BACKGROUND, BACKGROUND
    return tile
