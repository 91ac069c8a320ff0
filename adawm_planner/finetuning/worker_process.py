"""The worker's process: at low priority before anything large is imported, so that learning is in nobody's way.

Run by `supervisor` as a module, with a file descriptor and the parent's process id; what it does is in `worker`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from adawm_planner.finetuning.messages import Gone, Settings, Trouble, decode, encode

AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES, AUTOGROUP_PAUSE_S = 50, 0.05
"""The kernel takes one change of a session's niceness per tenth of a second, from all processes together."""


NICEST = 19
FAILED_EXIT = 3
_PR_SET_PDEATHSIG = 1


def lower_priority(nice: int, parent: int) -> None:
    """Let everybody else go first, be the first to go when memory is short, and end with the parent process.

    Niceness counts only within a session where the kernel groups processes by session, and between sessions the
    group's own does (sched(7), "The autogroup feature"); the supervisor gave this process a session of its own.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(0)
    os.nice(nice)
    lower_group(nice)
    if nice == NICEST:  # whoever wakes up goes first at once, and does not wait for the end of a time slice
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        print("oom_score_adj cannot be set: when memory is short, another process may go first", file=sys.stderr)


def lower_group(nice: int) -> None:
    """Niceness of this process's session; nothing where the kernel does not group by session."""
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(nice))
            return
        except FileNotFoundError:
            return
        except BlockingIOError:  # the kernel takes one such change at a time, and a pause after it
            time.sleep(AUTOGROUP_PAUSE_S)
        except OSError:
            break
    print("the session's niceness cannot be set: training may take time from other processes", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Run a worker on an inherited pipe; arguments: its file descriptor, and the parent's process id."""
    channel, parent = Connection(int(arguments[0])), int(arguments[1])
    try:
        settings = decode(channel.recv_bytes())
        assert isinstance(settings, Settings), settings
        lower_priority(settings.nice, parent)
        # Seconds of work, and by now nobody waits for this process: neither the planner, nor who killed its node.
        import torch

        from adawm_planner.finetuning.worker import Worker

        torch.set_num_threads(settings.threads)
        Worker(settings, channel).run()
    except (Gone, EOFError):
        return 0
    except Exception as error:
        text = str(error)
        if not isinstance(error, (ValueError, OSError)):  # the others say themselves what to do
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
        try:
            channel.send_bytes(encode(Trouble(" ".join(text.split()))))
        except OSError:
            return 0
        return FAILED_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
