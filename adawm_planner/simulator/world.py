"""A driving world on SUMO traffic: Command in, WorldFrame out, one call per bridge frame.

SUMO (libsumo, in process) moves the traffic; the ego is a vehicle model of ours mirrored into SUMO, so
that traffic reacts to it. libsumo holds one simulation per process, and so does this module.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import libsumo
import numpy as np

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import (
    Command,
    DrivableMap,
    EgoState,
    Int64,
    Objects,
    Outcome,
    RewardTerms,
    Route,
    Scene,
    VehicleInfo,
)
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import RouteProjection, project, route_from_points
from adawm_planner.reward import frame_reward
from adawm_planner.simulator.collision import first_overlap, time_to_collision
from adawm_planner.simulator.network import LanePath, Network, load_network
from adawm_planner.simulator.tasks import Task
from adawm_planner.simulator.traffic import (
    EGO,
    LENGTH_M,
    SPAWN_CLEARANCE_M,
    WIDTH_M,
    Departure,
    departures,
    route_xml,
)
from adawm_planner.simulator.vehicle import EgoVehicle, VehiclePreset

ROUTE_BEYOND_GOAL_M = 20.0
"""The route goes on this far behind the goal, so that a passing vehicle need not stop at it [m]."""

BEFORE_END_M = 1.0
"""The goal lies at least this far before the end of its edge [m]."""

AT_LINE_M = 3.0
"""Distance of a standing start from the line [m], front bumper to the first junction."""

SUMO_SEEDS = 2**31
"""SUMO's own seed is an int32; larger seeds, as RL libraries draw them, differ in the ego and the departures alone."""


@dataclass(frozen=True)
class WorldFrame:
    """Everything that is true at the end of one frame."""

    frame: int  # counts up for the life of the world
    time: float  # s, simulated, counts up for the life of the world
    ego: EgoState
    objects: Objects
    applied: Command  # what reached the actuators in this frame
    route: Route
    route_s: float  # m along the route
    reward: RewardTerms  # of this frame
    ttc: float  # s, infinite when nothing closes
    outcome: Outcome | None  # None while the episode goes on
    collision_id: int | None  # object the ego overlaps
    goal_s: float  # m along the route where the goal lies


@dataclass(frozen=True)
class TrafficVehicle:
    """Privileged view of one vehicle: where it is on the path it will follow."""

    path: LanePath
    s: float  # m along the path, vehicle centre
    speed: float  # m/s


@lru_cache(maxsize=16)
def _network(source: Path) -> Network:
    return load_network(source)


class World:
    """One task with one ego vehicle, episode after episode; the seed alone decides what happens."""

    def __init__(self, task: Task, vehicle: VehiclePreset) -> None:
        """Load the task's net.

        Raises:
            ValueError: the net cannot be built, does not hold the task's routes, or has too short edges or too low
                speed limits for them.
        """
        self.task, self.vehicle = task, vehicle
        self.network = _network(task.map_source)
        self.map_name = task.map
        self._ego_path = self._planned("ego.route", task.ego.route, task.ego.lane)
        _check_lengths(task, self._ego_path)
        self._paths = {
            (i, field == "decoy_route"): self._planned(f"flows[{i}].{field}", edges, flow.lane)
            for i, flow in enumerate(task.flows)
            for field, edges in (("route", flow.route), ("decoy_route", flow.decoy_route))
            if edges
        }
        _check_speeds(task, self.network)
        self._ego = EgoVehicle(vehicle)
        self._frame, self._time = 0, 0.0
        self._objects = _no_objects()
        self._headings: dict[int, float] = {}  # of the others in the frame before, by id
        self._folder = tempfile.TemporaryDirectory(prefix="adawm_world_")

    def _planned(self, field: str, edges: Sequence[str], lane: int) -> LanePath:
        """Centre line of a route of the task. Raises ValueError that names task and field."""
        try:
            return self.network.path(list(edges), lane)
        except ValueError as error:
            raise ValueError(f"task {self.task.name}: {field}: {error}") from None

    @property
    def opendrive(self) -> str:
        """The map as OpenDRIVE XML, in the map frame's axes."""
        return self.network.opendrive

    @property
    def drivable(self) -> DrivableMap | None:
        """The map's drivable bitmap, or None without the carla wheel."""
        return self.network.drivable

    @property
    def vehicle_info(self) -> VehicleInfo:
        """What the planner is told about the ego vehicle."""
        return self.vehicle.info

    @property
    def route(self) -> Route:
        """The route of the running episode."""
        return self._route

    @property
    def goal(self) -> tuple[float, float]:
        """Where the running episode's goal lies (x, y) [m, map]; the route goes on behind it."""
        x, y = (float(np.interp(self._goal_s, self._route.s, values)) for values in (self._route.x, self._route.y))
        return x, y

    @property
    def stop_line_s(self) -> float:
        """Where the first junction begins, along the route [m] (privileged)."""
        return self._stop_line_s

    def scene(self, frame: WorldFrame) -> Scene:
        """What a planner with perfect sensors knows at this frame."""
        return Scene(frame.time, frame.ego, frame.objects, frame.route, self.drivable, self.vehicle_info, self._near)

    def reset(self, seed: int, at_line: bool = False) -> WorldFrame:
        """Start the episode of `seed` (from 0); with `at_line` the ego starts standing at the first junction.

        Raises:
            ValueError: SUMO refuses the episode's traffic, or has failed in this process before.
        """
        rng = np.random.default_rng([seed, 0])
        start_m = rng.uniform(*self.task.ego.start_m)
        speed = rng.uniform(*self.task.ego.start_speed)
        if at_line:
            start_m, speed = AT_LINE_M + 0.5 * self.vehicle.length, 0.0
        self._begin_route(start_m)
        route = self._route
        self._ego.reset(float(route.x[0]), float(route.y[0]), float(route.yaw[0]), speed)
        self._start_sumo(seed)
        self._mirrored, self._headings = False, {}
        self._first_frame = self._frame + 1
        self._route_s, self._arrived = 0.0, False
        self._near: int | None = None
        return self._advance(Command())

    def tick(self, command: Command) -> WorldFrame:
        """Apply a command for one frame; the episode's outcome does not stop the world.

        Raises:
            ValueError: SUMO refuses a vehicle of the traffic; no world of this process can be reset after it.
        """
        applied = self._ego.tick(command)
        return self._advance(applied)

    def close(self) -> None:
        """End the simulation; the world can be reset again afterwards."""
        if libsumo.isLoaded():
            libsumo.close()

    def set_ego_pose(self, x: float, y: float, yaw: float) -> None:
        """Teleport the ego (m, m, rad, map frame); its speed is kept."""
        self._ego.place(x, y, yaw)
        self._near = None
        self._route_s = project(self._route, x, y).s

    def set_ego_speed(self, speed: float) -> None:
        """Set the ego's forward speed [m/s]."""
        self._ego.set_speed(speed)

    def set_goal(self, x: float, y: float) -> Route:
        """Plan a new route from the ego's lane to the lane nearest a map position [m].

        Raises:
            ValueError: no lane leads there.
        """
        try:
            here = libsumo.simulation.convertRoad(self._ego.state.x, self._ego.state.y)
            there = libsumo.simulation.convertRoad(x, y)
        except libsumo.TraCIException:
            raise ValueError(f"no road is near the ego or near the goal ({x:.1f}, {y:.1f}) m") from None
        edges = libsumo.simulation.findRoute(here[0], there[0]).edges if not here[0].startswith(":") else ()
        if not edges:
            raise ValueError(f"no route leads from edge '{here[0]}' to edge '{there[0]}' at ({x:.1f}, {y:.1f}) m")
        path = self.network.path(list(edges), here[2])
        ego = self._ego.state
        first = _nearest_s(path, ego.x, ego.y)
        last = _nearest_s(path, x, y)
        if last <= first + 1.0:
            raise ValueError(f"goal ({x:.1f}, {y:.1f}) m lies behind the ego on edge '{here[0]}'")
        self._set_route(path, first, last + ROUTE_BEYOND_GOAL_M, last)
        return self._route

    def _begin_route(self, start_m: float) -> None:
        path = self._ego_path
        first = max(path.junction_entry_s - start_m, 0.0)
        goal = path.junction_exit_s + self.task.ego.goal_m
        self._set_route(path, first, goal + ROUTE_BEYOND_GOAL_M, goal)

    def _set_route(self, path: LanePath, first: float, last: float, goal: float) -> None:
        """Sample a lane path about every metre between two arc lengths and note the goal."""
        last = min(last, float(path.s[-1]))
        count = max(int(round(last - first)), 1) + 1
        self._route = route_from_points(*path.at(np.linspace(first, last, count)))
        self._goal_s = min(goal, last - BEFORE_END_M) - first
        self._stop_line_s = path.junction_entry_s - first
        self._near, self._route_s, self._arrived = None, 0.0, False

    def _start_sumo(self, seed: int) -> None:
        """Write the episode's vehicles to a file and start a fresh simulation on it."""
        lengths = [self._paths[(i, False)].junction_entry_s for i in range(len(self.task.flows))]
        drawn = departures(self.task.flows, lengths, self.task.limits.time, seed)
        self._departures = {one.number: one for one in drawn if not self._too_near(one)}
        position = max(self._ego_path.junction_entry_s - self._stop_line_s, 0.0)
        route_file = Path(self._folder.name) / "episode.rou.xml"
        route_file.write_text(route_xml(self.task, self.vehicle, position, list(self._departures.values())))
        if _sumo_is_lost:
            raise ValueError("SUMO has failed in this process, and cannot be started in it again; start a new process")
        self.close()
        options = {
            "--net-file": str(self.network.net_file),
            "--route-files": str(route_file),
            "--step-length": str(FRAME_S),
            "--seed": str(seed % SUMO_SEEDS),
            "--collision.action": "none",
            "--time-to-teleport": "-1",
            "--default.speeddev": "0",
            "--no-step-log": "true",
            "--no-warnings": "true",
            "--xml-validation": "never",
        }
        with _sumo_errors(self.task):
            libsumo.start(["sumo", *(word for pair in options.items() for word in pair)])

    def _too_near(self, one: Departure) -> bool:
        """Whether a vehicle would start on top of the ego."""
        if one.time > 0.0:
            return False
        x, y = self._paths[(one.flow, one.decoy)].at(one.position - 0.5 * LENGTH_M)
        return math.hypot(float(x) - self._ego.state.x, float(y) - self._ego.state.y) < SPAWN_CLEARANCE_M

    def _advance(self, applied: Command) -> WorldFrame:
        """Mirror the ego into SUMO, move the traffic, and read off what is true now."""
        ego = self._ego.state
        with _sumo_errors(self.task):
            self._step_sumo(ego)
            self._objects = self._read_traffic()
        self._frame += 1
        self._time = round(self._time + FRAME_S, 6)
        return self._judge(ego, applied)

    def _step_sumo(self, ego: EgoState) -> None:
        """Put the ego into SUMO where it is, and let SUMO move the others for one frame."""
        half = 0.5 * self.vehicle.length
        front_x, front_y = ego.x + half * math.cos(ego.yaw), ego.y + half * math.sin(ego.yaw)
        if not self._mirrored:
            libsumo.simulationStep()  # SUMO inserts the ego in the first step; only then can it be moved
            self._mirrored = True
        libsumo.vehicle.moveToXY(EGO, "", -1, front_x, front_y, 90.0 - math.degrees(ego.yaw), 2)
        libsumo.vehicle.setSpeed(EGO, max(ego.speed, 0.0))
        libsumo.simulationStep()

    def _read_traffic(self) -> Objects:
        """Poses and motion of all vehicles but the ego."""
        names = [name for name in libsumo.vehicle.getIDList() if name != EGO]
        before, self._headings = self._headings, {}
        if not names:
            return _no_objects()
        position, angle, velocity = libsumo.vehicle.getPosition, libsumo.vehicle.getAngle, libsumo.vehicle.getSpeed
        rows = [(*position(name), angle(name), velocity(name), int(name)) for name in names]
        x, y, degrees, speed, number = np.array(rows).T
        yaw = wrap_angle(np.radians(90.0 - degrees))
        cos, sin, half = np.cos(yaw), np.sin(yaw), 0.5 * LENGTH_M
        size, ids = np.ones(len(names)), number.astype(np.int64)
        self._headings = dict(zip(ids.tolist(), yaw.tolist(), strict=True))
        turned = [math.remainder(now - before.get(each, now), 2.0 * math.pi) for each, now in self._headings.items()]
        return Objects(
            ids,
            x - half * cos,  # SUMO's position is the front bumper
            y - half * sin,
            yaw,
            speed * cos,
            speed * sin,
            np.array(turned) / FRAME_S,  # zero in a vehicle's first frame
            size * LENGTH_M,
            size * WIDTH_M,
        )

    def traffic_vehicles(self, ids: Int64) -> list[TrafficVehicle]:
        """Privileged: the vehicles with these actor ids and the paths they will follow."""
        return [self._traffic_vehicle(int(number)) for number in ids]

    def _traffic_vehicle(self, number: int) -> TrafficVehicle:
        one, name = self._departures[number], str(number)
        centre = one.position + libsumo.vehicle.getDistance(name) - 0.5 * LENGTH_M
        return TrafficVehicle(self._paths[(one.flow, one.decoy)], centre, libsumo.vehicle.getSpeed(name))

    def _judge(self, ego: EgoState, applied: Command) -> WorldFrame:
        """Score the frame and decide whether the episode has ended."""
        at = project(self._route, ego.x, ego.y, self._near)
        self._near = at.index
        advanced, self._route_s = at.s - self._route_s, at.s
        collision = first_overlap(ego, self.vehicle.length, self.vehicle.width, self._objects)
        outcome = self._outcome(at, collision)
        arrived = outcome is Outcome.SUCCESS and not self._arrived
        self._arrived = self._arrived or arrived
        reward = frame_reward(ego, at, advanced, collision is not None, arrived, self.task.reward)
        ttc = time_to_collision(ego, self.vehicle.length, self.vehicle.width, self._objects)
        return WorldFrame(
            frame=self._frame,
            time=self._time,
            ego=ego,
            objects=self._objects,
            applied=applied,
            route=self._route,
            route_s=at.s,
            reward=reward,
            ttc=ttc,
            outcome=outcome,
            collision_id=collision,
            goal_s=self._goal_s,
        )

    def _outcome(self, at: RouteProjection, collision: int | None) -> Outcome | None:
        if collision is not None:
            return Outcome.COLLISION
        if abs(at.lateral) > self.task.limits.off_lane:
            return Outcome.OFF_LANE
        if at.s >= self._goal_s:
            return Outcome.SUCCESS
        if (self._frame - self._first_frame) * FRAME_S >= self.task.limits.time - 1e-9:
            return Outcome.TIMEOUT
        return None


_sumo_is_lost = False
"""Whether SUMO failed in this process. It forgets no vehicle that was to be moved in the failed step: the first step of
the next simulation would end the process by a segmentation fault."""


@contextmanager
def _sumo_errors(task: Task) -> Iterator[None]:
    """Tell SUMO's errors, which are no kind of any built-in error, like every other mistake in a task.

    Raises:
        ValueError: naming the task and what SUMO says.
    """
    global _sumo_is_lost
    try:
        yield
    except (libsumo.TraCIException, libsumo.FatalTraCIError) as error:
        _sumo_is_lost = True
        said = " ".join(str(error).split())
        raise ValueError(f"task {task.name}: SUMO cannot go on: {said} Correct the task's flows or its map") from error


def _check_speeds(task: Task, network: Network) -> None:
    """Refuse a flow that is faster than its first lane allows: SUMO takes no such vehicle, and ends in mid-run.

    Raises:
        ValueError: naming the entry, its value and the limit.
    """
    for i, flow in enumerate(task.flows):
        for edge in dict.fromkeys(edges[0] for edges in (flow.route, flow.decoy_route) if edges):
            (low, high), limit = flow.speed, network.speed_limit(edge, flow.lane)
            if high > limit:
                raise ValueError(
                    f"task {task.name}: flows[{i}].speed is [{low:g}, {high:g}] m/s, lane {flow.lane} of edge '{edge}' "
                    f"allows {limit:g} m/s; lower the speed, or raise the limit in the map"
                )


def _check_lengths(task: Task, path: LanePath) -> None:
    """Refuse a start or a goal that the first or the last edge of the ego's path has no room for, or that are one.

    The goal of a route of one edge is that edge's end, whatever `goal_m` says.

    Raises:
        ValueError: naming the entry, its value and the limit.
    """
    (low, high), goal, edges = task.ego.start_m, task.ego.goal_m, task.ego.route
    before, behind = path.junction_entry_s, float(path.s[-1]) - path.junction_exit_s - BEFORE_END_M
    if high > before:
        raise ValueError(f"task {task.name}: ego.start_m is [{low:g}, {high:g}], edge '{edges[0]}' has {before:.1f} m")
    if len(edges) > 1 and goal > behind:
        raise ValueError(f"task {task.name}: ego.goal_m is {goal:g}, edge '{edges[-1]}' has room for {behind:.1f} m")
    goal_s = min(path.junction_exit_s + goal, float(path.s[-1]) - BEFORE_END_M)
    if before - low >= goal_s:
        raise ValueError(
            f"task {task.name}: ego.start_m is [{low:g}, {high:g}], which leaves no way to the goal: it lies "
            f"{goal_s:.1f} m along the route, so start_m must be more than {before - goal_s:.1f} m"
        )


def _nearest_s(path: LanePath, x: float, y: float) -> float:
    samples = np.linspace(0.0, float(path.s[-1]), int(path.s[-1] * 2.0) + 2)
    px, py = path.at(samples)
    return float(samples[int(np.argmin((px - x) ** 2 + (py - y) ** 2))])


def _no_objects() -> Objects:
    empty = np.empty(0)
    return Objects(np.empty(0, dtype=np.int64), *(empty.copy() for _ in range(8)))
