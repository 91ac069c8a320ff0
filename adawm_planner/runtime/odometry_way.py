"""Frames in, a contradiction out: the place that odometry tells does not move as its speed says.

A localisation that hangs goes on with fresh stamps and a true speed; each of its messages alone looks sound.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from adawm_planner.runtime.frame_inputs import FrameInputs

WINDOW_FRAMES = 20
"""Frame periods over which the ways are compared: a second, in which a chord is hardly shorter than its arc."""


@dataclass(frozen=True)
class _Place:
    stamp_s: float
    x: float
    y: float
    speed: float  # m/s
    way: float  # m driven by the speeds, from any origin


class WayCheck:
    """Compares the way between places with the integral of the speed."""

    def __init__(self, limit_m: float) -> None:
        """Take the largest difference that is believed [m]."""
        self._limit_m = limit_m
        self._places: deque[_Place] = deque(maxlen=WINDOW_FRAMES + 1)

    def restart(self) -> None:
        """Forget the places: the vehicle was placed somewhere else."""
        self._places.clear()

    def add(self, frame: FrameInputs) -> str:
        """Take a frame whose values are finite; return a line that tells of a contradiction, else nothing."""
        odometry, stamp_s = frame.odometry, frame.stamp_s
        speed = math.hypot(odometry.speed, odometry.lateral_speed)
        way = 0.0
        if self._places:
            last = self._places[-1]
            way = last.way + 0.5 * (last.speed + speed) * (stamp_s - last.stamp_s)
        self._places.append(_Place(stamp_s, odometry.x, odometry.y, speed, way))
        first = self._places[0]
        moved, driven = math.hypot(odometry.x - first.x, odometry.y - first.y), way - first.way
        if abs(moved - driven) <= self._limit_m:
            return ""
        seconds = stamp_s - first.stamp_s
        return (
            f"odometry: its place moved {moved:.2f} m in {seconds:.2f} s and its speed says {driven:.2f} m, "
            f"at most {self._limit_m:g} m apart"
        )
