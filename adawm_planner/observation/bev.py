"""Scene in, BEV raster (C, H, W) out: x forward is up, y left is left, the ego at the centre."""

from __future__ import annotations

import math

import cv2
import numpy as np

from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import DrivableMap, EgoState, Float64, Objects, Route, Scene, UInt8
from adawm_planner.dims import BEV_CELL_M, BEV_SHAPE, BEV_SIZE
from adawm_planner.observation.drivable import box_corners, drivable_from_route
from adawm_planner.observation.route import RouteProjection

_FINE = 2  # polygons are drawn on a grid this much finer, then averaged: positions within a cell are seen
_SHIFT = 4  # cv2 takes coordinates as integers in units of 2**-_SHIFT cells
_FORECAST_S = (0.0, 1.0, 2.0)


def rasterise(scene: Scene, projection: RouteProjection, config: ObservationConfig) -> UInt8:
    """Draw a scene into a raster (C, H, W), channels as dims.BEV_CHANNELS, values 0..255."""
    bev = np.zeros(BEV_SHAPE, dtype=np.uint8)
    drivable = scene.drivable or drivable_from_route(scene.route, config.lane_width_m)
    bev[0] = _drivable(drivable, scene.ego)
    bev[1] = _route(scene.route, projection, scene.ego, config.route_ahead_m)
    _vehicles(bev[2:], scene.objects, scene.ego, config.object_range_m)
    return bev


def _drivable(drivable: DrivableMap, ego: EgoState) -> UInt8:
    """Sample the coverage bitmap at the centre of each BEV cell."""
    step = BEV_CELL_M / drivable.cell
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    centre = 0.5 * (BEV_SIZE - 1)
    # Rows look back, columns look right: map = ego + (centre - row) * forward + (centre - column) * left.
    ego_column = (ego.x - drivable.origin_x) / drivable.cell - 0.5
    ego_row = (ego.y - drivable.origin_y) / drivable.cell - 0.5
    to_map = np.array(
        [
            [step * sin, -step * cos, ego_column + step * centre * (cos - sin)],
            [-step * cos, -step * sin, ego_row + step * centre * (sin + cos)],
        ]
    )
    return np.asarray(
        cv2.warpAffine(drivable.mask, to_map, (BEV_SIZE, BEV_SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP),
        dtype=np.uint8,
    )


def _to_pixels(points: Float64, ego: EgoState) -> np.ndarray:
    """Map points (..., 2) [m] to fixed-point coordinates of the fine raster."""
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    dx, dy = points[..., 0] - ego.x, points[..., 1] - ego.y
    forward, left = dx * cos + dy * sin, -dx * sin + dy * cos
    scale, centre = _FINE / BEV_CELL_M, 0.5 * (BEV_SIZE * _FINE - 1)
    pixels = np.stack([centre - left * scale, centre - forward * scale], axis=-1)
    return np.asarray(np.round(pixels * 2**_SHIFT), dtype=np.int32)


def _coarse(fine: UInt8) -> UInt8:
    """Average the fine raster into BEV cells."""
    return np.asarray(cv2.resize(fine, (BEV_SIZE, BEV_SIZE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _route(route: Route, projection: RouteProjection, ego: EgoState, ahead: float) -> UInt8:
    """Draw the next `ahead` metres of the route as a line two fine cells wide."""
    last = int(np.searchsorted(route.s, projection.s + ahead))
    window = slice(projection.index, last + 1)
    fine = np.zeros((BEV_SIZE * _FINE, BEV_SIZE * _FINE), dtype=np.uint8)
    line = _to_pixels(np.stack([route.x[window], route.y[window]], axis=1), ego)
    cv2.polylines(fine, [line], False, 255, 2, cv2.LINE_AA, _SHIFT)
    return _coarse(fine)


def _vehicles(channels: UInt8, objects: Objects, ego: EgoState, reach: float) -> None:
    """Fill footprints now and at constant velocity 1 s and 2 s ahead into `channels` (3, H, W).

    A footprint is drawn with its outline, about half a cell larger than the body on each side: at 2.5 m a
    cell, a car alone would be little more than one faint cell.
    """
    near = np.hypot(objects.x - ego.x, objects.y - ego.y) <= reach
    if not near.any():
        return
    x, y, vx, vy = objects.x[near], objects.y[near], objects.vx[near], objects.vy[near]
    corners = box_corners(x, y, objects.yaw[near], objects.length[near], objects.width[near])
    velocity = np.stack([vx, vy], axis=1)[:, None, :]
    for channel, seconds in zip(channels, _FORECAST_S, strict=True):
        fine = np.zeros((BEV_SIZE * _FINE, BEV_SIZE * _FINE), dtype=np.uint8)
        for quad in _to_pixels(corners + seconds * velocity, ego):
            cv2.fillConvexPoly(fine, quad, 255, cv2.LINE_AA, _SHIFT)
        channel[:] = _coarse(fine)
