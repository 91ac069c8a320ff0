"""The gate's inputs and a steady clock in, exactly one command per frame out, with or without a planner.

Owns the wait for the proposal around safety/gate.py; frames and silences are frame_intake's. Pure: the caller hands in
`now` (monotonic seconds) and publishes what comes back; only the stages have a clock of their own. A frame waits for
the proposal that answers it; when that does not come in time, or the next frame comes first, the gate answers with
what it has.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass, replace

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command, Route, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import distance_to, project, same_road, same_route
from adawm_planner.runtime.frame_inputs import FRAME_PARTS, FrameInputs, Part
from adawm_planner.runtime.frame_intake import FrameIntake
from adawm_planner.runtime.input_monitor import InputMonitor, has_place
from adawm_planner.runtime.odometry_way import WayCheck
from adawm_planner.runtime.own_errors import OwnErrors
from adawm_planner.runtime.stages import GATE, GATE_STAGES, RECEIVE, Stages
from adawm_planner.runtime.watchdog import WorldClock
from adawm_planner.safety.gate import Answer, Heard, Memory, new_episode, step
from adawm_planner.safety.inputs import Late, Proposal, Reading
from adawm_planner.safety.states import STOPS, State
from adawm_planner.safety.verdict import Rule

_log = logging.getLogger(__name__)

LONGEST_STEP_S = 1.0
"""Most that one step counts for in the duration of a fault [s]: a paused world is no lasting fault."""

REPEATED_FRAMES = 20
"""The same route again within this many frames is a publisher that repeats itself."""

KEPT_PROPOSALS = 4
"""As many frames may be under way at once: see runtime/frame_inputs.py."""

JUST_OVER_S = 0.001
"""A part that its frame has waited for too long is at least this much over the limit of its age [s]."""

BLINDS = frozenset({Rule.INPUT_STALE, Rule.INPUT_INVALID})
"""Rules at which the gate does not know where the vehicle is."""

BLIND = Reading(None, None, None, None)


@dataclass(frozen=True)
class GateTimes:
    """How long the gate waits, of wall time."""

    wait_s: float = 0.2  # for a proposal, before the frame is answered without one
    standby_wait_s: float = 0.8  # likewise before the planner was ever heard; the bridge itself waits 1 s

    def __post_init__(self) -> None:
        if not 0.0 < self.wait_s <= self.standby_wait_s:
            raise ValueError(
                f"wait_s is {self.wait_s}, must be above 0 and at most standby_wait_s, {self.standby_wait_s} s"
            )


@dataclass(frozen=True)
class GateOutgoing:
    """A command to send at once."""

    answer: Answer
    stamp_ns: int  # of the frame answered, 0 when none was ever seen
    is_frame: bool  # False: braking for want of a whole frame
    proposed: Command | None  # None: no proposal was at hand
    proposal_age_s: float  # inf without one

    @property
    def intervened(self) -> bool:
        """Whether the command is another one than was proposed."""
        return self.answer.command != self.proposed


@dataclass(frozen=True)
class _ReceivedProposal:
    command: Command
    stamp_ns: int
    received_s: float


@dataclass
class GateCounters:
    """What happened since the gate was configured."""

    proposals: int = 0
    commands: int = 0
    limited: int = 0
    braked: int = 0  # commands in which a rule braked


class GateLoop:
    """Turns arrivals into commands; exactly one per frame."""

    def __init__(
        self, config: GateConfig, monitor: InputMonitor, times: GateTimes, release_on_new_episode: bool
    ) -> None:
        """Take what is allowed.

        Args:
            monitor: judges the gate's own frames.
            release_on_new_episode: a vehicle that was placed anew with a new route is released from a stop.
        """
        self._config, self._monitor, self._times = config, monitor, times
        self._release_on_new_episode = release_on_new_episode
        self.memory = Memory()
        self.counters = GateCounters()
        self.stages = Stages(GATE_STAGES)
        self.intake = FrameIntake(monitor.limits)
        self._errors = OwnErrors(_log)
        self._route: Route | None = None
        self._route_is_new, self._frames_since_route = False, 0
        self._vehicle: VehicleInfo | None = None
        self._overridden = self._release = False
        self._forget()

    def _forget(self) -> None:
        watch = self._config.watch
        self._way = WayCheck(watch.way_m, watch.turn_rad)
        self._near: int | None = None  # latest place on the route
        self._proposals: deque[_ReceivedProposal] = deque(maxlen=KEPT_PROPOSALS)
        self._waiting: FrameInputs | None = None
        self._previous: FrameInputs | None = None
        self._stands = False
        self._stepped_s: float | None = None
        self._stepped_ns = self._stepped_frame = 0

    def begin(self, now_s: float) -> None:
        """Answer frames from now on: that none were answered before is nobody's fault.

        What was learnt of route, vehicle, world and override is kept, and so is a stop that only a release ends, and
        the last command, which the vehicle still has and the next one must not jump from.
        """
        self.intake.begin_anew(now_s)  # a vehicle that was ever heard of is braked for if it is silent from now on
        self._forget()
        self.memory = new_episode(self.memory, release=False)

    def on_part(self, part: Part, now_s: float) -> tuple[GateOutgoing, ...]:
        """Take one part of a frame."""
        self._keep_step(part.stamp_ns)
        frame = self.intake.add(part, now_s)
        if frame is None:
            return self._incomplete(now_s)
        self.stages.add(RECEIVE, self.intake.assembler.took_s)
        before = () if self._waiting is None else self._answer(self._waiting, now_s)
        if self.intake.watchdog.settle():  # not taken as `_previous`: the next frame must still show a jump before it
            return before
        self._waiting = frame
        return (*before, *self._answer_if_ready(now_s))

    def _keep_step(self, stamp_ns: int) -> None:
        """Leave a frame without an answer where the world has gone on without it."""
        if self._waiting is None:
            self.intake.leave_pending(stamp_ns)
        elif self.intake.hurried(stamp_ns, self._waiting.stamp_ns):
            self._waiting = None

    def on_proposal(self, command: Command, stamp_ns: int, now_s: float) -> tuple[GateOutgoing, ...]:
        """Take what the planner wants at the frame of this stamp."""
        self.counters.proposals += 1
        self._proposals.append(_ReceivedProposal(command, stamp_ns, now_s))
        return self._answer_if_ready(now_s)

    def on_route(self, route: Route | None) -> None:
        """Take another route; None withdraws it.

        Some publish their route again and again, or what is left of it: then it is nothing new, unless routes tell of
        episodes.
        """
        repeated = self._frames_since_route < REPEATED_FRAMES and same_route(route, self._route)
        goes_on = not self._release_on_new_episode and (repeated or self._goes_on(route))
        self._route_is_new = self._route_is_new or not goes_on
        self._near = self._near if repeated else None  # the same lap may be sent again, to be driven again
        self._route, self._frames_since_route = route, 0

    def _goes_on(self, route: Route | None) -> bool:
        """Tell whether a route is of the road that is driven on, from the vehicle's latest place."""
        if route is None or self._route is None or self._previous is None:
            return False
        x, y = self._previous.odometry.x, self._previous.odometry.y
        apart_m, turn_rad = self._monitor.limits.route_distance_m, self._config.watch.heading_rad
        return same_road(self._route, route, x, y, self._near, apart_m, turn_rad)

    def on_vehicle(self, vehicle: VehicleInfo) -> None:
        """Take what the vehicle says of itself."""
        self._vehicle = vehicle

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take what the world says of its stepping."""
        self.intake.on_world(world, now_s)

    def on_override(self, overridden: bool) -> None:
        """Take whether a person drives."""
        self._overridden = overridden

    def release(self) -> str:
        """Leave a stop at the next step; return why not, or nothing."""
        if self.memory.state is not State.HOLD:
            return (
                f"the gate is in {self.memory.state.value}, only a vehicle that is held at standstill can be released"
            )
        if not self._stands:
            return "the vehicle is not seen to stand; the gate's state on /diagnostics says what is missing"
        self._release = True
        return ""

    def on_timer(self, now_s: float) -> tuple[GateOutgoing, ...]:
        """Answer what has waited long enough; brake for what has not come."""
        if self._waiting is not None:
            known = bool(self._proposals) and self.memory.state is not State.STANDBY
            limit_s = self._times.wait_s if known else self._standby_wait_s()
            if now_s - self._waiting.received_s < limit_s:
                return ()
            self.intake.watchdog.in_step()
            return self._answer(self._waiting, now_s)
        return self._incomplete(now_s) or self._silent(now_s)

    def _standby_wait_s(self) -> float:
        """No silence is noticed while a frame waits: only a stepped world, which stands still, is waited for longer."""
        world, longest_s = self.intake.world, self._times.standby_wait_s
        stepped = world is not None and world.synchronous
        return longest_s if stepped else min(longest_s, self._monitor.limits.stale_s)

    def last(self, now_s: float) -> GateOutgoing | None:
        """Return a last braking command if a vehicle was ever heard of: at once as hard as can be, as none follows."""
        if not self.intake.received_s:
            return None
        out = self._brake(FRAME_PARTS, self._monitor.limits.stale_s, now_s)
        sent = replace(out.answer.memory.sent, acceleration=-self._config.stop.emergency_mps2)
        self.memory = replace(self.memory, sent=sent)
        return replace(out, answer=replace(out.answer, memory=self.memory, command=sent.command(self._config.command)))

    def _answer_if_ready(self, now_s: float) -> tuple[GateOutgoing, ...]:
        """Answer the waiting frame if its proposal is there, or would not count."""
        frame = self._waiting
        if frame is None:
            return ()
        answered = any(each.stamp_ns == frame.stamp_ns for each in self._proposals)
        useless = self.memory.state in STOPS and not self._release
        if not answered and not useless:
            return ()
        self.intake.watchdog.in_step()
        return self._answer(frame, now_s)

    def _answer(self, frame: FrameInputs, now_s: float) -> tuple[GateOutgoing, ...]:
        self._waiting = None
        self.stages.begin()
        out = self._judge(frame, now_s)
        self._previous, self._route_is_new = frame if has_place(frame) else self._previous, False
        self._frames_since_route += 1
        self.stages.cut(GATE)
        return (out,)

    def _judge(self, frame: FrameInputs, now_s: float) -> GateOutgoing:
        """Answer a frame; an error of ours brakes the vehicle too and is reported as a frame that cannot be."""
        proposal = self._proposal_for(frame, now_s)
        try:
            return self._step(self._read(frame), proposal, frame.stamp_ns, now_s, is_frame=True)
        except Exception as error:
            text = f"internal error, {self._errors.text(error, frame.stamp_s)}"
            reading = replace(self._reading(frame), faults=(text,))  # with a fault no other rule looks at it
            return self._step(reading, proposal, frame.stamp_ns, now_s, is_frame=True)

    def _read(self, frame: FrameInputs) -> Reading:
        """Return the frame as the rules take it, with what the monitor finds wrong."""
        faults = self._take(frame)
        reading = replace(self._reading(frame), faults=faults)
        if self._route is not None and not faults:
            self._near = self._place(self._route, frame.odometry.x, frame.odometry.y)
        return reading

    def _place(self, route: Route, x: float, y: float) -> int:
        """Index of the place on the route; a person may cut a way short, and is then looked for on all of it."""
        near = self._near
        if self._overridden and near is not None and distance_to(route, x, y, near) > self._config.watch.route_m:
            near = None
        return project(route, x, y, near).index

    def _reading(self, frame: FrameInputs) -> Reading:
        return Reading(
            frame.ego(),
            frame.objects.objects,
            self._vehicle,
            self._route,
            wheel_speed=frame.status.speed,
            near=self._near,
        )

    def _take(self, frame: FrameInputs) -> tuple[str, ...]:
        """Judge a frame by the gate's own monitor; begin a new episode where the vehicle was placed anew."""
        before = self._previous
        jumped = before is not None and self._monitor.is_new_episode(frame, before)
        # A route alone, good or bad, does not make a vehicle that drives start anew.
        placed = self._route_is_new and (jumped or self._release_on_new_episode)
        if placed:
            self.memory = new_episode(self.memory, self._release_on_new_episode)
        known = not (jumped or placed)
        self._near = self._near if known else None
        faults = self._monitor.check_frame(frame, self._route, self._vehicle, self._previous if known else None)
        lines = tuple(fault.line() for fault in faults if fault.rule != "input_missing")  # which the rules see too
        if lines or placed or (before is not None and frame.stamp_ns <= before.stamp_ns):
            self._way.restart()
        if not lines and (stuck := self._way.add(frame)):
            lines = (stuck,)
        # Only a simulator that says so places its vehicle; elsewhere a new route does not excuse a jump.
        excused = placed and self._release_on_new_episode
        if before is None or not jumped or excused:
            return lines
        return (f"odometry: {self._monitor.jump(frame, before)}", *lines)

    def _proposal_for(self, frame: FrameInputs, now_s: float) -> Proposal | None:
        """Return the newest proposal that does not answer a later frame: one may overtake the frame before its own."""
        known = (each for each in reversed(self._proposals) if each.stamp_ns <= frame.stamp_ns)
        heard = max(known, key=lambda each: each.stamp_ns, default=None)
        if heard is None:
            return None
        frames = round((frame.stamp_ns - heard.stamp_ns) * 1e-9 / FRAME_S)
        return Proposal(heard.command, now_s - heard.received_s, frames)

    def _incomplete(self, now_s: float) -> tuple[GateOutgoing, ...]:
        """Brake for a frame some part of which does not come."""
        if self._waiting is not None or (found := self.intake.incomplete(now_s)) is None:
            return ()
        return (self._brake(found.frame.missing(), found.limit_s, now_s, found.frame.stamp_ns),)

    def _silent(self, now_s: float) -> tuple[GateOutgoing, ...]:
        rising = self.memory.sent.acceleration > -self._config.stop.emergency_mps2
        limit_s = self.intake.silence(now_s, rising)
        if limit_s is None:
            return ()
        # A stepped world that went on unheard did so for stale_s of its own time.
        return (self._brake(FRAME_PARTS, limit_s or self._monitor.limits.stale_s, now_s),)

    def _brake(
        self, missing: tuple[str, ...], limit_s: float, now_s: float, stamp_ns: int | None = None
    ) -> GateOutgoing:
        """Answer without a frame; what is missing is as old as its newest message, and older than it may be."""
        received, least_s = self.intake.received_s, limit_s + JUST_OVER_S
        late = tuple(Late(name, max(now_s - received.get(name, -math.inf), least_s), limit_s) for name in missing)
        stamp = self._stepped_ns if stamp_ns is None else stamp_ns
        return self._step(replace(BLIND, late=late), None, stamp, now_s, is_frame=False)

    def _step(
        self, reading: Reading, proposal: Proposal | None, stamp_ns: int, now_s: float, is_frame: bool
    ) -> GateOutgoing:
        elapsed = self._elapsed_s(stamp_ns, now_s)
        heard = Heard(reading, proposal, elapsed, self._overridden, self._release)
        answer = step(heard, self.memory, self._config)
        sees = not any(verdict.rule in BLINDS for verdict in answer.verdicts)
        self.memory, self._release = answer.memory, self._release and not sees  # it waits for a look at the vehicle
        self._stands = sees and reading.stands(self._config.stop.standstill_mps)
        self._stepped_s, self._stepped_ns = now_s, stamp_ns
        self._stepped_frame = 0 if self.intake.world is None else self.intake.world.frame
        proposed = None if proposal is None else proposal.command
        age = math.inf if proposal is None else proposal.age_s
        out = GateOutgoing(answer, stamp_ns, is_frame, proposed, age)
        self.counters.commands += 1
        braked = any(verdict.deceleration > 0.0 for verdict in answer.verdicts) or answer.state in STOPS
        self.counters.braked += braked
        self.counters.limited += out.intervened and not braked and answer.state is not State.OVERRIDDEN
        return out

    def _elapsed_s(self, stamp_ns: int, now_s: float) -> float:
        """Time since the step before: of the world where it is stepped, else of the wall.

        A stepped world that waits for a slow sensor does not move meanwhile. Where it goes on unheard its frames count.
        """
        if self._stepped_s is None:
            return 0.0
        world = self.intake.world
        if world is None or not world.synchronous:
            elapsed = now_s - self._stepped_s
        elif stamp_ns != self._stepped_ns:
            elapsed = (stamp_ns - self._stepped_ns) * 1e-9
        else:
            elapsed = FRAME_S * (world.frame - self._stepped_frame)
        return min(max(elapsed, 0.0), LONGEST_STEP_S)
