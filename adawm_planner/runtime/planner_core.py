"""Whole frames in, exactly one Answer each out: the command, why, and what was decided and experienced.

Ties input_monitor, drive_step and experience together, without ROS and without clocks. The caller
(planner_loop) knows about time: incomplete frames, silence, latencies.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum

from adawm_planner.data_types import Command, DrivableMap, Experience, Route, Scene, VehicleInfo
from adawm_planner.observation.route import RouteProjection, distance_to, project, same_route
from adawm_planner.runtime.corridor import Corridor
from adawm_planner.runtime.drive_step import Decision, DriveConfig, DriveState, drive_step
from adawm_planner.runtime.engine import Engine
from adawm_planner.runtime.experience import EpisodeRules, ExperienceRecorder
from adawm_planner.runtime.frame_inputs import FrameInputs
from adawm_planner.runtime.input_monitor import PERIOD_FRAMES, Fault, InputMonitor, has_place
from adawm_planner.runtime.warm import MOST_AT_FLIP, History, Warm, advance

ARRIVED_M = 2.0
"""A vehicle that stands this close to the route's end has arrived [m]."""

ARRIVED_MPS = 0.3

REPEATED_FRAMES = 100
"""The same route again within this many frames is a publisher that repeats itself, once in 5 s or faster."""


class Mode(Enum):
    """What the planner is doing; values are adawm_msgs/PlannerStatus's."""

    WAITING = 0  # a vehicle, a route, or a first frame has not come yet
    DRIVING = 1
    BRAKING = 2  # an input is stale, missing, not finite or contradictory
    ARRIVED = 3  # standing at the end of the route


@dataclass(frozen=True)
class Answer:
    """What follows from one frame, or from its absence."""

    command: Command
    mode: Mode
    faults: tuple[Fault, ...] = ()
    scene: Scene | None = None  # None when braking
    decision: Decision | None = None  # None between decisions
    experiences: tuple[Experience, ...] = ()
    rerouted: bool = False  # another route came while the vehicle drove: that ended an episode, nothing the policy did


@dataclass(frozen=True)
class PlannerConfig:
    """Everything the core is configured with."""

    drive: DriveConfig = field(default_factory=DriveConfig)
    rules: EpisodeRules = field(default_factory=EpisodeRules)
    fault_brake: float = 0.8  # 0..1, brake while an input cannot be trusted

    def __post_init__(self) -> None:
        if not 0.0 < self.fault_brake <= 1.0:
            raise ValueError(f"fault_brake is {self.fault_brake}, must lie in 0..1 and above 0")


class PlannerCore:
    """Drives on frames that can be trusted, brakes on all others."""

    def __init__(self, engine: Engine, monitor: InputMonitor, config: PlannerConfig) -> None:
        self.engine, self.monitor, self._config = engine, monitor, config
        self._recorder = ExperienceRecorder(config.rules, config.drive.observation)
        self._route: Route | None = None
        self._vehicle: VehicleInfo | None = None
        self._map: DrivableMap | None = None
        self._corridor: Corridor | None = None
        self._state: DriveState | None = None  # None: starts anew at the next frame that can be driven
        self._previous: FrameInputs | None = None
        self._stamps_ns: deque[int] = deque(maxlen=PERIOD_FRAMES)
        self._arrived = self._is_due = False  # due: an episode, as soon as one may begin
        self._steer = 0.0
        self._near: int | None = None  # latest place on the route
        self._collided = False
        self._intervention = ""
        self._route_is_new = self._route_came = False
        self._frames_since_route = REPEATED_FRAMES
        self.history = History()
        """Decisions of the running episode; read by other threads too."""

    @property
    def episodes(self) -> int:
        """Episodes begun since the planner was configured."""
        return self._recorder.episode

    @property
    def state(self) -> DriveState | None:
        """The recurrent state after the latest frame; None before a driven one."""
        return self._state

    def forget_frames(self) -> None:
        """Compare the next frame with none before it: nobody looked meanwhile."""
        self._previous = None
        self._stamps_ns.clear()

    def set_route(self, route: Route | None) -> None:
        """Follow another route from the next frame on, as a new episode; None withdraws the route.

        Some publish their route again and again: the same one is no new episode unless the vehicle is placed anew.
        """
        repeated = self._frames_since_route < REPEATED_FRAMES and same_route(route, self._route)
        self._route_came, self._frames_since_route = True, 0
        if repeated:
            return
        self._route, self._route_is_new = route, True
        width = self._config.drive.observation.lane_width_m
        self._corridor = None if route is None else Corridor(route, width)

    def set_vehicle(self, vehicle: VehicleInfo) -> None:
        """Take what the vehicle says of itself."""
        self._vehicle = vehicle

    def set_map(self, drivable: DrivableMap | None) -> None:
        """Take the drivable area; None means the route's own corridor is used."""
        self._map = drivable

    def note_collision(self) -> None:
        """The vehicle has hit something; scored with the next frame."""
        self._collided = True

    def note_intervention(self, rule: str) -> None:
        """A rule of the gate changes commands, or none (empty) any more; what is gathered meanwhile says so."""
        self._intervention = rule

    def flip(self, warm: Warm, engine: Engine | None = None) -> bool:
        """Drive with another engine from the next frame on; to be called between two frames, by whoever calls `answer`.

        Args:
            warm: the engine with its recurrent state.
            engine: the same one as it is to be called (timed, say); None: itself.

        Returns:
            Whether it drives now: not when its state is more than two decisions behind, or of another episode that
            has had more than two.
        """
        state = self._state
        if state is not None and state.frames == 0:
            state = DriveState.initial(warm.engine)
        elif state is not None:
            newest = advance(warm, self.history, MOST_AT_FLIP)
            if newest is None:
                return False
            state = replace(state, carry=newest.carry)
        self.engine, self._state = engine or warm.engine, state
        return True

    def waits_for(self, frame: FrameInputs) -> str | None:
        """Name what this frame needs that is usually on its way: it is sent once, or with a new episode."""
        if self._vehicle is None:
            return "vehicle_info"
        if self._route is None:
            return "waypoints"
        jumped = self._previous is not None and self.monitor.is_new_episode(frame, self._previous)
        return "waypoints" if jumped and not self._route_came else None

    def answer(self, frame: FrameInputs) -> Answer:
        """Give the one answer to a whole frame."""
        jumped = self.monitor.is_new_episode(frame, self._previous)
        new, rerouted = self._route_is_new or jumped, not jumped and self._is_rerouted(frame)
        faults = self.monitor.check_frame(frame, self._route, self._vehicle, None if new else self._previous)
        faults += self._check_period(frame, new or bool(faults))
        self._previous = frame if has_place(frame) else self._previous
        self._route_is_new = self._route_came = False
        self._frames_since_route += 1
        self._near = None if new else self._near
        if faults:
            return self.brake(faults)
        ended = self._restart(frame) if new or self._state is None else []
        scene = self._scene(frame)
        at = project(scene.route, scene.ego.x, scene.ego.y, scene.near)
        self._near, self._arrived = at.index, self._arrived or _is_at_end(scene, at)
        if self._is_due and self._recorder.may_begin(scene, at):
            self._begin()
        command, decision = self._hold() if self._arrived else self._drive(scene)
        if self._intervention:
            self._recorder.intervened(self._intervention)
        gained = self._recorder.frame(scene, self._take_collision(), decision)
        mode = Mode.ARRIVED if self._arrived else Mode.DRIVING
        return Answer(command, mode, (), scene, decision, (*ended, *gained), rerouted)

    def brake(self, faults: tuple[Fault, ...]) -> Answer:
        """Brake with the wheel held where it was; the recurrent state is given up.

        Braking begins a new stretch of experience: what was not driven by the policy is not in it.
        """
        self._state = None
        ended = self._recorder.interrupt(self._take_collision())
        known = self._route is not None and self._vehicle is not None
        mode = Mode.BRAKING if known else Mode.WAITING
        return Answer(self.braking_command(), mode, faults, experiences=tuple(ended))

    def braking_command(self) -> Command:
        """Return the command that stops the vehicle."""
        return Command(steer=self._steer, brake=self._config.fault_brake)

    def _is_rerouted(self, frame: FrameInputs) -> bool:
        """Whether another route came under way. One for a vehicle that stands may be there because it never moved."""
        speeds = [abs(each.odometry.speed) for each in (self._previous, frame) if each is not None]
        return self._route_is_new and min(speeds) >= ARRIVED_MPS

    def _check_period(self, frame: FrameInputs, afresh: bool) -> tuple[Fault, ...]:
        if afresh:
            self._stamps_ns.clear()
        self._stamps_ns.append(frame.stamp_ns)
        return self.monitor.check_period(self._stamps_ns)

    def _drive(self, scene: Scene) -> tuple[Command, Decision | None]:
        assert self._state is not None
        command, self._state, decision = drive_step(scene, self._state, self.engine, self._config.drive)
        self._steer = command.steer
        if decision is not None:
            self.history = self.history.add(decision)
        return command, decision

    def _hold(self) -> tuple[Command, None]:
        """Stand at the end of the route until another one comes."""
        return Command(steer=self._steer, brake=self._config.drive.control.hold_brake), None

    def _restart(self, frame: FrameInputs) -> list[Experience]:
        self._near = None if self._is_elsewhere(frame) else self._near
        ended = self._recorder.interrupt(self._take_collision())
        self._arrived, self._is_due = False, True
        self._state = DriveState.initial(self.engine)
        return ended

    def _begin(self) -> None:
        """Begin an episode with this frame, which is a decision: what was driven back to the lane is not in it."""
        self._recorder.begin()
        self._is_due = False
        self._state = DriveState.initial(self.engine)

    def _is_elsewhere(self, frame: FrameInputs) -> bool:
        """Whether the vehicle was driven out of reach of its latest place on the route, while nobody followed it."""
        assert self._route is not None
        if self._near is None:
            return False
        distance = distance_to(self._route, frame.odometry.x, frame.odometry.y, self._near)
        return distance > self.monitor.limits.route_distance_m

    def _take_collision(self) -> bool:
        collided, self._collided = self._collided, False
        return collided

    def _scene(self, frame: FrameInputs) -> Scene:
        assert self._route is not None and self._vehicle is not None
        assert self._corridor is not None
        drivable = self._map or self._corridor.around(frame.odometry.x, frame.odometry.y, self._near)
        return Scene(
            frame.stamp_s, frame.ego(), frame.objects.objects, self._route, drivable, self._vehicle, self._near
        )


def _is_at_end(scene: Scene, at: RouteProjection) -> bool:
    return scene.route.length - at.s < ARRIVED_M and abs(scene.ego.speed) < ARRIVED_MPS
