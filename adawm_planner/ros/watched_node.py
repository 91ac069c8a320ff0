"""A lifecycle node that says how it is: diagnostics, a watch over its topics, and one way through its transitions.

Planner, gate and finetuner are such nodes. Each says how to open, start, stop and close what it consists of; when that
happens, and what happens when it fails, is the same for all and is written here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import OK, Diagnostics, State
from adawm_planner.ros.lifecycle import answer_wrong_requests, logged_transition
from adawm_planner.ros.parameters import Parameter, declare, read
from adawm_planner.ros.qos_watch import QosWatch


class WatchedNode(LifecycleNode, ABC):
    """Transitions, diagnostics once a second and at every change, mismatches of quality of service."""

    def __init__(self, name: str, parameters: Sequence[Parameter], **kwargs: Any) -> None:
        """Declare the parameters; everything else waits for `configure`.

        Args:
            name: of the node.
            parameters: its table; those that are not dynamic may change only while the node is unconfigured.
            kwargs: as rclpy's LifecycleNode takes them.
        """
        super().__init__(name, **kwargs)
        answer_wrong_requests(self)
        self._parameters_table, self._configured = parameters, False
        declare(self, parameters, is_fixed=lambda: self._configured)
        publisher = self.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
        # All nodes share the one topic, so two stacks must differ by name.
        full_name = self.get_fully_qualified_name().removeprefix("/")
        self.diagnostics = Diagnostics(full_name, publisher.publish, lambda: self.get_clock().now().to_msg())
        self.watch = QosWatch(self, self.note)
        # Wall clock timers: simulated time stands still exactly when a watchdog is needed.
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._second = self.create_timer(1.0, self._each_second, clock=self.steady_clock)

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and open everything, or nothing."""
        try:
            self._open(read(self, self._parameters_table))
        except BaseException:
            self._close_all()  # what was opened may be locked, and configuring may be tried again
            raise
        self._configured = True
        return super().on_configure(state)

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        result = super().on_activate(state)
        self._start()
        return result

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; everything stays open."""
        self._stop()
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close everything."""
        self._close_all()
        return super().on_cleanup(state)

    @logged_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working and close everything."""
        self._stop()
        self._close_all()
        return super().on_shutdown(state)

    @logged_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after an error of ours in a transition."""
        self._stop()
        self._close_all()
        return TransitionCallbackReturn.SUCCESS

    def note(self, name: str, state: State) -> bool:
        """Keep a state for the diagnostics; another one than before is logged, once, and True is returned."""
        changed = self.diagnostics.set(name, state)
        if changed and state.level == OK:
            self.get_logger().info(f"{name}: {state.message}")
        elif changed:
            self.get_logger().warning(f"{name}: {state.message}")
        return changed

    @abstractmethod
    def _open(self, values: dict[str, Any]) -> None:
        """Open topics and files. Raises ValueError or OSError for what the user can mend."""

    @abstractmethod
    def _start(self) -> None:
        """Begin to work."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop working; also called when it was never begun."""

    @abstractmethod
    def _close(self) -> None:
        """Close whatever is open, which may be nothing or a part."""

    @abstractmethod
    def _look(self) -> None:
        """Bring the diagnostics up to date; called once a second."""

    def _close_all(self) -> None:
        self._close()
        self._configured = False
        self.diagnostics.close()
        self.watch.forget()

    def _each_second(self) -> None:
        self.watch.look_again()
        self._look()
        self.diagnostics.publish_all()
