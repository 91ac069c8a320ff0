"""OpenDRIVE in, a bitmap of drivable coverage out, sampled by the BEV raster of every frame."""

from __future__ import annotations

import cv2
import numpy as np

from adawm_planner.data_types import DrivableMap, Route
from adawm_planner.dims import BEV_CELL_M
from adawm_planner.observation.opendrive import check_opendrive

CELL_M = 0.5
"""Edge of one map cell [m]."""

MAX_EXTENT_M = 4000.0
"""Largest side of a map that is rasterised [m]: 64 MB of bitmap."""

_SHIFT = 4  # cv2 takes coordinates as integers in units of 2**-_SHIFT cells


def drivable_from_opendrive(xml: str) -> DrivableMap | None:
    """Rasterise the driving lanes of an OpenDRIVE map.

    Args:
        xml: the map as text, in the `map` frame's own axes (y is not mirrored).

    Returns:
        The coverage bitmap, or None when the `carla` wheel (its OpenDRIVE library) is not installed.

    Raises:
        ValueError: the text is not OpenDRIVE with at least one driving lane (see `check_opendrive`), or the map is too
            large.
    """
    try:
        import carla
    except ImportError:
        return None
    check_opendrive(xml)
    try:
        waypoints = carla.Map("map", xml).generate_waypoints(1.0)
    except (RuntimeError, LookupError) as error:
        raise ValueError(f"OpenDRIVE map of {len(xml)} characters cannot be read: {error}") from error
    rows = [
        (w.transform.location.x, -w.transform.location.y, -w.transform.rotation.yaw, w.lane_width) for w in waypoints
    ]
    if not rows:
        raise ValueError(f"OpenDRIVE map of {len(xml)} characters has no driving lane")
    x, y, yaw_deg, width = np.array(rows, dtype=np.float64).T
    return _rasterise(x, y, np.radians(yaw_deg), width)


def drivable_from_route(route: Route, width: float) -> DrivableMap:
    """Drivable corridor of `width` [m] along a route, for use without a map."""
    return _rasterise(route.x, route.y, route.yaw, np.full(len(route.x), width))


def _rasterise(x: np.ndarray, y: np.ndarray, yaw: np.ndarray, width: np.ndarray) -> DrivableMap:
    """Fill a quad of 1.2 m by lane width around every lane point, then average over one BEV cell."""
    margin = 10.0
    if not all(np.isfinite(values).all() for values in (x, y, yaw, width)):
        raise ValueError("map has a lane point that is not finite")
    origin_x, origin_y = float(np.floor(x.min() - margin)), float(np.floor(y.min() - margin))
    extent = max(float(x.max()) - origin_x, float(y.max()) - origin_y) + margin
    if extent > MAX_EXTENT_M:
        raise ValueError(f"map spans {extent:.0f} m, at most {MAX_EXTENT_M:.0f} m are supported")
    size = int(np.ceil(extent / CELL_M))
    mask = np.zeros((size, size), dtype=np.uint8)
    quads = box_corners(x, y, yaw, np.full(len(x), 1.2), width)
    cells = (quads - np.array([origin_x, origin_y])) / CELL_M - 0.5
    for quad in np.round(cells * 2**_SHIFT).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 255, cv2.LINE_8, _SHIFT)
    window = round(BEV_CELL_M / CELL_M)
    return DrivableMap(np.asarray(cv2.blur(mask, (window, window)), dtype=np.uint8), origin_x, origin_y, CELL_M)


def box_corners(x: np.ndarray, y: np.ndarray, yaw: np.ndarray, length: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Corners (N, 4, 2) [m] of boxes with centres `x`, `y`, headings `yaw` [rad] and sizes [m], all (N,)."""
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    forward = 0.5 * length[:, None] * np.array([1.0, 1.0, -1.0, -1.0])
    left = 0.5 * width[:, None] * np.array([1.0, -1.0, -1.0, 1.0])
    corner_x = x[:, None] + forward * cos - left * sin
    corner_y = y[:, None] + forward * sin + left * cos
    return np.stack([corner_x, corner_y], axis=2)
