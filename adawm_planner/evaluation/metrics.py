"""Per-frame motion and per-episode ends in, named scores out; every formula says where it is from.

Next stage: episode.py collects what one episode needs, report.py turns many episodes into one document.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from adawm_planner.data_types import Float64

DRIVING_SCORE_FORMULA = "carla-leaderboard-2.1"
"""Formula of `driving_score`; scores of other formulas (1.0, 2.0, Bench2Drive) are not comparable."""

VEHICLE_COLLISION_COEFFICIENT = 0.7
"""Leaderboard 2.1's coefficient of one collision with a vehicle."""

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927, JASA 22), which stays honest near 0 and 1.

    Raises:
        ValueError: `trials` is not positive or `successes` is outside 0..trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials is not a proportion")
    p, z2n = successes / trials, z * z / trials
    centre = (p + 0.5 * z2n) / (1.0 + z2n)
    half = z * math.sqrt(p * (1.0 - p) / trials + 0.25 * z2n / trials) / (1.0 + z2n)
    # The bounds at 0 and 1 are exact in theory; rounding must not push them outside.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == trials else min(centre + half, 1.0)
    return low, high


def mean_finite(values: Iterable[float]) -> float:
    """Mean of the finite values; inf when none is (so that "no threat" never looks like a TTC of 0)."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.inf


def driving_score(route_completion: float, vehicle_collisions: int) -> float:
    """CARLA Leaderboard 2.1's driving score, 0..100, of the infractions that exist here.

    Route completion x infraction penalty, the penalty being (1 - offroute) / (1 + sum c n)
    (leaderboard.carla.org/evaluation_v2_1). Here offroute = 0, because leaving the lane ends the episode as a
    route deviation, and only collisions with vehicles exist (c = 0.7): no walkers, lights, stop signs or
    emergency vehicles, and no minimum-speed checkpoints. A timeout ends the route, which costs completion only.

    Raises:
        ValueError: the completion is outside 0..1, or there are fewer than 0 collisions.
    """
    if not 0.0 <= route_completion <= 1.0:
        raise ValueError(f"route completion is {route_completion}, needs 0..1")
    if vehicle_collisions < 0:
        raise ValueError(f"vehicle collisions are {vehicle_collisions}, need at least 0")
    return 100.0 * route_completion / (1.0 + VEHICLE_COLLISION_COEFFICIENT * vehicle_collisions)


@dataclass(frozen=True)
class ComfortBounds:
    """nuPlan's ego_is_comfortable bounds (nuplan-devkit, metrics_description.md); all of them must hold."""

    min_longitudinal_acceleration: float = -4.05  # m/s2
    max_longitudinal_acceleration: float = 2.40  # m/s2
    max_lateral_acceleration: float = 4.89  # m/s2, absolute
    max_yaw_rate: float = 0.95  # rad/s, absolute
    max_yaw_acceleration: float = 1.93  # rad/s2, absolute
    max_longitudinal_jerk: float = 4.13  # m/s3, absolute
    max_jerk: float = 8.37  # m/s3, magnitude in the plane


NUPLAN_BOUNDS = ComfortBounds()

ACCELERATION_WINDOW_S = 0.8
DERIVATIVE_WINDOW_S = 1.5
"""nuPlan's Savitzky-Golay windows: 8 and 15 samples of 0.1 s, kept here as times."""


@dataclass(frozen=True)
class Comfort:
    """Extremes of one episode's motion, and which of nuPlan's bounds it kept."""

    min_longitudinal_acceleration: float  # m/s2
    max_longitudinal_acceleration: float  # m/s2
    max_lateral_acceleration: float  # m/s2, absolute
    max_yaw_rate: float  # rad/s, absolute
    max_yaw_acceleration: float  # rad/s2, absolute
    max_longitudinal_jerk: float  # m/s3, absolute
    max_jerk: float  # m/s3, magnitude

    def within(self, bounds: ComfortBounds = NUPLAN_BOUNDS) -> dict[str, bool]:
        """Which bound holds, by name of the extreme."""
        low = self.min_longitudinal_acceleration >= bounds.min_longitudinal_acceleration
        upper = {name: getattr(self, name) <= getattr(bounds, name) for name in UPPER_BOUNDED}
        return {"min_longitudinal_acceleration": low, **upper}

    @property
    def comfortable(self) -> bool:
        """True where every one of nuPlan's bounds holds over the whole episode."""
        return all(self.within().values())


UPPER_BOUNDED = (
    "max_longitudinal_acceleration",
    "max_lateral_acceleration",
    "max_yaw_rate",
    "max_yaw_acceleration",
    "max_longitudinal_jerk",
    "max_jerk",
)


def comfort(time: Float64, speed: Float64, yaw: Float64, longitudinal_acceleration: Float64) -> Comfort:
    """Extremes of the motion after nuPlan's smoothing; derivatives use the stamps, never an assumed period.

    Args:
        time: (T,) s, strictly increasing; gaps are bridged linearly.
        speed: (T,) m/s along the body's x axis.
        yaw: (T,) rad, map; unwrapped here.
        longitudinal_acceleration: (T,) m/s2 along the body's x axis.

    Raises:
        ValueError: fewer than two frames, unequal lengths, a value that is not finite, or stamps that do not increase.
    """
    dt, (speed, yaw, acceleration) = _uniform(time, speed, np.unwrap(yaw), longitudinal_acceleration)
    along = local_polynomial(acceleration, dt, ACCELERATION_WINDOW_S, 0, 2)
    yaw_rate = local_polynomial(yaw, dt, DERIVATIVE_WINDOW_S, 1, 2)
    across = local_polynomial(speed * yaw_rate, dt, ACCELERATION_WINDOW_S, 0, 2)
    jerk_along = local_polynomial(along, dt, DERIVATIVE_WINDOW_S, 1, 2)
    jerk = local_polynomial(np.hypot(along, across), dt, DERIVATIVE_WINDOW_S, 1, 2)
    return Comfort(
        min_longitudinal_acceleration=float(along.min()),
        max_longitudinal_acceleration=float(along.max()),
        max_lateral_acceleration=float(np.abs(across).max()),
        max_yaw_rate=float(np.abs(yaw_rate).max()),
        max_yaw_acceleration=float(np.abs(local_polynomial(yaw, dt, DERIVATIVE_WINDOW_S, 2, 3)).max()),
        max_longitudinal_jerk=float(np.abs(jerk_along).max()),
        max_jerk=float(np.abs(jerk).max()),
    )


def _uniform(time: Float64, *series: Float64) -> tuple[float, list[Float64]]:
    """The median period [s] and every series (T,) resampled to it."""
    if len(time) < 2 or any(len(values) != len(time) for values in series):
        raise ValueError(f"comfort needs at least 2 frames of equal number, got {len(time)} stamps")
    if not all(np.isfinite(values).all() for values in (time, *series)):
        raise ValueError("comfort needs finite values; a stamp, speed, yaw or acceleration is not")
    steps = np.diff(time)
    if not (steps > 0.0).all():
        raise ValueError(f"stamps must increase, smallest step is {steps.min()} s")
    dt = float(np.median(steps))
    grid = time[0] + dt * np.arange(round((time[-1] - time[0]) / dt) + 1)
    return dt, [np.interp(grid, time, values) for values in series]


def local_polynomial(values: Float64, dt: float, window: float, derivative: int, degree: int) -> Float64:
    """Savitzky-Golay filter (Analytical Chemistry 36, 1964): the derivative of a sliding polynomial fit.

    Args:
        values: (T,) samples every `dt` s.
        window: width of the fit [s]; shortened where the series is shorter.
        derivative: 0 for the smoothed value itself, else its order.
        degree: of the polynomial; lowered where there are too few samples.

    Returns:
        (T,) one value per sample; within half a window of an end, that end's own fit is evaluated off-centre.
    """
    count = len(values)
    half = min(int(round(0.5 * window / dt)), (count - 1) // 2)
    width = 2 * half + 1
    degree = min(degree, width - 1)
    if degree < derivative:
        return np.zeros(count)
    offsets = dt * np.arange(-half, half + 1, dtype=np.float64)
    fit = np.linalg.pinv(np.vander(offsets, degree + 1, increasing=True))  # (degree + 1, width)
    coefficients = np.lib.stride_tricks.sliding_window_view(values, width) @ fit.T  # (T - 2 half, degree + 1)
    # Each sample takes the fit centred nearest to it, so only the ends are off-centre.
    centre = np.clip(np.arange(count), half, count - 1 - half)
    offset = np.asarray(dt * (np.arange(count) - centre), dtype=np.float64)
    return _derivative_at(coefficients[centre - half], offset, derivative)


def _derivative_at(coefficients: Float64, offset: Float64, derivative: int) -> Float64:
    """Derivative of each row's polynomial (rising powers) at its own offset."""
    powers = range(derivative, coefficients.shape[1])
    terms = [math.perm(k, derivative) * coefficients[:, k] * offset ** (k - derivative) for k in powers]
    return np.asarray(sum(terms), dtype=np.float64)
