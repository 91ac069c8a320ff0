"""Worker processes for simulated episodes: a pool, its Ctrl-C, and what is said when a worker is gone.

A `multiprocessing.Pool` is no choice: it starts a worker that cannot start again and again, and never ends the
task of one that was killed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any


def worker_pool(workers: int, start: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Processes that import everything anew and call `start(*arguments)` first; submit under
    `children_without_sigint`, take results under `death_told`.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), start, arguments)


@contextmanager
def death_told(remedy: str) -> Iterator[None]:
    """Say in one line that a worker died, and what may help.

    Raises:
        ValueError: a worker could not start or was killed while this block used its pool.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise ValueError(f"a worker process ended abruptly (out of memory, or killed); {remedy}") from error


@contextmanager
def children_without_sigint() -> Iterator[None]:
    """Processes started in this block inherit an ignored SIGINT, so that Ctrl-C is the parent's alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ending(code: int) -> str:
    """How a process ended, in words; `code` is its exit code, or minus the number of the signal that ended it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"was ended by signal {-code}"
