"""Route and position in, the drivable corridor around it out: what is drawn where there is no map.

The bitmap is made once per stretch of route instead of at every decision; routes may be of any length.
"""

from __future__ import annotations

import numpy as np

from adawm_planner.data_types import DrivableMap, Route
from adawm_planner.observation.drivable import drivable_from_route
from adawm_planner.observation.route import project, route_from_points

BEHIND_M, AHEAD_M = 200.0, 1000.0
"""Stretch of a long route that is drawn, from the ego [m]."""

RENEW_M = 800.0
"""Distance driven after which the next stretch is drawn [m]; the view reaches 57 m."""


class Corridor:
    """The corridor of one route."""

    def __init__(self, route: Route, width: float) -> None:
        """Take the route and the corridor's width [m]."""
        self._route, self._width = route, width
        self._drawn: DrivableMap | None = None
        self._begin_s = 0.0

    def around(self, x: float, y: float, near: int | None = None) -> DrivableMap:
        """Return the bitmap that holds the corridor near a position [m, map]; `near` as `project` takes it."""
        if self._drawn is not None and self._route.length <= AHEAD_M:
            return self._drawn
        s = project(self._route, x, y, near).s
        if self._drawn is None or not 0.0 <= s - self._begin_s <= RENEW_M:
            self._drawn, self._begin_s = drivable_from_route(self._stretch(s), self._width), s
        return self._drawn

    def _stretch(self, s: float) -> Route:
        route = self._route
        if route.length <= AHEAD_M:
            return route
        near = (route.s >= s - BEHIND_M) & (route.s <= s + AHEAD_M)
        return route_from_points(np.asarray(route.x[near]), np.asarray(route.y[near]))
