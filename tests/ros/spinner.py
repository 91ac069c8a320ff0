"""Nodes on one executor that the test itself spins, so that nothing happens behind its back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from tests.patience import HANG_S

POLL_S = 0.01
"""Longest wait between two looks [s]."""


class Spinner:
    """Some nodes of one context."""

    def __init__(self, context: Context, *nodes: Node) -> None:
        self._executor, self._nodes = SingleThreadedExecutor(context=context), nodes
        for node in nodes:
            self._executor.add_node(node)

    def spin_until(self, done: Callable[[], bool], timeout_s: float = HANG_S) -> bool:
        """Spin until `done` holds; tell whether it does."""
        end = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=POLL_S)
        return True

    def spin_for(self, seconds: float) -> None:
        """Spin for a while."""
        end = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() >= end, seconds + HANG_S)

    def close(self) -> None:
        """Destroy the nodes."""
        self._executor.shutdown()
        for node in self._nodes:
            node.destroy_node()


def end(*processes: subprocess.Popen[str]) -> None:
    """End processes that a test is done with.

    They are asked first: a kill may leave the middleware's shared memory such that it breaks those that go on.
    """
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
