"""What every lifecycle node of this package shares: logged transitions, start, and a clean exit on signals."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import State as StateMessage
from lifecycle_msgs.srv import ChangeState
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from adawm_planner.ros.arguments import HELP_WORDS, refuse_strays, strays, usage

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]

REFUSED = os.EX_CONFIG
"""Exit status 78: the node was started with something that it refuses, so starting it again is of no use."""

START_ERRORS = (
    ValueError,
    OSError,
    ParameterException,
    rclpy_implementation.RCLError,  # a parameter file or an argument that rcl cannot read
    rclpy_implementation.UnknownROSArgsError,
)
"""What rclpy.init and the making of a node raise for what they were started with."""

POLL_S = 0.1
"""Longest wait between two looks at the stop flag [s]."""


def logged_transition(transition: Transition) -> Transition:
    """Log whatever a transition raises; rclpy itself would swallow it.

    Bad input (ValueError, OSError) is one line and a failed transition; anything else is ours, comes with
    its traceback, and is an error.
    """

    @functools.wraps(transition)
    def logged(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except (ValueError, OSError) as error:
            node.get_logger().error(f"{transition.__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.get_logger().fatal(f"{transition.__name__} failed\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return logged


def answer_wrong_requests(node: LifecycleNode) -> None:
    """Have the node refuse a transition that its state does not have; rclpy raises there, which would end it."""
    service = node._service_change_state
    change_state = service.callback

    def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError:
            asked = request.transition.label or f"transition {request.transition.id}"
            node.get_logger().warning(
                f"change_state refused: {asked} is not possible while {state_of(node)[1]}; "
                "~/get_available_transitions has what is"
            )
            response.success = False
            return response

    service.callback = answer


def state_of(node: LifecycleNode) -> tuple[int, str]:
    """Id and label of the node's lifecycle state."""
    number, label = node._state_machine.current_state
    return number, label


class StopFlag:
    """Set by SIGINT and SIGTERM, so that a node can still publish its last messages."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.is_set = True


def run(make_node: Callable[[], LifecycleNode], args: list[str] | None = None) -> int:
    """Spin a lifecycle node until a signal comes or it is shut down by request; return the exit status.

    With the node's parameter `autostart` it is configured and activated first. What the node was started with is
    refused in one line and with status REFUSED; an error of ours there is status 1.
    """
    stop = StopFlag()
    try:
        start_ros(args)
        node = make_node()
    except START_ERRORS as error:
        return refuse(error)
    try:
        return _run(node, stop)
    finally:
        rclpy.try_shutdown()


def start_ros(args: list[str] | None = None) -> None:
    """Start rclpy with the arguments of a node's process.

    rclpy's own signal handlers are left out: they end the context before the node could send its last braking command.

    Args:
        args: without the program; None: those of this process.

    Raises:
        SystemExit: the usage was asked for, and is printed.
        START_ERRORS: rcl refuses them, or would leave some of them unread.
    """
    words = sys.argv[1:] if args is None else args
    unread = strays(words)
    if not set(HELP_WORDS).isdisjoint(unread):
        print(usage(Path(sys.argv[0]).stem))
        raise SystemExit(0)
    refuse_strays(unread)
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)


def refuse(error: Exception) -> int:
    """Say in one line why a node does not start; returns the exit status."""
    print(f"start refused: {' '.join(str(error).split())}", file=sys.stderr)
    rclpy.try_shutdown()
    return REFUSED


def _run(node: LifecycleNode, stop: StopFlag) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter("autostart").value and (status := _start(node)):
            return status
        _spin(node, executor, stop)
        return 0
    finally:
        executor.remove_node(node)
        node.destroy_node()


def _spin(node: LifecycleNode, executor: SingleThreadedExecutor, stop: StopFlag) -> None:
    """Spin until a signal comes, then shut the node down; an error of ours in a callback is no way round that.

    A node that somebody else has shut down can do nothing more, and ends too.
    """
    try:
        while rclpy.ok() and not stop.is_set and not _is_finalized(node):
            executor.spin_once(timeout_sec=POLL_S)
    except BaseException:
        _shut_down_after_error(node)
        raise
    if not _is_finalized(node):
        node.trigger_shutdown()


def _is_finalized(node: LifecycleNode) -> bool:
    return bool(state_of(node)[0] == StateMessage.PRIMARY_STATE_FINALIZED)


def _shut_down_after_error(node: LifecycleNode) -> None:
    """Send the last braking command; what fails in that is logged, so that the first error is what ends the process."""
    try:
        node.trigger_shutdown()
    except Exception:
        node.get_logger().fatal(f"shutdown after an error failed\n{traceback.format_exc()}")


def _start(node: LifecycleNode) -> int:
    """Configure and activate; returns the exit status where that fails, else 0."""
    for trigger in (node.trigger_configure, node.trigger_activate):
        result = trigger()
        if result != TransitionCallbackReturn.SUCCESS:
            return REFUSED if result == TransitionCallbackReturn.FAILURE else 1
    return 0
