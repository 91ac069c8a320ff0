"""Questions about lanes, answered by the `carla` wheel's own OpenDRIVE library from the map text.

Positions go in and come out in the `map` frame; the library's y axis is the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from adawm_planner.data_types import Float64
from adawm_planner.observation.opendrive import check_opendrive

MARKING_NONE = 10
"""carla.LaneMarkingType.NONE."""


@dataclass(frozen=True)
class LanePoint:
    """The driving-lane centre nearest to a place."""

    road_id: int
    section_id: int
    lane_id: int
    is_junction: bool
    x: float  # m, map
    y: float  # m, map
    z: float  # m, map
    roll: float  # rad
    pitch: float  # rad
    yaw: float  # rad
    width: float  # m
    left_marking: int  # carla.LaneMarkingType
    right_marking: int

    def lateral(self, x: float, y: float) -> float:
        """How far a position [m, map] lies left of the lane's centre line [m]."""
        return (y - self.y) * math.cos(self.yaw) - (x - self.x) * math.sin(self.yaw)


class LaneMap:
    """One OpenDRIVE map."""

    def __init__(self, carla: Any, xml: str) -> None:
        self._carla, self._map = carla, carla.Map("map", xml)

    @staticmethod
    def open(xml: str) -> LaneMap | None:
        """Read a map; None when the carla wheel is not installed.

        Raises:
            ValueError: the text is not OpenDRIVE with at least one driving lane; see `check_opendrive`.
        """
        try:
            import carla
        except ImportError:
            return None
        check_opendrive(xml)
        try:
            lanes = LaneMap(carla, xml)
        except (RuntimeError, LookupError) as error:
            raise ValueError(f"OpenDRIVE map of {len(xml)} characters cannot be read: {error}") from error
        if lanes._map.get_waypoint(carla.Location()) is None:
            raise ValueError(f"OpenDRIVE map of {len(xml)} characters has no driving lane")
        return lanes

    def nearest(self, x: float, y: float, z: float = 0.0) -> LanePoint:
        """The driving-lane point nearest to a position [m, map].

        Raises:
            ValueError: the position is not finite.
        """
        if not all(map(math.isfinite, (x, y, z))):
            raise ValueError(f"no lane is near ({x}, {y}, {z}) m, which is not finite")
        found = self._map.get_waypoint(self._carla.Location(x=x, y=-y, z=z))
        where, turned = found.transform.location, found.transform.rotation
        return LanePoint(
            road_id=found.road_id,
            section_id=found.section_id,
            lane_id=found.lane_id,
            is_junction=found.is_junction,
            x=where.x,
            y=-where.y,
            z=where.z,
            roll=math.radians(turned.roll),
            pitch=-math.radians(turned.pitch),
            yaw=-math.radians(turned.yaw),
            width=found.lane_width,
            left_marking=_marking(found.left_lane_marking),
            right_marking=_marking(found.right_lane_marking),
        )

    def samples(self, distance: float) -> Float64:
        """Lane centres every `distance` [m]: rows of x, y, z [m, map], yaw [rad], width [m]."""
        rows = [
            (
                one.transform.location.x,
                -one.transform.location.y,
                one.transform.location.z,
                -math.radians(one.transform.rotation.yaw),
                one.lane_width,
            )
            for one in self._map.generate_waypoints(distance)
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 5)


class LaneWatch:
    """Notices lane markings crossed by the corners of a vehicle, as CARLA's lane-invasion sensor does.

    Inside a junction lanes overlap, and nothing is reported.
    """

    def __init__(self, lanes: LaneMap) -> None:
        self._lanes = lanes
        self._before: list[tuple[LanePoint, float]] = []

    def reset(self) -> None:
        """Forget where the corners were, as after a teleport."""
        self._before = []

    def step(self, corners: Float64) -> list[int]:
        """Take the corners (4, 2) [m, map] of one frame; returns the markings crossed since the last one."""
        now = []
        for x, y in corners.tolist():
            at = self._lanes.nearest(x, y)
            now.append((at, at.lateral(x, y)))
        crossed = {mark for old, new in zip(self._before, now, strict=False) for mark in _crossed(*old, *new)}
        self._before = now
        return sorted(crossed - {MARKING_NONE})


def _crossed(old: LanePoint, old_lateral: float, new: LanePoint, new_lateral: float) -> list[int]:
    """Markings one corner went over between two frames."""
    if old.is_junction or new.is_junction or old.road_id != new.road_id:
        return []
    if old.lane_id != new.lane_id:
        return [_side(old, old.lateral(new.x, new.y))]
    left = abs(old_lateral) <= 0.5 * old.width < abs(new_lateral)
    entered = abs(new_lateral) <= 0.5 * new.width < abs(old_lateral)
    if left or entered:
        return [_side(new, new_lateral if left else old_lateral)]
    return []


def _side(at: LanePoint, lateral: float) -> int:
    return at.left_marking if lateral > 0.0 else at.right_marking


def _marking(marking: Any) -> int:
    return MARKING_NONE if marking is None else int(marking.type)
