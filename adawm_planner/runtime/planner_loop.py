"""Inputs and a steady clock in, timed answers out: one per frame, and braking when frames fail to come.

Owns the short wait for what is sent once; frames and silences are frame_intake's. Pure: the caller hands in `now`
(monotonic seconds) and publishes what comes back. What its stages take is counted by a clock of their own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from adawm_planner.data_types import DrivableMap, Route, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.runtime.frame_inputs import FrameInputs, Part
from adawm_planner.runtime.frame_intake import FrameIntake
from adawm_planner.runtime.input_monitor import Fault
from adawm_planner.runtime.latency import PlannerTimes, TimedEngine
from adawm_planner.runtime.own_errors import OwnErrors
from adawm_planner.runtime.planner_core import Answer, Mode, PlannerCore
from adawm_planner.runtime.stages import CONTROL, PUBLISH, RECEIVE
from adawm_planner.runtime.warm import Warm
from adawm_planner.runtime.watchdog import WorldClock

_log = logging.getLogger(__name__)

SETTLE_S = 0.2
"""How long a frame waits, once, for a route, vehicle or map that is on its way [s]."""


@dataclass(frozen=True)
class Outgoing:
    """An answer to send at once."""

    answer: Answer
    stamp_ns: int  # of the frame answered, 0 when no frame was ever seen
    received_s: float  # monotonic, arrival of the frame's newest part
    is_frame: bool  # False: braking for want of a whole frame


@dataclass
class Counters:
    """What happened since the planner was configured."""

    frames: int = 0
    commands: int = 0
    decisions: int = 0
    missed_ticks: int = 0
    unbalanced_frames: int = 0  # frames whose command a stepped world had already taken


class PlannerLoop:
    """Turns arrivals into answers; at most one per frame."""

    def __init__(
        self, core: PlannerCore, want_map: bool, times: PlannerTimes | None = None, counted: bool = True
    ) -> None:
        """Take the core; it answers nothing before `begin`.

        Args:
            want_map: the first frame waits a moment for the map too.
            times: where durations are noted, the engine's among them.
            counted: whether the bridge itself takes the commands, and counts them; False: a gate does.
        """
        self.core, self._counted = core, counted
        self.counters = Counters()
        self.times = times or PlannerTimes()
        self.intake = FrameIntake(core.monitor.limits)
        self._errors = OwnErrors(_log)
        self._map_pending = want_map
        self._active = False
        self._forget()

    def _forget(self) -> None:
        self._waiting: FrameInputs | None = None
        self._may_wait = True
        self._stamp_ns = 0

    def begin(self) -> None:
        """Answer frames from now on; what was learnt of route, vehicle, map and world is kept."""
        self.intake.forget()
        self.core.forget_frames()
        self._forget()
        self._active = True

    def end(self) -> Outgoing | None:
        """Answer no more frames; return a last braking command if a vehicle was ever heard of."""
        self._active = False
        answer = self.core.brake(())
        return Outgoing(answer, self._stamp_ns, 0.0, is_frame=False) if self.intake.received_s else None

    def flip(self, warm: Warm) -> bool:
        """Drive with another engine from the next frame on; see `PlannerCore.flip`. Its steps are timed."""
        return self.core.flip(warm, TimedEngine(warm.engine, self.times))

    def on_part(self, part: Part, now_s: float) -> Outgoing | None:
        """Take one part of a frame."""
        if not self._active:
            return None
        self.intake.leave_pending(part.stamp_ns)
        frame = self.intake.add(part, now_s)
        if frame is None:
            return self._incomplete(now_s) if self._waiting is None else None
        self.counters.frames += 1
        self.times.stages.add(RECEIVE, self.intake.assembler.took_s)
        if self._waiting is not None:
            self.counters.missed_ticks += 1  # the world went on without the waiting frame's answer
        elif self._may_wait and self._lacks(frame):
            self._waiting = frame
            return None
        return self._answer(frame)

    def on_route(self, route: Route | None) -> Outgoing | None:
        """Take a new route."""
        self.core.set_route(route)
        return self._resume()

    def on_vehicle(self, vehicle: VehicleInfo) -> Outgoing | None:
        """Take what the vehicle says of itself."""
        self.core.set_vehicle(vehicle)
        return self._resume()

    def on_map(self, drivable: DrivableMap | None) -> Outgoing | None:
        """Take the map, or that there is none to be had."""
        self._map_pending = False
        self.core.set_map(drivable)
        return self._resume()

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take what the world says of its stepping."""
        self.intake.on_world(world, now_s)

    def on_timer(self, now_s: float) -> Outgoing | None:
        """Brake for what has not come in time, if anything."""
        if not self._active:
            return None
        if self._waiting is not None:
            return self._answer(self._waiting) if now_s - self._waiting.received_s >= SETTLE_S else None
        return self._incomplete(now_s) or self._silent(now_s)

    def sent(self, out: Outgoing, now_s: float) -> None:
        """Note that the answer's command has left."""
        self.counters.commands += 1
        if out.is_frame:
            self.times.stages.cut(PUBLISH)
            self.times.latency.add(now_s - out.received_s)
            self.counters.missed_ticks += now_s - out.received_s > FRAME_S

    def _lacks(self, frame: FrameInputs) -> bool:
        return self._map_pending or self.core.waits_for(frame) is not None

    def _resume(self) -> Outgoing | None:
        """Answer the waiting frame once nothing it waits for is missing."""
        if self._waiting is None or self._lacks(self._waiting):
            return None
        return self._answer(self._waiting)

    def _answer(self, frame: FrameInputs) -> Outgoing | None:
        self._waiting, self._map_pending, self._stamp_ns = None, False, frame.stamp_ns
        if self.intake.watchdog.settle() and self._counted:
            self.counters.unbalanced_frames += 1
            return None
        self.intake.watchdog.in_step()
        self.times.stages.begin()
        answer = self._think(frame)
        self.times.stages.cut(CONTROL)
        # Waiting is for what is on its way; after one vain wait it is not, until driving shows it came.
        self._may_wait = answer.mode in (Mode.DRIVING, Mode.ARRIVED)
        self.counters.decisions += answer.decision is not None
        return Outgoing(answer, frame.stamp_ns, frame.received_s, is_frame=True)

    def _think(self, frame: FrameInputs) -> Answer:
        """Answer a frame; an error of ours brakes the vehicle too and is reported like any other fault."""
        try:
            return self.core.answer(frame)
        except Exception as error:
            text = self._errors.text(error, frame.stamp_s)
            return self.core.brake((Fault("internal_error", "planner", 0.0, 0.0, text),))

    def _incomplete(self, now_s: float) -> Outgoing | None:
        found = self.intake.incomplete(now_s)
        if found is None:
            return None
        self._stamp_ns = found.frame.stamp_ns
        monitor, received_s = self.core.monitor, self.intake.received_s
        return self._brake(monitor.incomplete(found.frame, found.waited_s, found.limit_s, received_s, now_s))

    def _silent(self, now_s: float) -> Outgoing | None:
        limit_s = self.intake.silence(now_s)
        if limit_s is None:
            return None
        return self._brake(self.core.monitor.stale(limit_s, self.intake.received_s, now_s))

    def _brake(self, faults: tuple[Fault, ...]) -> Outgoing:
        return Outgoing(self.core.brake(faults), self._stamp_ns, 0.0, is_frame=False)
