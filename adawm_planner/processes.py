"""Commands of the stack's processes in, supervised children out: started, watched, and never left behind.

Every child runs in a session of its own, so that Ctrl-C reaches this process alone and the order of the stop
is ours; the kernel ends a child whose parent died, however it died.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from types import FrameType, TracebackType

from adawm_planner.workers import ending

GRACE_S = 5.0
"""Time a child has for its own clean end after SIGINT [s]; then SIGTERM and 2 s, then SIGKILL."""

TERM_S = 2.0
TAIL_LINES = 15
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager's stop, a closed terminal."""

_PR_SET_PDEATHSIG = 1

_AS_MAIN = (
    "import sys; sys.path[:] = {path!r}; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str) -> list[str]:
    """Words that run a module as `python -m` does, with the imports of this process; its arguments follow them.

    `-m` itself looks into the current directory first, which a program that was started by its name does not: a child
    would run whatever torch.py lies there, or another version of this package. (-P is Python 3.11's.)
    """
    return [sys.executable, "-c", _AS_MAIN.format(path=sys.path), module]


class ChildDied(Exception):
    """A process of the stack ended although nobody asked it to."""


class Interrupted(Exception):
    """The user or the system asked this command to end."""

    def __init__(self, signum: int) -> None:
        """Keep which signal asked."""
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """The processes of one run; leaving the context ends all of them."""

    def __init__(self, log_dir: Path) -> None:
        """Children write to `log_dir`/NAME.log."""
        self.log_dir = log_dir
        self._children: list[_Child] = []
        # Looked up before any fork: the child must not take the import lock between fork and exec.
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def __enter__(self) -> Children:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start one child and return its process id.

        Raises:
            OSError: the command cannot be executed.
        """
        log = self.log_dir / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=self._die_with_parent(os.getpid()),
            )
        self._children.append(_Child(name, process, log))
        return process.pid

    def _die_with_parent(self, parent: int) -> Callable[[], None]:
        """What the child runs before exec: have the kernel kill it when its parent ends."""
        prctl = self._prctl

        def before_exec() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the parent ended before the call above
                os._exit(1)

        return before_exec

    def pids(self) -> dict[str, int]:
        """Process id of every child, by its name."""
        return {child.name: child.process.pid for child in self._children}

    def check(self, may_end: frozenset[str] = frozenset(), may_die: frozenset[str] = frozenset()) -> None:
        """Notice a child that is gone.

        Args:
            may_end: names of children that may have ended with code 0.
            may_die: names of children that may have ended in any way.

        Raises:
            ChildDied: naming the child, how it ended, and the end of its log.
        """
        for child in self._children:
            code = child.process.poll()
            allowed = child.name in may_die or (code == 0 and child.name in may_end)
            if code is not None and not allowed:
                raise ChildDied(f"{child.name} {ending(code)}; the end of {child.log}:\n{tail(child.log)}")

    def ended(self, name: str) -> str | None:
        """How a child ended, with the end of its log; None while it runs, or where there is none of this name."""
        for child in self._children:
            code = child.process.poll()
            if child.name == name and code is not None:
                return f"{child.name} {ending(code)}; the end of {child.log}:\n{tail(child.log)}"
        return None

    def finished(self, name: str, patience: float) -> int | None:
        """Wait for a child's end, `patience` seconds at most; its exit code (negative: signal), None while it runs."""
        child = next(child for child in self._children if child.name == name)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(patience)
        return child.process.returncode

    def stop(self) -> None:
        """End every child, newest first asked, and wait until none is left."""
        self._end(self._children)

    def end(self, name: str) -> None:
        """End one child as `stop` ends all, and forget it; the others live on."""
        self._end([child for child in self._children if child.name == name])
        self._children = [child for child in self._children if child.name != name]

    def _end(self, children: Sequence[_Child]) -> None:
        with _signals_ignored():
            for signum, patience in ((signal.SIGINT, GRACE_S), (signal.SIGTERM, TERM_S), (signal.SIGKILL, TERM_S)):
                alive = [child for child in reversed(children) if child.process.poll() is None]
                for child in alive:
                    _signal_group(child.process.pid, signum)
                _wait_all(alive, patience)
            for child in children:  # what a child itself may have started
                _signal_group(child.process.pid, signal.SIGKILL)


def _signal_group(group: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _wait_all(children: Sequence[_Child], patience: float) -> None:
    deadline = time.monotonic() + patience
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(max(deadline - time.monotonic(), 0.0))


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented; says so where there are none."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"  | {line}" for line in text) if text else "  | (the log is empty)"


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """A second Ctrl-C must not cut the clean-up short; the clean-up is bounded in time."""
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` while the block runs (main thread only)."""

    def stop(signum: int, _: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {each: signal.signal(each, stop) for each in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


HIGHEST_DOMAIN_ID = 101
"""Above it, DDS ports collide with Linux's ephemeral ports (docs.ros.org, About-Domain-ID)."""


def ros_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Add a domain of this run's own and discovery on this machine only, unless the user chose otherwise.

    Raises:
        ValueError: the user's ROS_DOMAIN_ID is none that DDS can use, or all are taken.
    """
    chosen = dict(environment)
    if not is_domain(given := chosen.get("ROS_DOMAIN_ID", "")):
        raise ValueError(
            f"ROS_DOMAIN_ID is '{given}', must be 0 to {HIGHEST_DOMAIN_ID}; export such a number, or unset it"
        )
    chosen.setdefault("ROS_DOMAIN_ID", str(free_domain_id()))
    chosen.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return chosen


def is_domain(value: str) -> bool:
    """Whether a ROS_DOMAIN_ID is one that DDS can use; empty is the default, 0."""
    return value == "" or (value.isascii() and value.isdigit() and int(value) <= HIGHEST_DOMAIN_ID)


def free_domain_id() -> int:
    """A DDS domain of which no participant holds the first unicast discovery port on this machine.

    Raises:
        ValueError: all are taken.
    """
    candidates = list(range(1, HIGHEST_DOMAIN_ID + 1))
    SystemRandom().shuffle(candidates)  # two runs started together must not pick the same one
    for domain in candidates:
        if _port_is_free(7400 + 250 * domain + 10):  # RTPS 2.3, 9.6.1.4: PB + DG * domain + d1
            return domain
    raise ValueError(f"no free ROS domain: each of 1..{HIGHEST_DOMAIN_ID} has a participant on this machine")


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def held(command: list[str], gate: Path) -> list[str]:
    """A command that begins once somebody opens the named pipe `gate`.

    It is forked with the others at the start, because this process has threads as soon as it listens.
    """
    return ["sh", "-c", 'read -r _ < "$0"; exec "$@"', str(gate), *command]


def release(gate: Path, name: str) -> None:
    """Let the held command of process `name` begin. Raises ChildDied when nobody waits."""
    try:
        descriptor = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise ChildDied(f"{name} ended before its turn; see its log beside {gate}") from error
    os.write(descriptor, b"\n")
    os.close(descriptor)
