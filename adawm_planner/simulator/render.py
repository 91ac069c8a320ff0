"""A top-down picture of the world for the camera topic: poses, route and map in, BGRA pixels out.

The camera hangs above the ego, looks straight down and turns with it (vehicle forward is up), so that the
picture obeys the pinhole model its camera_info states for everything that lies on the ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from adawm_planner.data_types import DrivableMap, EgoState, Float64, Objects, Route, UInt8
from adawm_planner.observation.drivable import box_corners

GRASS = (70, 95, 80, 255)
ROAD = (95, 90, 88, 255)
ROUTE = (120, 200, 110, 255)
TRAFFIC = (60, 70, 215, 255)
EGO = (90, 200, 60, 255)
GLASS = (60, 50, 45, 255)
_SHIFT = 4  # cv2 takes coordinates as integers in units of 2**-_SHIFT pixels


@dataclass(frozen=True)
class TopDownCamera:
    """Where the camera hangs relative to the ego, and its image."""

    width: int = 800  # px
    height: int = 600  # px
    fov: float = 90.0  # deg, horizontal
    above: float = 40.0  # m over the ground
    ahead: float = 10.0  # m in front of the ego's centre
    left: float = 0.0  # m beside the ego's centre

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 4096 and 1 <= self.height <= 4096):
            raise ValueError(f"camera image is {self.width}x{self.height} px, must lie in 1..4096")
        if not 1.0 <= self.fov <= 170.0:
            raise ValueError(f"camera fov is {self.fov} deg, must lie in 1..170")
        if not 1.0 <= self.above <= 500.0:
            raise ValueError(f"camera is {self.above} m above the ground, must lie in 1..500")

    @property
    def focal(self) -> float:
        """Focal length [px]."""
        return 0.5 * self.width / math.tan(math.radians(0.5 * self.fov))

    @property
    def scale(self) -> float:
        """Pixels per metre on the ground."""
        return self.focal / self.above


def render(
    camera: TopDownCamera,
    ego: EgoState,
    ego_size: tuple[float, float],
    objects: Objects,
    route: Route,
    drivable: DrivableMap | None,
) -> UInt8:
    """Draw road, route, traffic and ego.

    Args:
        ego_size: length and width of the ego [m].
        drivable: None draws no road.

    Returns:
        Picture (height, width, 4), blue green red alpha.
    """
    to_pixel = _map_to_pixel(camera, ego)
    picture = _ground(camera, to_pixel, drivable)
    _polyline(picture, to_pixel, route.x, route.y, max(round(0.8 * camera.scale), 1))
    corners = box_corners(objects.x, objects.y, objects.yaw, objects.length, objects.width)
    for box in corners:
        _vehicle(picture, to_pixel, box, TRAFFIC)
    state = (np.array([value]) for value in (ego.x, ego.y, ego.yaw, *ego_size))
    _vehicle(picture, to_pixel, box_corners(*state)[0], EGO)
    return picture


_PALETTE = np.array([GRASS] * 128 + [ROAD] * 128, dtype=np.uint8)


def _map_to_pixel(camera: TopDownCamera, ego: EgoState) -> Float64:
    """Affine matrix (2, 3) from map metres to pixel coordinates; forward is up, left is left."""
    cos, sin, k = math.cos(ego.yaw), math.sin(ego.yaw), camera.scale
    to_body = np.array([[cos, sin, -(ego.x * cos + ego.y * sin)], [-sin, cos, ego.x * sin - ego.y * cos]])
    column = -k * to_body[1] + [0.0, 0.0, 0.5 * camera.width + k * camera.left]
    row = -k * to_body[0] + [0.0, 0.0, 0.5 * camera.height + k * camera.ahead]
    return np.stack([column, row])


def _ground(camera: TopDownCamera, to_pixel: Float64, drivable: DrivableMap | None) -> UInt8:
    size = (camera.width, camera.height)
    if drivable is None:
        return np.tile(np.array(GRASS, dtype=np.uint8), (camera.height, camera.width, 1))
    half_cell = 0.5 * drivable.cell
    cell_to_map = np.array(
        [
            [drivable.cell, 0.0, drivable.origin_x + half_cell],
            [0.0, drivable.cell, drivable.origin_y + half_cell],
            [0.0, 0.0, 1.0],
        ]
    )
    road = cv2.warpAffine(drivable.mask, to_pixel @ cell_to_map, size, flags=cv2.INTER_LINEAR)
    picture: UInt8 = _PALETTE[road]
    return picture


def _pixels(to_pixel: Float64, points: Float64) -> NDArray[np.int32]:
    pixels = points @ to_pixel[:, :2].T + to_pixel[:, 2]
    fixed_point: NDArray[np.int32] = np.round(np.clip(pixels, -5000, 9000) * 2**_SHIFT).astype(np.int32)
    return fixed_point


def _polyline(picture: UInt8, to_pixel: Float64, x: Float64, y: Float64, thickness: int) -> None:
    points = _pixels(to_pixel, np.stack([x, y], axis=1))
    cv2.polylines(picture, [points], False, ROUTE, thickness, cv2.LINE_AA, _SHIFT)


def _vehicle(picture: UInt8, to_pixel: Float64, box: Float64, colour: tuple[int, int, int, int]) -> None:
    """Fill the body and the windscreen; `box` is (4, 2) [m]: front left, front right, rear right, rear left."""
    cv2.fillConvexPoly(picture, _pixels(to_pixel, box), colour, cv2.LINE_AA, _SHIFT)
    front, rear = box[:2], box[[3, 2]]
    glass = np.concatenate([front + 0.25 * (rear - front), (front + 0.4 * (rear - front))[::-1]])
    cv2.fillConvexPoly(picture, _pixels(to_pixel, glass), GLASS, cv2.LINE_AA, _SHIFT)
