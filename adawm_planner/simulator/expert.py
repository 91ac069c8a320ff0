"""The privileged driver: rolls the world forward for 'go' and takes it when nothing comes too near.

Others are predicted along the paths they will really follow, at constant speed, braking only for an ego
that has already merged in front of them; the ego follows its route under the tracking governor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import speed_limit
from adawm_planner.data_types import Float64, Route
from adawm_planner.dims import ACCELERATION_BINS, DECISION_S
from adawm_planner.simulator.network import LanePath
from adawm_planner.simulator.traffic import LENGTH_M
from adawm_planner.simulator.vehicle import GRAVITY, VehiclePreset
from adawm_planner.simulator.world import World, WorldFrame

STEPS = 36  # of DECISION_S: a start from standstill is through the junction and up to speed
GRID_M = 0.5
LINE_MARGIN_M = 0.8  # front bumper stops this far before the line
SHIFT = 2  # decisions by which others may be early or late: 0.4 s
SHIFT_COMMITTED = 1
MARGIN_M = 0.8  # between bodies
MARGIN_COMMITTED_M = 0.45
RANGE_M = 90.0  # vehicles farther than this are ignored
FOLLOWER_BRAKE = 3.0  # m/s2, less than traffic really can
FOLLOWER_GAP_S = 0.6
_CONTROL = ControlConfig()


@dataclass
class _Track:
    """A path another vehicle follows, seen from the ego's route."""

    path: LanePath
    along: Float64  # (G,) m, path position nearest to each route grid point
    off: Float64  # (G,) m, distance between the two, inf where headings differ


@dataclass
class _RouteGrid:
    """The ego's route on a regular grid of GRID_M."""

    x: Float64
    y: Float64
    yaw: Float64
    limit: Float64  # m/s, the governor's speed
    tracks: dict[int, _Track]  # by id of the lane path


@dataclass
class _Traffic:
    """Other vehicles as arrays (N,), grouped by path."""

    tracks: list[_Track]
    track_of: np.ndarray
    s: Float64
    speed: Float64


def stop_at(world: World, frame: WorldFrame) -> int:
    """Bin that brings the ego to rest before the first junction."""
    vehicle = world.vehicle
    stop_s = world.stop_line_s - 0.5 * vehicle.length - LINE_MARGIN_M
    speed = frame.ego.speed
    slack = stop_s - frame.route_s - speed * (vehicle.delay + vehicle.brake_lag + 0.5 * DECISION_S)
    if speed < 0.4:
        return 3 if slack > 1.5 else 1
    strength = braking_share(vehicle)
    need = speed * speed / (2.0 * max(slack, 0.05)) / strength
    if need > 2.4:
        return 0
    if need > 1.3:
        return 1
    return 2 if speed > 2.0 or slack < 2.0 else 3


def braking_share(vehicle: VehiclePreset) -> float:
    """Deceleration this vehicle reaches per deceleration asked for at -4 m/s2."""
    asked = 4.0
    reached = (asked / _CONTROL.brake_deceleration * vehicle.brake_force + vehicle.rolling_force) / vehicle.mass
    return min(reached, 0.95 * vehicle.friction * GRAVITY) / asked


def driving_share(vehicle: VehiclePreset) -> float:
    """Acceleration this vehicle reaches per acceleration asked for."""
    asked = 2.5
    reached = asked / _CONTROL.throttle_acceleration * vehicle.drive_force / vehicle.mass
    return min(reached, 0.95 * vehicle.friction * GRAVITY) / asked


class ExpertDriver:
    """Stop or go by rollout, with hysteresis once it goes."""

    def reset(self, seed: int) -> None:
        """Forget the last episode."""
        self._going = False
        self._route: Route | None = None

    def act(self, world: World, frame: WorldFrame) -> int:
        """The strongest go that stays clear, else a stop before the line, else the least bad."""
        if self._route is not frame.route:
            self._route, self._grid = frame.route, _grid(frame.route)
        traffic = self._traffic(world, frame)
        committed = frame.route_s + 0.5 * world.vehicle.length > world.stop_line_s
        margin, shift = (MARGIN_COMMITTED_M, SHIFT_COMMITTED) if self._going or committed else (MARGIN_M, SHIFT)
        best = self._best_go(world, frame, traffic, margin, shift, committed)
        self._going = best is not None
        if best is not None:
            return best
        if self._can_stop(world, frame):
            return stop_at(world, frame)
        return self._least_bad(world, frame, traffic)

    def _best_go(
        self, world: World, frame: WorldFrame, traffic: _Traffic, margin: float, shift: int, committed: bool
    ) -> int | None:
        for index in (4, 3, 2) if not committed else (4, 3, 2, 1):
            if index == 2 and frame.ego.speed < 1.5:
                continue
            if self._clearance(world, frame, traffic, index, shift) >= margin:
                return index
        return None

    def _can_stop(self, world: World, frame: WorldFrame) -> bool:
        """Whether braking hard still ends before the line, its margin used up."""
        vehicle = world.vehicle
        slack = world.stop_line_s - 0.5 * vehicle.length + 0.5 - frame.route_s
        speed = frame.ego.speed
        distance = speed * (vehicle.delay + vehicle.brake_lag) + speed * speed / (8.0 * braking_share(vehicle))
        return distance <= slack

    def _least_bad(self, world: World, frame: WorldFrame, traffic: _Traffic) -> int:
        clearances = [self._clearance(world, frame, traffic, index, 0) for index in range(len(ACCELERATION_BINS))]
        return int(np.argmax(np.minimum(clearances, MARGIN_COMMITTED_M)))

    def _traffic(self, world: World, frame: WorldFrame) -> _Traffic:
        """Vehicles near enough to matter, with the tracks they follow."""
        tracks: list[_Track] = []
        position: dict[int, int] = {}
        rows: list[tuple[int, float, float]] = []
        near = np.hypot(frame.objects.x - frame.ego.x, frame.objects.y - frame.ego.y) < RANGE_M
        for vehicle in world.traffic_vehicles(frame.objects.id[near]):
            key = id(vehicle.path)
            if key not in position:
                position[key] = len(tracks)
                if key not in self._grid.tracks:
                    self._grid.tracks[key] = _track(vehicle.path, self._grid)
                tracks.append(self._grid.tracks[key])
            rows.append((position[key], vehicle.s, vehicle.speed))
        table = np.array(rows).reshape(-1, 3)
        return _Traffic(tracks, table[:, 0].astype(int), table[:, 1], table[:, 2])

    def _clearance(self, world: World, frame: WorldFrame, traffic: _Traffic, index: int, shift: int) -> float:
        """Smallest distance between bodies [m] if the ego holds bin `index` from here on."""
        if len(traffic.s) == 0:
            return math.inf
        s = self._ego_rollout(world.vehicle, frame, ACCELERATION_BINS[index])
        others = self._others_rollout(traffic, s, np.gradient(s, DECISION_S))
        return _smallest_gap(self._grid, s, traffic, others, world.vehicle, shift)

    def _ego_rollout(self, vehicle: VehiclePreset, frame: WorldFrame, target: float) -> Float64:
        """Route positions (STEPS + 1,) [m] under a constant target acceleration and the governor."""
        grid, speed, s = self._grid, max(frame.ego.speed, 0.0), frame.route_s
        last = len(grid.limit) - 1
        positions = [s]
        delay, current = vehicle.delay + vehicle.throttle_lag, frame.ego.acceleration
        for step in range(STEPS):
            wish = min(target, _CONTROL.governor_gain * (grid.limit[min(int(s / GRID_M), last)] - speed))
            wish *= driving_share(vehicle) if wish > 0.0 else braking_share(vehicle)
            late = min(max(delay - step * DECISION_S, 0.0), DECISION_S) / DECISION_S
            reached = late * current + (1.0 - late) * wish
            following = max(speed + reached * DECISION_S, 0.0)
            s += 0.5 * (speed + following) * DECISION_S
            speed = following
            positions.append(s)
        return np.array(positions)

    def _others_rollout(self, traffic: _Traffic, ego_s: Float64, ego_speed: Float64) -> Float64:
        """Path positions (STEPS + 1, N) [m] of the others; those behind a merged ego brake for it."""
        index = np.minimum((ego_s / GRID_M).astype(int), len(self._grid.x) - 1)
        along = np.stack([one.along[index] for one in traffic.tracks])[traffic.track_of]  # (N, STEPS + 1)
        merged = np.stack([one.off[index] for one in traffic.tracks])[traffic.track_of] < 1.2
        s, speed = traffic.s.copy(), traffic.speed.copy()
        positions = [s]
        spacing = 0.5 * LENGTH_M + 2.4
        for step in range(STEPS):
            gap = along[:, step] - spacing - s
            wanted = FOLLOWER_GAP_S * speed + np.maximum(speed**2 - ego_speed[step] ** 2, 0.0) / (2.0 * FOLLOWER_BRAKE)
            brake = merged[:, step] & (gap > -1.0) & (gap < wanted)
            speed = np.where(brake, np.maximum(speed - FOLLOWER_BRAKE * DECISION_S, 0.0), speed)
            s = s + speed * DECISION_S
            positions.append(s)
        return np.stack(positions)


def _grid(route: Route) -> _RouteGrid:
    s = np.arange(0.0, route.length, GRID_M)
    yaw = np.interp(s, route.s, route.yaw)
    limit = np.array([speed_limit(route, one, _CONTROL) for one in s])
    return _RouteGrid(np.interp(s, route.s, route.x), np.interp(s, route.s, route.y), yaw, limit, {})


def _track(path: LanePath, grid: _RouteGrid) -> _Track:
    """Project the ego's route grid onto another vehicle's path."""
    samples = np.arange(0.0, float(path.s[-1]), GRID_M)
    x, y = path.at(samples)
    yaw = np.arctan2(np.gradient(y), np.gradient(x))
    distance = np.hypot(grid.x[:, None] - x, grid.y[:, None] - y)
    nearest = distance.argmin(axis=1)
    off = distance[np.arange(len(grid.x)), nearest]
    aligned = np.cos(grid.yaw - yaw[nearest]) > 0.85
    return _Track(path, samples[nearest], np.where(aligned, off, np.inf))


def _smallest_gap(
    grid: _RouteGrid, ego_s: Float64, traffic: _Traffic, others: Float64, vehicle: VehiclePreset, shift: int
) -> float:
    """Smallest distance between bodies covered by three discs each, others up to `shift` steps off time."""
    index = np.minimum((ego_s / GRID_M).astype(int), len(grid.x) - 1)
    ego = _discs(grid.x[index], grid.y[index], grid.yaw[index], vehicle.length)  # (T, 3, 2)
    centres = np.empty((*others.shape, 3, 2))
    for k, track in enumerate(traffic.tracks):
        mine = traffic.track_of == k
        s = others[:, mine]
        x, y = track.path.at(s)
        ahead_x, ahead_y = track.path.at(s + 1.0)
        behind_x, behind_y = track.path.at(s - 1.0)
        yaw = np.arctan2(ahead_y - behind_y, ahead_x - behind_x)
        centres[:, mine] = _discs(x, y, yaw, LENGTH_M)
    centres[np.broadcast_to((others > 0.0)[..., None, None], centres.shape) == 0] = 1e6
    radii = 0.5 * vehicle.width + 0.1 + 1.0
    smallest = math.inf
    for late in range(-shift, shift + 1):
        mine_now = ego[max(late, 0) : len(ego) + min(late, 0)]
        theirs = centres[max(-late, 0) : len(ego) + min(-late, 0)]
        delta = mine_now[:, None, :, None, :] - theirs[:, :, None, :, :]
        smallest = min(smallest, float(np.square(delta).sum(axis=-1).min()))
    return math.sqrt(smallest) - radii


def _discs(x: Float64, y: Float64, yaw: Float64, length: float) -> Float64:
    """Centres (..., 3, 2) of three discs that cover a body of `length` [m]."""
    offsets = (length / 3.0) * np.array([-1.0, 0.0, 1.0])
    return np.stack(
        [x[..., None] + offsets * np.cos(yaw)[..., None], y[..., None] + offsets * np.sin(yaw)[..., None]], axis=-1
    )
