"""Frames in, a contradiction out: the place that odometry tells does not move as its twist says.

A localisation that hangs goes on with fresh stamps and a true speed, and a twist in the axes of the map or in degrees
is as large as a true one: each of their messages alone looks sound. But the rules of the gate aim by that twist.
"""

from __future__ import annotations

import cmath
from collections import deque
from dataclasses import dataclass, replace

from adawm_planner.angles import wrap_angle
from adawm_planner.dims import FRAME_S
from adawm_planner.runtime.frame_inputs import FrameInputs

WINDOW_S = 20.5 * FRAME_S
"""Time over which place and twist are compared: 20 frames. A jump is in doubt for as long as that."""


@dataclass(frozen=True)
class _Pose:
    """Where odometry says that the vehicle is, and where its twists led from any origin."""

    stamp_s: float
    place: complex  # m, x + iy in the map
    velocity: complex  # m/s, likewise
    yaw: float  # rad
    yaw_rate: float  # rad/s
    led: complex = 0j  # m, integral of the velocity
    turned: float = 0.0  # rad, integral of the yaw rate
    doubted: bool = False  # it contradicted the one before it that it was compared with


class WayCheck:
    """Compares the ways and the turns between poses with the integrals of the twist."""

    def __init__(self, limit_m: float, limit_rad: float) -> None:
        """Take the largest differences that are believed."""
        self._limit_m, self._limit_rad = limit_m, limit_rad
        self._poses: deque[_Pose] = deque()

    def restart(self) -> None:
        """Forget the poses: the vehicle was placed somewhere else."""
        self._poses.clear()

    def add(self, frame: FrameInputs) -> str:
        """Take a frame whose values are finite; return a line that tells of a contradiction, else nothing."""
        o = frame.odometry
        velocity = complex(o.speed, o.lateral_speed) * cmath.exp(1j * o.yaw)
        pose = _Pose(frame.stamp_s, complex(o.x, o.y), velocity, o.yaw, o.yaw_rate)
        while self._poses and pose.stamp_s - self._poses[0].stamp_s > WINDOW_S:
            self._poses.popleft()
        if self._poses:
            last = self._poses[-1]
            half = 0.5 * (pose.stamp_s - last.stamp_s)
            led, turned = half * (last.velocity + velocity), half * (last.yaw_rate + o.yaw_rate)
            pose = replace(pose, led=last.led + led, turned=last.turned + turned)
        # Not with one that was itself in doubt, while there is another: a place that was wrong once would count twice.
        sound = (each for each in self._poses if not each.doubted)
        found = self._compare(next(sound, self._poses[0] if self._poses else pose), pose)
        self._poses.append(replace(pose, doubted=bool(found)))
        return found

    def _compare(self, first: _Pose, pose: _Pose) -> str:
        seconds = pose.stamp_s - first.stamp_s
        moved, led = pose.place - first.place, pose.led - first.led
        if abs(moved - led) > self._limit_m:
            return (
                f"odometry: its place moved by ({moved.real:.2f}, {moved.imag:.2f}) m in {seconds:.2f} s and its "
                f"velocity says ({led.real:.2f}, {led.imag:.2f}) m, at most {self._limit_m:g} m apart; is the twist in "
                "the vehicle's axes, and does localisation hang?"
            )
        off = wrap_angle(pose.yaw - first.yaw - (pose.turned - first.turned))
        if abs(off) > self._limit_rad:
            return (
                f"odometry: its heading is {abs(off):.2f} rad from where its yaw rate led in {seconds:.2f} s, at most "
                f"{self._limit_rad:g} rad; is the rate in rad/s and positive to the left?"
            )
        return ""
