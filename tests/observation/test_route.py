"""Route geometry against closed-form cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.angles import wrap_angle
from adawm_planner.observation.route import (
    LONGEST_M,
    course,
    project,
    route_from_points,
    same_road,
    same_route,
)


def circle(radius: float, degrees: float = 180.0):
    angle = np.radians(np.arange(0.0, degrees, 60.0 / radius))
    return route_from_points(radius * np.sin(angle), radius * (1.0 - np.cos(angle)))


def straight_then_left():
    """30 m along x, then a left arc of radius 10 m."""
    arc = np.radians(np.arange(5.0, 91.0, 5.0))
    x = np.concatenate([np.arange(0.0, 30.1), 30.0 + 10.0 * np.sin(arc)])
    y = np.concatenate([np.zeros(31), 10.0 * (1.0 - np.cos(arc))])
    return route_from_points(x, y)


@given(st.floats(-100.0, 100.0))
def test_wrap_angle_keeps_direction(angle: float) -> None:
    wrapped = wrap_angle(angle)
    assert -math.pi <= wrapped <= math.pi
    assert math.isclose(math.cos(wrapped), math.cos(angle), abs_tol=1e-9)
    assert math.isclose(math.sin(wrapped), math.sin(angle), abs_tol=1e-9)


@pytest.mark.parametrize("radius", [8.0, 15.0, 30.0])
def test_curvature_of_a_left_circle_is_its_inverse_radius(radius: float) -> None:
    route = circle(radius)
    middle = slice(10, -10)
    np.testing.assert_allclose(route.curvature[middle], 1.0 / radius, rtol=0.02)


def test_a_right_bend_has_negative_curvature() -> None:
    left = straight_then_left()
    right = route_from_points(left.x, -left.y)
    np.testing.assert_allclose(right.curvature, -left.curvature, atol=1e-12)


def test_bend_distances() -> None:
    route = straight_then_left()
    start = float(route.s[np.argmax(route.to_bend == 0.0)])
    assert 27.0 <= start <= 31.0
    assert route.to_bend[0] == pytest.approx(start)
    assert np.isinf(route.since_bend[0])
    assert route.since_bend[-1] == pytest.approx(route.length - start)
    assert np.isinf(route_from_points([0.0, 50.0], [0.0, 0.0]).to_bend).all()


@given(st.floats(0.5, 29.0), st.floats(-3.0, 3.0))
def test_projection_on_a_straight(along: float, left: float) -> None:
    at = project(straight_then_left(), along, left)
    assert at.s == pytest.approx(along, abs=1e-9)
    assert at.lateral == pytest.approx(left, abs=1e-9)


@given(st.floats(0.3, 1.2), st.floats(-2.0, 2.0))
def test_projection_on_an_arc(angle: float, outward: float) -> None:
    radius = 10.0 + outward
    at = project(straight_then_left(), 30.0 + radius * math.sin(angle), 10.0 - radius * math.cos(angle))
    assert at.lateral == pytest.approx(-outward, abs=0.05)
    assert at.s == pytest.approx(30.0 + 10.0 * angle, abs=0.1)


def test_projection_near_an_index_follows_a_route_that_crosses_itself() -> None:
    angle = np.linspace(0.0, 4.0 * math.pi, 200)
    route = route_from_points(20.0 * np.sin(angle), 20.0 * np.cos(angle))
    second = project(route, float(route.x[150]), float(route.y[150]), near=145)
    assert second.s == pytest.approx(float(route.s[150]), abs=1.0)


def test_the_window_is_in_metres_however_dense_the_points() -> None:
    """One lap of 126 m after another: 60 m ahead there is nothing of the next one, in 0.25 m steps or in 4 m ones."""
    for count in (32, 500):
        angle = np.linspace(0.0, 4.0 * math.pi, 2 * count + 1)
        route = route_from_points(20.0 * np.sin(angle), 20.0 * (1.0 - np.cos(angle)))
        near: int | None = None
        for s in np.arange(0.0, route.length, 2.0):
            x, y = (float(np.interp(s, route.s, values)) for values in (route.x, route.y))
            at = project(route, x, y, near)
            assert at.s == pytest.approx(s, abs=0.5)
            near = at.index


def test_who_enters_a_route_enters_its_first_pass() -> None:
    angle = np.linspace(0.0, 4.0 * math.pi, 401)
    laps = route_from_points(40.0 * np.sin(angle), 40.0 * (1.0 - np.cos(angle)))
    assert project(laps, 0.0, 0.3).s < 0.1
    assert project(laps, 40.0, 40.0).s == pytest.approx(20.0 * math.pi, abs=0.2)
    closed = route_from_points(laps.x[:200], laps.y[:200])
    assert project(closed, -0.8, 0.0).s == 0.0, "0.8 m behind the start is nearer to the end, and not there"
    assert project(closed, -2.5, 0.2).s > 240.0, "2.5 m behind it is on its last stretch"


def test_steps_back_and_crowded_points_of_a_route_are_left_out() -> None:
    """As CARLA's planner leaves them where a lane is shorter than its step of 1 m."""
    x = [0.0, 1.0, 2.0, 3.0, 2.4, 3.4, 4.4, 4.404, 5.4, 6.4]
    route = route_from_points(x, np.zeros(10))
    assert route.x.tolist() == [0.0, 1.0, 2.0, 3.0, 3.4, 4.4, 5.4, 6.4]
    assert np.abs(route.curvature).max() == 0.0 and set(route.yaw.tolist()) == {0.0}
    assert route_from_points([0.0, 2.0, 2.05], [0.0] * 3).x[-1] == 2.05, "the end stays where it is"
    assert route_from_points([0.0, 0.1], [0.0] * 2).length == pytest.approx(0.1)


def test_a_hairpin_is_no_step_back() -> None:
    angle = np.linspace(0.0, math.pi, 20)
    x, y = np.append(4.0 * np.sin(angle), [-2.0, -4.0]), np.append(4.0 * (1.0 - np.cos(angle)), [8.0, 8.0])
    assert len(route_from_points(x, y).x) == 22


def test_the_course_is_the_heading_on_a_straight_and_on_a_circle() -> None:
    assert course(straight_then_left(), 12.0) == pytest.approx(0.0)
    round_about = circle(20.0)
    at = float(np.interp(30.0, round_about.s, round_about.yaw))
    assert course(round_about, 30.0) == pytest.approx(at, abs=0.03)


def test_routes_are_the_same_by_their_points() -> None:
    one, longer = route_from_points([0.0, 1.0], [0.0, 0.0]), route_from_points([0.0, 1.0, 2.0], [0.0] * 3)
    assert same_route(one, route_from_points([0.0, 1.0], [0.0, 0.0])) and same_route(None, None)
    assert not same_route(one, longer) and not same_route(one, None) and not same_route(None, one)
    assert not same_route(one, route_from_points([0.0, 1.0], [0.0, 0.5]))


def test_repeated_points_are_dropped() -> None:
    route = route_from_points([0.0, 0.0, 1.0, 1.0, 2.0], [0.0] * 5)
    assert route.s.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([0.0], [0.0], "1 distinct point"),
        ([1.0, 1.0], [2.0, 2.0], "needs at least 2"),
        ([0.0, math.nan], [0.0, 1.0], "not finite"),
        ([0.0, math.inf], [0.0, 1.0], "not finite"),
    ],
)
def test_a_route_that_is_none_is_refused(x: list[float], y: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        route_from_points(x, y)


def test_a_route_that_begins_later_or_a_lane_beside_is_the_same_road() -> None:
    x = np.arange(0.0, 101.0)
    route = route_from_points(x, np.zeros(101))
    rest, beside = route_from_points(x[52:], np.zeros(49)), route_from_points(x, np.full(101, 3.5))
    back, away = route_from_points(x[::-1], np.zeros(101)), route_from_points(x + 150.0, np.zeros(101))
    across = route_from_points(np.full(101, 50.0), x - 50.0)
    for other, same in ((route, True), (rest, True), (beside, True), (back, False), (away, False), (across, False)):
        assert same_road(route, other, 50.0, 0.0, 50, 10.0, 1.2) is same
    assert not same_road(away, route, 50.0, 0.0, None, 10.0, 1.2)


OUT_AND_BACK = np.array([0.0, 150.0, 160.0, 160.0, 150.0, 75.0, 0.0]), np.array([0.0, 0.0, 0.0, 8.0, 8.0, 8.0, 8.0])
"""A street out, and back on its other side, by two points at its ends and three."""


def test_a_place_between_two_far_points_is_on_their_segment() -> None:
    route = route_from_points(*OUT_AND_BACK)
    for near in (None, int(np.searchsorted(route.s, 60.0))):
        foot = project(route, 75.0, 0.0, near)
        assert (foot.s, foot.lateral, foot.yaw) == pytest.approx((75.0, 0.0, 0.0), abs=1e-9)
    back = project(route, 75.0, 8.0)
    assert back.s == pytest.approx(253.0) and abs(back.lateral) < 1e-9


def test_long_steps_are_filled_in_and_short_ones_stay_as_they_are() -> None:
    route = route_from_points(*OUT_AND_BACK)
    assert np.diff(route.s).max() <= LONGEST_M + 1e-9 and route.length == pytest.approx(328.0)
    corners = np.array([np.hypot(route.x - x, route.y - y).min() for x, y in zip(*OUT_AND_BACK, strict=True)])
    assert (corners == 0.0).all()
    x, y = np.arange(0.0, 100.0, LONGEST_M) / 3.0, np.sin(np.arange(50.0))
    assert route_from_points(x, y).x.tolist() == x.tolist()
    assert same_route(route, route_from_points(route.x, route.y)), "a filled one is not filled again"


def test_a_corner_between_far_points_is_a_bend() -> None:
    corner = route_from_points([0.0, 180.0, 180.0], [0.0, 0.0, 180.0])
    assert np.abs(corner.curvature).max() > 0.2 and corner.to_bend[0] == pytest.approx(178.0, abs=2.0)


def test_a_route_that_is_too_long_to_be_filled_in_is_refused() -> None:
    x = np.arange(0.0, 150.0 * 300, 150.0)
    with pytest.raises(ValueError, match="22426 points, at most 20000 are taken, which may be 2 m apart"):
        route_from_points(x, np.zeros(300))
