"""The bridge's side of the synchronous handshake, without ROS: what arrives goes in, what to do comes out.

Three small state machines: which command drives the ego (`EgoControl`), whether this frame's commands are
all there (`FrameWait`), and whether the world runs, stands or makes one step (`RunState`). Their rules are
carla_ros_bridge's (bridge.py and ego_vehicle.py at e9063d9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import IntEnum

from adawm_planner.data_types import Command

COMMAND_WAIT_S = 1.0
"""Longest wait for the commands of one frame [s of wall time], as in the real bridge."""

BRAKE = Command(brake=1.0)
"""What `EgoControl` applies once its own timeout has passed."""


class RunCommand(IntEnum):
    """carla_msgs/CarlaControl's values."""

    PLAY = 0
    PAUSE = 1
    STEP_ONCE = 2


class FrameWait:
    """Whether every ego has sent its command for the frame.

    As in the real bridge nothing ties a command to a frame: it only takes the ego's id off a list that is
    refilled before every tick. A command that comes while the list is empty sets the event as well, so
    the next wait ends at once. (The real bridge leaves the event set when the command came before the wait
    began, so that the frame after it does not wait: a race this class does not reproduce.)
    """

    def __init__(self) -> None:
        self._expected: list[int] = []
        self._event = False

    def restart(self) -> None:
        """Forget what came before, as at the start of an episode."""
        self._expected, self._event = [], False

    def fill(self, ego_ids: Iterable[int]) -> None:
        """Begin a frame: each of these egos owes a command."""
        self._expected = list(ego_ids)

    def command(self, ego_id: int) -> bool:
        """Take note of an applied command; returns whether it was expected."""
        expected = ego_id in self._expected
        if expected:
            self._expected.remove(ego_id)
        if not self._expected:
            self._event = True
        return expected

    @property
    def over(self) -> bool:
        """Whether the wait ends without the time limit."""
        return self._event or not self._expected

    def end(self) -> tuple[int, ...]:
        """End the wait; returns the ids that are missing, none if the event had been set."""
        missing = () if self.over else tuple(self._expected)
        self._event = False
        return missing


class EgoControl:
    """Which command the ego gets: the newest on the selected channel, held until the next one.

    Args:
        timeout: simulated seconds without a command after which full brake is applied instead; 0 holds the
            last command for ever, as the real bridge does.
    """

    def __init__(self, timeout: float = 0.0) -> None:
        if timeout < 0.0:
            raise ValueError(f"command timeout is {timeout} s, must be at least 0 (0 = hold for ever)")
        self._timeout = timeout
        self.override = False
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """Forget what was commanded, at simulated time `now` [s]; the channel stays selected."""
        self._held = Command()
        self._since = now
        self.in_time = False

    def command(self, command: Command, manual: bool, now: float) -> bool:
        """Take a command from a channel at simulated time `now` [s]; returns whether it is applied."""
        if manual is not self.override:
            return False
        self._held, self._since, self.in_time = command, now, True
        return True

    def timed_out(self, now: float) -> bool:
        """Whether the brake stands in for the command at simulated time `now` [s]."""
        return 0.0 < self._timeout <= now - self._since + 1e-9

    def take(self, now: float) -> Command:
        """What to apply in the tick that begins at simulated time `now` [s]."""
        self.in_time = False
        return BRAKE if self.timed_out(now) else self._held


class RunState:
    """PLAY, PAUSE and STEP_ONCE; of several queued commands only the newest counts."""

    def __init__(self) -> None:
        self._queue: deque[RunCommand] = deque()
        self.running = True

    def put(self, command: int) -> None:
        """Queue a command.

        Raises:
            ValueError: it is none of PLAY, PAUSE, STEP_ONCE.
        """
        try:
            self._queue.append(RunCommand(command))
        except ValueError:
            raise ValueError(f"control command is {command}, must be 0 (PLAY), 1 (PAUSE) or 2 (STEP_ONCE)") from None

    def may_tick(self) -> bool:
        """Take what is queued; returns whether the next frame may be ticked now.

        `running` is what the status topic shows. A single step queues the pause that ends it.
        """
        if self._queue:
            newest = self._queue[-1]
            self._queue.clear()
            self.running = newest is not RunCommand.PAUSE
            if newest is RunCommand.STEP_ONCE:
                self._queue.append(RunCommand.PAUSE)
        return self.running
