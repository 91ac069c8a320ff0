"""Silence in, at most one braking command out: decides when a vehicle that gets no frames is braked.

carla_ros_bridge in synchronous mode counts commands: a second one for the same frame is 'unexpected' and
is taken as the next frame's. So in that mode a silence is answered once per world frame, never while the
world is paused, and the answer is settled by not answering the first frame after the silence. A stepped
world that takes its time (slow sensors, a new episode) does not move meanwhile, so its silence counts in
frames it went on without being heard, and in wall time only after long.
"""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.dims import FRAME_S
from adawm_planner.runtime.frame_inputs import RESTART_NS
from adawm_planner.runtime.input_monitor import InputLimits


@dataclass(frozen=True)
class WorldClock:
    """What carla_msgs/CarlaStatus says; a vehicle that has no such topic has no WorldClock."""

    frame: int
    synchronous: bool  # the world waits for somebody to step it
    running: bool  # False while paused

    @property
    def paused(self) -> bool:
        """Whether simulated time stands still on purpose."""
        return self.synchronous and not self.running


class Watchdog:
    """Knows when the vehicle was last heard of and last commanded (monotonic seconds)."""

    def __init__(self, limit_s: float, repeat_s: float, stepped_limit_s: float) -> None:
        """Take the limits.

        Args:
            limit_s: silence before braking, of wall time, or of simulated time in a stepped world.
            repeat_s: wall time between two braking commands where nothing counts them.
            stepped_limit_s: wall time before braking where the world stands still.
        """
        self._limit_s, self._repeat_s, self._stepped_limit_s = limit_s, repeat_s, stepped_limit_s
        self._heard_frame: int | None = None  # the world's when an input was last heard; None: it is not known yet
        self._heard_s: float | None = None
        self._sent_s = -1e9
        self._sent_frame: int | None = None
        self._answered = False
        self._in_step = False
        self.owed = False

    def heard(self, world: WorldClock | None, now_s: float) -> None:
        """Note an input of a frame."""
        self._heard_s = now_s
        self._heard_frame = None if world is None else world.frame
        self._answered = False

    def world(self, before: WorldClock | None, after: WorldClock, now_s: float) -> None:
        """Note what the world said of itself; silence counts anew from the end of a pause."""
        if before is not None and before.paused and not after.paused and self._heard_s is not None:
            self._heard_s = now_s
        if self._heard_frame is None:  # who joins late may hear of a frame before it hears of the world
            self._heard_frame = after.frame

    def is_due(self, world: WorldClock | None, now_s: float, rising: bool = False) -> bool:
        """Tell whether a braking command has to be sent now.

        Before the first input nothing is due: there is no vehicle yet, and a bridge that is just starting
        would take the command as the answer to a frame nobody has seen.

        Args:
            world: as it is.
            now_s: monotonic clock.
            rising: the brakes are still being built up, by so much per frame: where nothing counts commands, each
                frame period has one until they are.
        """
        if self._heard_s is None or (world is not None and world.paused):
            return False
        if now_s - self._heard_s <= self.wall_limit_s(world):
            return False
        if world is None or not world.synchronous:
            return now_s - self._sent_s >= (FRAME_S if rising else self._repeat_s)
        return not self._answered or world.frame != self._sent_frame

    def wall_limit_s(self, world: WorldClock | None) -> float:
        """Return the wall time of silence that is too long in this world [s]."""
        if world is None or not world.synchronous:
            return self._limit_s
        unheard_s = 0.0 if self._heard_frame is None else FRAME_S * (world.frame - self._heard_frame)
        return 0.0 if unheard_s > self._limit_s else self._stepped_limit_s

    def sent(self, world: WorldClock | None, now_s: float) -> None:
        """Note that the braking command has left."""
        self._sent_s, self._answered = now_s, True
        if world is not None and world.synchronous:
            self._sent_frame, self.owed = world.frame, True

    def in_step(self) -> None:
        """Note that a frame was answered while it was the newest."""
        self._in_step = True

    def hurried(self, world: WorldClock | None, stamp_ns: int, unanswered_ns: int) -> bool:
        """Tell whether a stepped world has gone on from a frame without our command.

        It has when a later frame begins first: somebody else's command was counted, or its patience has ended. A
        command for that frame would count for the next one, and every later one would come a frame early from then
        on. A stepped world may also wait for nobody, so this is said once until a frame is answered in step again. A
        stamp further ahead than it can have gone meanwhile says nothing: it is of another clock.

        Args:
            world: as it is.
            stamp_ns: of an input that has just come.
            unanswered_ns: of the earliest frame that has no answer yet.
        """
        if not 0 < stamp_ns - unanswered_ns <= RESTART_NS or not self._in_step:
            return False
        if world is None or not world.synchronous:
            return False
        self._in_step = False
        return True

    def settle(self) -> bool:
        """Tell, once, whether this frame's command has already been taken by the bridge."""
        owed, self.owed = self.owed, False
        return owed


def patience(world: WorldClock | None, waited_s: float, pending_ns: int, limits: InputLimits) -> tuple[float, float]:
    """Return how long an incomplete frame has waited, and may wait [s].

    A stepped world usually waits for its command, and may be slow to publish the rest of the frame. Where it goes on
    all the same, simulated time counts.

    Args:
        world: as it is.
        waited_s: wall time since the frame's first part.
        pending_ns: simulated time between the earliest and the latest incomplete frame.
        limits: of the inputs.
    """
    if world is None or not world.synchronous:
        return waited_s, limits.incomplete_s
    simulated_s = 1e-9 * pending_ns
    if simulated_s >= limits.incomplete_s:
        return simulated_s, limits.incomplete_s
    return waited_s, limits.stepped_incomplete_s
