"""What must not depend on where the map's origin lies, and what a mirror must turn round."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adawm_planner.angles import wrap_angle
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import EgoState, Objects, Route, Scene
from adawm_planner.dims import STATE_FEATURES
from adawm_planner.observation.assemble import canonical, observe
from adawm_planner.observation.drivable import box_corners
from adawm_planner.observation.route import project, route_from_points

from .scenes import objects, scene

CONFIG = ObservationConfig()
SIGNED = ("yaw_rate", "lateral_deviation", "heading_error", "curvature_now", "curvature_10m_ahead")
"""State features that a mirror turns round; all others stay."""

BEV_TOLERANCE = 2.0
"""Mean difference of two rasters of one scene [of 255]: the drivable area is sampled from a 0.5 m grid."""

CORNER = math.radians(3.0)
"""Turn between two segments of the bend [rad]."""

ANGLE, METRES = st.floats(-math.pi, math.pi), st.floats(-500.0, 500.0)


@dataclass(frozen=True)
class Motion:
    """A rigid motion of the map frame: a turn [rad], then a move [m]."""

    turn: float
    x: float
    y: float

    def points(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return cos * x - sin * y + self.x, sin * x + cos * y + self.y

    def vectors(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return replace(self, x=0.0, y=0.0).points(x, y)

    def route(self, route: Route) -> Route:
        return route_from_points(*self.points(route.x, route.y))

    def ego(self, ego: EgoState) -> EgoState:
        x, y = self.points(np.array(ego.x), np.array(ego.y))
        return replace(ego, x=float(x), y=float(y), yaw=wrap_angle(ego.yaw + self.turn))

    def objects(self, o: Objects) -> Objects:
        x, y = self.points(o.x, o.y)
        vx, vy = self.vectors(o.vx, o.vy)
        return replace(o, x=x, y=y, yaw=o.yaw + self.turn, vx=vx, vy=vy)

    def scene(self, seen: Scene) -> Scene:
        ego, others, route = self.ego(seen.ego), self.objects(seen.objects), self.route(seen.route)
        return replace(seen, ego=ego, objects=others, route=route)


def mirrored(seen: Scene) -> Scene:
    """The scene seen in a mirror along x: what was left is right."""
    ego, o = seen.ego, seen.objects
    return replace(
        seen,
        ego=replace(ego, y=-ego.y, yaw=-ego.yaw, yaw_rate=-ego.yaw_rate, lateral_speed=-ego.lateral_speed),
        objects=replace(o, y=-o.y, yaw=-o.yaw, vy=-o.vy),
        route=route_from_points(seen.route.x, -seen.route.y),
    )


def bend(seed: int) -> Scene:
    """A car beside a left bend of 15 m radius after 30 m, with three others about."""
    rng = np.random.default_rng(seed)
    arc = np.radians(np.arange(3.0, 91.0, 3.0))
    x = np.concatenate([np.arange(0.0, 30.1), 30.0 + 15.0 * np.sin(arc), np.full(40, 45.0)])
    y = np.concatenate([np.zeros(31), 15.0 * (1.0 - np.cos(arc)), 15.0 + np.arange(1.0, 41.0)])
    yaw = rng.uniform(-0.3, 0.3)
    ego = EgoState(rng.uniform(5.0, 28.0), rng.uniform(-1.5, 1.5), yaw, rng.uniform(0.0, 12.0), 0.1, 0.2, -0.5)
    rows = [tuple(row) for row in rng.uniform(-12.0, 12.0, (3, 5)) + np.array([25.0, 5.0, 0.0, 0.0, 0.0])]
    return replace(scene(ego, objects(*rows)), route=route_from_points(x, y))


@settings(max_examples=40)
@given(st.integers(0, 1000), ANGLE, METRES, METRES)
def test_an_observation_does_not_depend_on_the_map_frame(seed: int, turn: float, x: float, y: float) -> None:
    here = bend(seed)
    a, b = observe(here, 1.2, CONFIG), observe(Motion(turn, x, y).scene(here), 1.2, CONFIG)
    np.testing.assert_allclose(a.state, b.state, atol=2e-4)
    difference = np.abs(a.bev.astype(int) - b.bev.astype(int)).mean(axis=(1, 2))
    assert (difference <= BEV_TOLERANCE).all(), difference


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_a_mirror_turns_left_and_right_round_and_nothing_else(seed: int) -> None:
    here = bend(seed)
    a, b = observe(here, 1.2, CONFIG), observe(mirrored(here), 1.2, CONFIG)
    sign = np.array([-1.0 if name in SIGNED else 1.0 for name in STATE_FEATURES])
    np.testing.assert_allclose(a.state * sign, b.state, atol=2e-4)
    difference = np.abs(a.bev[:, :, ::-1].astype(int) - b.bev.astype(int)).mean(axis=(1, 2))
    assert (difference <= BEV_TOLERANCE).all(), difference
    unmirrored = np.abs(a.bev.astype(int) - b.bev.astype(int)).mean(axis=(1, 2))
    assert unmirrored.max() > BEV_TOLERANCE  # the tolerance would notice a raster that is not mirrored


def test_left_is_left_in_every_part() -> None:
    """A car 10 m to the left of an ego 1 m left of its route, which bends to the left."""
    here = replace(bend(0), ego=EgoState(20.0, 1.0, 0.0, 5.0, 0.0, 0.0, 0.0), objects=objects((20.0, 11.0, 0, 0, 0)))
    seen = observe(here, 0.0, CONFIG)
    columns = np.nonzero(seen.bev[2])[1]
    assert columns.size and columns.max() < seen.bev.shape[2] // 2
    state = dict(zip(STATE_FEATURES, seen.state.tolist(), strict=True))
    assert state["lateral_deviation"] == pytest.approx(0.5)
    assert state["curvature_10m_ahead"] > 0.0


@settings(max_examples=60)
@given(st.integers(0, 1000), st.floats(0.0, 60.0), st.floats(-4.0, 4.0), ANGLE, METRES, METRES)
def test_a_projection_moves_with_its_route(seed: int, x: float, y: float, turn: float, dx: float, dy: float) -> None:
    route, motion = bend(seed).route, Motion(turn, dx, dy)
    a = project(route, x, y)
    px, py = motion.points(np.array(x), np.array(y))
    b = project(motion.route(route), float(px), float(py))
    assert (b.s, b.lateral) == (pytest.approx(a.s, abs=1e-6), pytest.approx(a.lateral, abs=1e-6))
    # A point at a corner's own angle may be given to either side of it.
    assert abs(wrap_angle(b.yaw - a.yaw - turn)) <= CORNER + 1e-6
    flipped = project(route_from_points(route.x, -route.y), x, -y)
    assert (flipped.s, flipped.lateral) == (pytest.approx(a.s, abs=1e-9), pytest.approx(-a.lateral, abs=1e-9))


@settings(max_examples=60)
@given(ANGLE, METRES, METRES, st.floats(5.0, 300.0), st.floats(-0.9, 1.9), st.floats(-20.0, 20.0))
def test_a_projection_onto_a_straight_is_the_closed_form(
    yaw: float, x: float, y: float, length: float, share: float, left: float
) -> None:
    """Foot point s = along, clipped; lateral = across where the foot is inside, any sign convention included."""
    count = int(length) + 2
    along = np.linspace(0.0, length, count)
    cos, sin = math.cos(yaw), math.sin(yaw)
    route = route_from_points(x + along * cos, y + along * sin)
    s = share * length
    at = project(route, x + s * cos - left * sin, y + s * sin + left * cos)
    assert at.s == pytest.approx(min(max(s, 0.0), length), abs=1e-6)
    assert at.lateral == pytest.approx(left, abs=1e-6)
    assert wrap_angle(at.yaw - yaw) == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=60)
@given(METRES, METRES, ANGLE, st.floats(0.1, 30.0), st.floats(0.1, 5.0))
def test_box_corners_are_a_rectangle_about_its_centre(
    x: float, y: float, yaw: float, length: float, width: float
) -> None:
    one = (np.array([value]) for value in (x, y, yaw, length, width))
    (corners,) = box_corners(*one)
    np.testing.assert_allclose(corners.mean(axis=0), [x, y], atol=1e-9)
    fl, fr, rr, rl = corners
    heading = np.array([math.cos(yaw), math.sin(yaw)])
    np.testing.assert_allclose(fl - rl, length * heading, atol=1e-9)
    np.testing.assert_allclose(fr - rr, length * heading, atol=1e-9)
    np.testing.assert_allclose(fl - fr, width * np.array([-heading[1], heading[0]]), atol=1e-9)


NUMBER = st.floats(-1e4, 1e4)


@settings(max_examples=60)
@given(st.lists(NUMBER, min_size=7, max_size=7), st.lists(st.tuples(*[NUMBER] * 5), max_size=4))
def test_rounding_a_scene_is_idempotent_and_small(ego: list[float], rows: list[tuple[float, ...]]) -> None:
    here = scene(EgoState(*ego), objects(*rows))
    once = canonical(here)
    twice = canonical(once)
    assert once.ego == twice.ego
    for name in ("x", "y", "yaw", "vx", "vy"):
        assert np.array_equal(getattr(once.objects, name), getattr(twice.objects, name))
    assert abs(once.ego.x - here.ego.x) <= 5.1e-6
    assert abs(wrap_angle(once.ego.yaw - here.ego.yaw)) <= 1.1e-5


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.arange(100_001.0), "100001 points, at most 20000"),
        (np.array([0.0, 1e8]), "coordinate of 1e\\+08 m, at most 1e\\+07"),
        (np.array([0.0, 1e300]), "coordinate of 1e\\+300 m"),
        (np.array([0.0, 500.0]), "two points 500 m apart, at most 200"),
    ],
)
def test_a_route_beyond_all_measure_is_refused(x: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        route_from_points(x, np.zeros(len(x)))
