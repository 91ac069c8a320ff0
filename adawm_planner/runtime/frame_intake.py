"""Parts of frames and two clocks in; whole frames, incomplete ones and silences out, each told once.

What the gate and the planner have in common before they answer anything: each has one of its own. Pure: the caller
hands in `now` (monotonic seconds); the other clock is the world's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adawm_planner.runtime.frame_inputs import FrameAssembler, FrameInputs, Part, PendingFrame
from adawm_planner.runtime.input_monitor import InputLimits
from adawm_planner.runtime.watchdog import Watchdog, WorldClock, patience


@dataclass(frozen=True)
class Incomplete:
    """A frame some part of which has not come in time; it is closed."""

    frame: PendingFrame
    waited_s: float  # by the clock that counts
    limit_s: float


class FrameIntake:
    """The assembler of one reader's frames, and its watchdog."""

    def __init__(self, limits: InputLimits) -> None:
        self._limits = limits
        self.world: WorldClock | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew with a vehicle that was never heard of; what the world said of itself is kept."""
        limits = self._limits
        self.assembler = FrameAssembler()
        self.watchdog = Watchdog(limits.stale_s, limits.repeat_s, limits.stepped_stale_s)

    def begin_anew(self, now_s: float) -> None:
        """Begin anew; a vehicle that was ever heard of counts as silent from now on."""
        received_s = self.assembler.received_s
        self.forget()
        if received_s:
            self.assembler.received_s = received_s
            self.watchdog.heard(self.world, now_s)

    @property
    def received_s(self) -> Mapping[str, float]:
        """When the newest message of each input came; empty before the first."""
        return self.assembler.received_s

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take what the world says of its stepping."""
        self.watchdog.world(self.world, world, now_s)
        self.world = world

    def add(self, part: Part, now_s: float) -> FrameInputs | None:
        """Take one part; return the frame if that made it whole. A part that comes too late is no sign of life."""
        late = self.assembler.late_parts
        frame = self.assembler.add(part, now_s)
        if self.assembler.late_parts == late:
            self.watchdog.heard(self.world, now_s)
        return frame

    def hurried(self, stamp_ns: int, unanswered_ns: int) -> bool:
        """Tell whether the world has gone on from an unanswered frame; as `Watchdog.hurried`."""
        return self.watchdog.hurried(self.world, stamp_ns, unanswered_ns)

    def leave_pending(self, stamp_ns: int) -> None:
        """Close the earliest incomplete frame where the world has gone on from it.

        Args:
            stamp_ns: of an input that has just come, before it is added.
        """
        pending = self.assembler.oldest_pending()
        if pending is not None and self.hurried(stamp_ns, pending.stamp_ns):
            self.assembler.close(pending.stamp_ns)

    def incomplete(self, now_s: float) -> Incomplete | None:
        """Close and return the earliest incomplete frame, once it has waited for too long."""
        frame, since_s = self.assembler.oldest_pending(), self.assembler.waiting_since_s
        if frame is None or since_s is None:
            return None
        waited_s, limit_s = patience(self.world, now_s - since_s, self.assembler.pending_ns(), self._limits)
        if waited_s < limit_s:
            return None
        self.assembler.close(frame.stamp_ns)
        return Incomplete(frame, waited_s, limit_s)

    def silence(self, now_s: float, rising: bool = False) -> float | None:
        """The limit of a silence for which a braking command is due [s], None when none is; the command counts as sent.

        Args:
            now_s: monotonic clock.
            rising: as `Watchdog.is_due`.
        """
        if not self.watchdog.is_due(self.world, now_s, rising):
            return None
        limit_s = self.watchdog.wall_limit_s(self.world)
        self.watchdog.sent(self.world, now_s)
        return limit_s
