"""Route geometry: points in, arc length, headings, curvature and projections out.

Bends are found from the route alone, so that the distance to the next junction manoeuvre is known on
any vehicle, with or without a map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import Float64, Route

BEND_CURVATURE = 0.03
"""Curvature above which a route point belongs to a bend [1/m]: a radius of 33 m."""

SMOOTHING_M = 5.0
"""Length over which heading differences are averaged into a curvature [m]."""


MAX_POINTS, MAX_COORDINATE_M, MAX_STEP_M = 20_000, 1e7, 200.0
"""Most points of a route, its largest coordinate [m] and step [m]: beyond them it is no lane's centre line.

As many points are 20 km as CARLA publishes routes; while a node builds one of them, up to 13 ms, it does nothing else.
"""

LONGEST_M = 2.0
"""Longest step of a built route [m]: half of it is as far as a place on the route is from its nearest point.

A longer one is filled in: else the nearest point may be of another road than the nearest segment.
"""

NEAREST_M, BACKWARDS_M = 0.2, 1.5
"""Least distance between two points of a route, and longest step back that is a flaw of the route and no turn [m]."""

COURSE_M = 10.0
"""How far a course looks to either side [m]: a change of lanes by one step of 3.5 m to the side is 0.2 rad of it."""

BEHIND_M, AHEAD_M = 20.0, 60.0
"""Where the next projection is looked for, from the latest one [m]: farther than a vehicle comes in a few frames."""

TIE_M = 1.0
"""Two passes of a route whose distances differ by less are equally near: half the way to the middle of the lane."""


@dataclass(frozen=True)
class RouteProjection:
    """Where a pose lies relative to a route."""

    index: int  # of the route point at or before the foot point
    s: float  # m along the route, clipped to its ends
    lateral: float  # m, left of the route positive
    yaw: float  # rad, heading of the route at the foot point


def route_from_points(x: ArrayLike, y: ArrayLike) -> Route:
    """Build a route from lane-centre points in driving order.

    Args:
        x, y: (M,) coordinates in the map frame [m]; points nearer than NEAREST_M to the one before are dropped, and so
            are steps back of up to BACKWARDS_M, which CARLA's own routes make where a lane is shorter than a step.
            Steps longer than LONGEST_M are filled in along their straight line.

    Raises:
        ValueError: fewer than two distinct points, a value that is not finite, or more (filled in ones too), farther
            or sparser points than MAX_POINTS, MAX_COORDINATE_M and MAX_STEP_M.
    """
    points = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1)
    if not np.isfinite(points).all():
        raise ValueError("route has a coordinate that is not finite")
    check_count(len(points))
    if len(points) and (largest := float(np.abs(points).max())) > MAX_COORDINATE_M:
        raise ValueError(f"route has a coordinate of {largest:g} m, at most {MAX_COORDINATE_M:g} m are taken")
    points = _forward(points)
    if len(points) < 2:
        raise ValueError(f"route has {len(points)} distinct point(s), needs at least 2")
    points = _filled(points)
    steps = np.diff(points, axis=0)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    yaw = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    curvature = _curvature(s, yaw)
    to_bend, since_bend = _bend_distances(s, np.abs(curvature) > BEND_CURVATURE)
    heading = np.concatenate([yaw, yaw[-1:]])
    return Route(points[:, 0], points[:, 1], heading, s, curvature, to_bend, since_bend)


def check_count(points: int) -> None:
    """Refuse a route of too many points.

    Raises:
        ValueError: more than MAX_POINTS.
    """
    if points > MAX_POINTS:
        limit = f"at most {MAX_POINTS} are taken, which may be {LONGEST_M:g} m apart"
        raise ValueError(f"route has {points} points, {limit}; publish it in parts")


def _forward(points: Float64) -> Float64:
    """The points (M, 2) that lead on; the last one stays, unless it is a repetition or a step back itself."""
    steps = np.diff(points, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    backwards = ((steps[1:] * steps[:-1]).sum(axis=1) < 0.0) & (lengths[1:] <= BACKWARDS_M)
    if (lengths >= NEAREST_M).all() and not backwards.any():
        return points  # as nearly every route is: the loop would take as long as all the rest
    return points[_kept(points[:, 0].tolist(), points[:, 1].tolist())]


def _kept(x: list[float], y: list[float]) -> list[int]:
    """Indices of the points that lead on: plain numbers, since each depends on the one before."""
    kept: list[int] = []
    before_x = before_y = 0.0  # the step that led to the latest one
    for k in range(len(x)):
        if not kept:
            kept.append(k)
            continue
        dx, dy = x[k] - x[kept[-1]], y[k] - y[kept[-1]]
        length = math.hypot(dx, dy)
        back = length <= BACKWARDS_M and dx * before_x + dy * before_y < 0.0
        if length < 1e-3 or back:
            continue
        if length >= NEAREST_M or len(kept) == 1:
            kept.append(k)
            before_x, before_y = dx, dy
        elif k == len(x) - 1:
            kept[-1] = k
    return kept


def _filled(points: Float64) -> Float64:
    """The points (M, 2), with as many between two of them as leave no step longer than LONGEST_M."""
    steps = np.diff(points, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    longest = float(lengths.max())
    if longest > MAX_STEP_M:
        raise ValueError(f"route has two points {longest:.0f} m apart, at most {MAX_STEP_M:.0f} m are taken")
    pieces = np.ceil(lengths / LONGEST_M - 1e-6).astype(np.int64)  # a step just as long may be off by its rounding
    pieces = np.maximum(pieces, 1)
    total = int(pieces.sum())
    if total == len(steps):
        return points
    check_count(total + 1)
    step = np.repeat(np.arange(len(steps)), pieces)
    share = (np.arange(total) - (np.cumsum(pieces) - pieces)[step]) / pieces[step]
    return np.concatenate([points[step] + share[:, None] * steps[step], points[-1:]])


def same_route(route: Route | None, other: Route | None) -> bool:
    """Whether two routes lead the same way."""
    if route is None or other is None:
        return route is other
    return np.array_equal(route.x, other.x) and np.array_equal(route.y, other.y)


def course(route: Route, s: float) -> float:
    """Direction [rad] in which a route leads around arc length `s` [m]: from COURSE_M before to as far behind it.

    The heading of a single step says little where a route changes lanes by a step to the side.
    """
    ends = [s - COURSE_M, s + COURSE_M]
    x, y = np.interp(ends, route.s, route.x), np.interp(ends, route.s, route.y)
    return math.atan2(y[1] - y[0], x[1] - x[0])


def _curvature(s: Float64, yaw: Float64) -> Float64:
    """Heading change per metre around each point (M,) from segment headings (M - 1,)."""
    middle = 0.5 * (s[1:] + s[:-1])
    before = np.interp(s - 0.5 * SMOOTHING_M, middle, yaw)
    after = np.interp(s + 0.5 * SMOOTHING_M, middle, yaw)
    return (after - before) / SMOOTHING_M


def _bend_distances(s: Float64, bend: np.ndarray) -> tuple[Float64, Float64]:
    """Distance to the next bend point and since the latest bend's first point, both (M,)."""
    to_bend = np.full(len(s), np.inf)
    since_bend = np.full(len(s), np.inf)
    first = s[bend & ~np.concatenate([[False], bend[:-1]])]
    inside = s[bend]
    ahead = np.searchsorted(inside, s)
    known = ahead < len(inside)
    to_bend[known] = inside[ahead[known]] - s[known]
    begun = np.searchsorted(first, s, side="right")
    known = begun > 0
    since_bend[known] = s[known] - first[begun[known] - 1]
    return to_bend, since_bend


def project(route: Route, x: float, y: float, near: int | None = None) -> RouteProjection:
    """Project a position [m, map] onto the nearest segment of the route.

    A route may cross itself or be driven in laps, so it is followed in order.

    Args:
        near: index of the latest projection: only what lies up to BEHIND_M before and AHEAD_M after it is searched.
            None, where the route is entered: the first pass that comes within TIE_M of the nearest one.
    """
    first, last = (0, len(route.x)) if near is None else _around(route, near)
    squared = (route.x[first:last] - x) ** 2 + (route.y[first:last] - y) ** 2
    i = first + (_first_pass(np.sqrt(squared)) if near is None else int(np.argmin(squared)))
    best: RouteProjection | None = None
    for j in (i - 1, i):
        if 0 <= j < len(route.x) - 1:
            candidate = _on_segment(route, j, x, y)
            if best is None or abs(candidate.lateral) < abs(best.lateral):
                best = candidate
    assert best is not None
    return best


def distance_to(route: Route, x: float, y: float, near: int | None = None) -> float:
    """Distance [m] from a position to the nearest point of the route, also beyond its ends; `near` as in `project`."""
    foot = project(route, x, y, near)
    near_x, near_y = np.interp(foot.s, route.s, route.x), np.interp(foot.s, route.s, route.y)
    return math.hypot(float(near_x) - x, float(near_y) - y)


def same_road(
    route: Route, other: Route, x: float, y: float, near: int | None, apart_m: float, turn_rad: float
) -> bool:
    """Whether two routes lead the same way past a place, though they may begin and end elsewhere.

    Args:
        x, y: the place [m, map], finite.
        near: index of the latest projection onto the first route, as `project` takes it.
        apart_m: farthest that either may be from the place [m].
        turn_rad: largest angle between their courses there [rad].
    """
    if max(distance_to(route, x, y, near), distance_to(other, x, y)) > apart_m:
        return False
    courses = course(route, project(route, x, y, near).s), course(other, project(other, x, y).s)
    return abs(wrap_angle(courses[1] - courses[0])) <= turn_rad


def _around(route: Route, near: int) -> tuple[int, int]:
    """Range of the points that may come after a projection at index `near`; two at least."""
    here = route.s[near]
    first, last = np.searchsorted(route.s, [here - BEHIND_M, here + AHEAD_M])
    return min(int(first), near), max(int(last), near + 2)


def _first_pass(distance: Float64) -> int:
    """Index of the nearest point (of distances (M,) [m]) of the first pass that is near enough."""
    near = distance <= distance.min() + TIE_M
    begin = int(np.argmax(near))
    leaves = np.flatnonzero(~near[begin:])
    end = begin + int(leaves[0]) if leaves.size else len(distance)
    return begin + int(np.argmin(distance[begin:end]))


def _on_segment(route: Route, j: int, x: float, y: float) -> RouteProjection:
    """Project onto segment j; beyond an inner end the lateral value is the distance to that end."""
    x0, y0, yaw = float(route.x[j]), float(route.y[j]), float(route.yaw[j])
    length = float(route.s[j + 1] - route.s[j])
    dx, dy = x - x0, y - y0
    along = dx * math.cos(yaw) + dy * math.sin(yaw)
    across = -dx * math.sin(yaw) + dy * math.cos(yaw)
    clipped = min(max(along, 0.0), length)
    before_start = j == 0 and along < 0.0
    behind_end = j == len(route.x) - 2 and along > length
    if along != clipped and not before_start and not behind_end:
        across = math.copysign(math.hypot(across, along - clipped), across)
    return RouteProjection(j, float(route.s[j]) + clipped, across, wrap_angle(yaw))
