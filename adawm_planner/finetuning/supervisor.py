"""A worker process, kept alive: started, told what is wanted, listened to, started again after a death.

The wait before a new start doubles with each death up to a limit, and is short again after a finished round. A worker
that lives and says nothing is not ended: it may be without processor time, and a round is worth waiting for. No torch
and no ROS here; `ros/finetuner_node` calls `poll` from a timer.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe

from adawm_planner.finetuning.messages import Message, RoundDone, Settings, Status, Trouble, Wish, decode, encode
from adawm_planner.processes import module_command
from adawm_planner.workers import ending

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
END_S = 2.0
"""How long a worker that was told to end is waited for before it is killed [s]; nothing is lost by either."""

SILENT_S = 120.0
"""Time without a message from a living worker after which it may hang [s], whatever its phase. It reports every second,
except while it starts, measures, begins an update, judges, or writes. With a full window on two busy cores, the longest
of these took 15 s. Eight times that is for slower computers, and for a planner that leaves little of the processor.
"""

STARTING = "starting"
"""Phase of a worker that has not said any yet."""

WORKER = tuple(module_command("adawm_planner.finetuning.worker_process"))
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Supervisor:
    """Owns the worker process; used by one thread."""

    def __init__(
        self, settings: Settings, command: Sequence[str] = WORKER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the first worker at the next `poll`.

        Args:
            settings: of every worker.
            command: what is run; the pipe's descriptor and this process's id are appended.
            clock: monotonic [s].
        """
        self._settings, self._command, self._clock = settings, command, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._wish: Wish | None = None
        self._unsent: Wish | None = None  # what this worker has not been told yet
        self._wait, self._start_at = FIRST_WAIT_S, clock()
        self._trouble, self._round = "", 0  # newest round heard of
        self._heard_at = clock()  # start of the worker, or its newest message
        self.phase = STARTING  # of the worker, as it said last
        self.deaths = 0  # since this was made
        self.last_death = ""  # one line: how the worker ended, and why if it could say

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def restart_in_s(self) -> float:
        """Time until the next start [s]; 0 while there is a worker."""
        return 0.0 if self._process is not None else max(self._start_at - self._clock(), 0.0)

    @property
    def silent_s(self) -> float:
        """Time since the worker's start or its newest message [s]; 0 while there is none."""
        return 0.0 if self._process is None else self._clock() - self._heard_at

    def want(self, wish: Wish) -> None:
        """Tell the worker, and every later one, what is wanted."""
        if wish != self._wish:
            self._wish = self._unsent = wish
            self._tell()

    def poll(self) -> list[Message]:
        """What the worker has said since; starts one where there is none and its time has come."""
        if self._process is None:
            if self._clock() >= self._start_at:
                self._start()
            return []
        self._tell()
        ended = self._process.poll()  # looked at first, so that its last words are still read
        messages = self._listen()
        if messages:
            self._heard_at = self._clock()
        for message in messages:
            if isinstance(message, Status):
                self.phase = message.phase
            elif isinstance(message, RoundDone) and message.round > self._round:
                # A worker begins with the last round of the one before it: that one finished nothing yet.
                self._wait, self._round = FIRST_WAIT_S, message.round
            elif isinstance(message, Trouble):
                self._trouble = message.text
        if ended is not None:
            self._buried(ended)
        return messages

    def stop(self) -> None:
        """End the worker; none is started again."""
        self._start_at = float("inf")
        if self._process is None:
            return
        self._close()
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        try:
            self._channel, self._trouble = self._spawn(), ""
        except OSError as error:  # no process, memory or descriptor is left: a later start may find one
            self._died(f"the worker cannot be started ({error})")
            return
        self._heard_at, self.phase = self._clock(), STARTING
        self._send(self._settings)
        self._unsent = self._wish
        self._tell()

    def _spawn(self) -> Connection:
        """Start a process, and return this end of the pipe to it. Raises OSError, and then nothing is left open."""
        ours, theirs = Pipe(duplex=True)
        threads = {name: str(self._settings.threads) for name in THREAD_VARIABLES}
        try:
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **threads},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the node, which ends this process; and see `lower_priority`
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _listen(self) -> list[Message]:
        messages = list[Message]()
        try:
            while self._channel is not None and self._channel.poll():
                messages.append(decode(self._channel.recv_bytes()))
        except (EOFError, OSError):
            self._close()
        return messages

    def _tell(self) -> None:
        """Send the newest wish if the pipe has room for it, else at a later look.

        A worker within a round may not read for minutes, and its node has one thread for everything.
        """
        if self._unsent is None or self._channel is None:
            return
        room = select.poll()
        room.register(self._channel, select.POLLOUT)
        if room.poll(0):
            wish, self._unsent = self._unsent, None
            self._send(wish)

    def _send(self, message: Message) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send_bytes(encode(message))
        except OSError:
            self._close()

    def _buried(self, code: int) -> None:
        """Take note of how a worker ended."""
        self._close()
        self._process = None
        self._died(f"the worker {ending(code)}" + (f": {self._trouble}" if self._trouble else ""))

    def _died(self, how: str) -> None:
        """Count a worker that ended, or could not be started, and set the time of the next start."""
        self.deaths += 1
        self.last_death = how
        self._start_at = self._clock() + self._wait
        self._wait = min(2.0 * self._wait, LONGEST_WAIT_S)

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
