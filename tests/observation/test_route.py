"""Route geometry against closed-form cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adawm_planner.observation.route import project, route_from_points, wrap_angle


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
