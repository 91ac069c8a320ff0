"""The own motion and others' in, whether braking can wait any longer out.

Two futures are compared, both along the path that the vehicle's own motion makes: to go on, and to brake a moment
later. Where both meet the same danger, braking cannot wait. Others are foreseen at their present speed, and turning as
they do now, though not for long: foreseen straight on, one who turns into his own lane is braked for in vain; foreseen
on a circle (constant turn rate and velocity: Schubert, Richter and Wanielik 2008, FUSION), one who ends a turn is not.
Threat assessment by what braking can still avoid follows Brannstrom, Coelingh and Sjoberg 2010 (IEEE T-ITS 11:3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adawm_planner.config.gate import PathLimits
from adawm_planner.data_types import Float64, Int64, VehicleInfo
from adawm_planner.safety.own_path import SLOWEST_MPS, Others, OwnPath
from adawm_planner.safety.verdict import Rule, Verdict

COARSE_S = 0.1
"""Time between two looks at the future that only tell who can be met at all [s]."""

FINE_S = 0.02
"""The same for those who can [s]: a corner that is crossed at 16 m/s is missed if it is less than 0.32 m."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Foresight:
    """What lies ahead if nothing changes."""

    verdict: Verdict | None
    time_to_collision_s: float  # inf where nothing is met within the horizon
    met: Bools  # (N,) who would be met


def judge_braking(
    speed: float,
    path: OwnPath,
    vehicle: VehicleInfo,
    others: Others,
    ids: Int64,
    limits: PathLimits,
    deceleration: float,
) -> Foresight:
    """Compare going on with braking later.

    Args:
        speed: own, forward [m/s].
        others: (N,).
        ids: of the others (N,).
        deceleration: what is asked for where braking cannot wait [m/s2].
    """
    nobody = np.zeros(len(ids), dtype=np.bool_)
    near = _can_be_met(speed, path, vehicle, others, limits) if speed > 0.0 else nobody
    if not near.any():
        return Foresight(None, math.inf, nobody)
    times = _times(FINE_S, limits)  # (T,)
    foreseen = _foresee(times, others, near, limits)
    going = speed * times
    met, _ = _meets(going, path, vehicle, foreseen, limits)  # (T, n)
    hit = np.asarray(met.any(axis=0))  # (n,)
    if not hit.any():
        return Foresight(None, math.inf, nobody)
    braked = _braked(speed, times, limits)  # (K,)
    touch, from_front = _meets(braked, path, vehicle, foreseen.only(hit, len(braked)), limits)
    first = np.argmax(met, axis=0)  # (n,)
    soonest = float(times[first[hit]].min())
    everybody = nobody.copy()
    everybody[near] = hit
    danger = np.zeros_like(hit)
    danger[hit] = touch.any(axis=0) & from_front
    if not danger.any():
        return Foresight(None, soonest, everybody)
    i = int(np.argmin(np.where(danger, first, len(times))))
    stopping = speed * limits.delay_s + speed**2 / (2.0 * limits.brake_mps2)
    about = f"object {ids[near][i]}"
    verdict = Verdict(Rule.BRAKING_DISTANCE, float(going[first[i]]), stopping, deceleration, about)
    return Foresight(verdict, soonest, everybody)


def _times(step_s: float, limits: PathLimits) -> Float64:
    return np.arange(0.0, limits.horizon_s + 0.5 * step_s, step_s)


def _can_be_met(speed: float, path: OwnPath, vehicle: VehicleInfo, others: Others, limits: PathLimits) -> Bools:
    """Who of the others (N,) may be met on going on: with few looks, at bodies so wide that none is passed between two.

    The bodies' places and corners move by at most what is added in half the time between two looks.
    """
    near = _within_reach(speed, vehicle, others, limits)
    if not near.any():
        return near
    times = _times(COARSE_S, limits)
    own_corner = 0.5 * math.hypot(vehicle.length, vehicle.width) + limits.margin_m + limits.side_m
    corner = np.hypot(others.half_length[near], others.half_width[near])
    pace = np.hypot(others.vx[near], others.vy[near])
    turning = np.minimum(np.abs(others.yaw_rate[near]), limits.turning_mps2 / np.maximum(pace, SLOWEST_MPS))
    wider = 0.5 * COARSE_S * (speed * (1.0 + abs(path.curvature) * own_corner) + pace + turning * corner)
    touch, _ = _meets(speed * times, path, vehicle, _foresee(times, others, near, limits), limits, wider)
    near[near] = touch.any(axis=0)
    return near


def _within_reach(speed: float, vehicle: VehicleInfo, others: Others, limits: PathLimits) -> Bools:
    """Which of the others (N,) can be met at all within the horizon."""
    reach = (speed + np.hypot(others.vx, others.vy)) * limits.horizon_s + limits.margin_m + limits.side_m
    bodies = np.hypot(others.half_length, others.half_width) + 0.5 * math.hypot(vehicle.length, vehicle.width)
    return np.asarray(np.hypot(others.x, others.y) <= reach + bodies)


def _braked(speed: float, times: Float64, limits: PathLimits) -> Float64:
    """Path lengths (K,) [m] of one who brakes after the delay, at the first K of the times (T,): while he moves."""
    moving = times[times < limits.delay_s + speed / limits.brake_mps2]
    braking = np.maximum(moving - limits.delay_s, 0.0)
    return np.asarray(speed * (np.minimum(moving, limits.delay_s) + braking) - 0.5 * limits.brake_mps2 * braking**2)


@dataclass(frozen=True)
class _Foreseen:
    """Where those near will be, in the vehicle's frame of now; arrays (T, n)."""

    x: Float64
    y: Float64
    yaw: Float64
    half_length: Float64  # (n,)
    half_width: Float64  # (n,)

    def only(self, which: Bools, looks: int) -> _Foreseen:
        """Return those of them (n,) alone, at the first looks: every row and column costs its time."""
        at = self.x[:looks, which], self.y[:looks, which], self.yaw[:looks, which]
        return _Foreseen(*at, self.half_length[which], self.half_width[which])


def _foresee(times: Float64, others: Others, near: Bools, limits: PathLimits) -> _Foreseen:
    """Let those near go on for `times` (T,), each along an arc that straightens with path.turning_s."""
    vx, vy = others.vx[near], others.vy[near]
    # Who is seen to turn faster than tyres hold has jumped, or is told in degrees.
    fastest = limits.turning_mps2 / np.maximum(np.hypot(vx, vy), SLOWEST_MPS)
    rate = np.clip(others.yaw_rate[near], -fastest, fastest)
    turned = rate * limits.turning_s * -np.expm1(-times[:, None] / limits.turning_s)
    between = 0.5 * (turned[1:] + turned[:-1])
    cos, sin = np.cos(between), np.sin(between)
    moved = np.zeros((2, *turned.shape))
    velocity = np.stack([cos * vx - sin * vy, sin * vx + cos * vy])
    np.cumsum(np.diff(times)[:, None] * velocity, axis=1, out=moved[:, 1:])
    return _Foreseen(
        x=others.x[near] + moved[0],
        y=others.y[near] + moved[1],
        yaw=others.yaw[near] + turned,
        half_length=others.half_length[near],
        half_width=others.half_width[near],
    )


def _meets(
    s: Float64,
    path: OwnPath,
    vehicle: VehicleInfo,
    foreseen: _Foreseen,
    limits: PathLimits,
    wider: Float64 | float = 0.0,
) -> tuple[Bools, Bools]:
    """Whether the own body touches each other one (T, n), by separating axes, and first with its front (n,).

    Who drives into the rear half of one who brakes is no reason to brake. With its front it touches whose centre is
    ahead, and who is met by the front half alone: of a bus across the way the centre may be far behind its nose. The
    own body is taken for `wider` (n,) [m] longer and wider at each of its sides.
    """
    x, y, heading = (each[:, None] for each in path.at(s))  # (T, 1)
    dx, dy = foreseen.x - x, foreseen.y - y  # (T, n)
    cos, sin = np.cos(heading), np.sin(heading)
    ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
    angle = foreseen.yaw - heading
    c, d = np.cos(angle), np.sin(angle)
    length, width = foreseen.half_length, foreseen.half_width
    own_length = 0.5 * vehicle.length + limits.margin_m + wider
    own_width = 0.5 * vehicle.width + limits.side_m + wider
    touch = _overlap(ahead, left, c, d, (length, width), (own_length, own_width))
    first = np.argmax(touch, axis=0), np.arange(touch.shape[1])  # (n,)
    ahead, left, c, d = (each[first] for each in (ahead, left, c, d))
    quarter = 0.5 * own_length
    front, rear = (
        _overlap(ahead + shift, left, c, d, (length, width), (quarter, own_width)) for shift in (-quarter, quarter)
    )
    return touch, np.asarray((ahead > 0.0) | (front & ~rear))


def _overlap(
    ahead: Float64,
    left: Float64,
    c: Float64,
    d: Float64,
    other: tuple[Float64, Float64],
    own: tuple[Float64 | float, Float64 | float],
) -> Bools:
    """Whether rectangles overlap, by separating axes (Gottschalk, Lin and Manocha 1996, SIGGRAPH).

    Args:
        ahead, left: centre of the other one from the own one, along and across the own one [m].
        c, d: cosine and sine of its heading relative to the own one.
        other, own: half length and half width of each [m].
    """
    (length, width), (own_length, own_width) = other, own
    c_abs, d_abs = np.abs(c), np.abs(d)
    touch = np.abs(ahead) <= own_length + c_abs * length + d_abs * width
    touch &= np.abs(left) <= own_width + c_abs * width + d_abs * length
    touch &= np.abs(c * ahead + d * left) <= length + c_abs * own_length + d_abs * own_width
    touch &= np.abs(c * left - d * ahead) <= width + c_abs * own_width + d_abs * own_length
    return np.asarray(touch)
