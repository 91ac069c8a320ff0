"""Named states in, diagnostic_msgs/DiagnosticArray out: every second, and at once when a state changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from adawm_planner.runtime.input_monitor import Fault

OK: int = 0
WARN: int = 1
ERROR: int = 2
STALE: int = 3


@dataclass(frozen=True)
class State:
    """One line of diagnostics."""

    level: int  # OK, WARN, ERROR or STALE
    message: str  # one line: rule, measured, limit, what to do
    values: tuple[tuple[str, str], ...] = ()
    key: str = ""  # what makes it another state; without one the message does


def fault_state(faults: Sequence[Fault], quiet: str) -> State:
    """Return the state that tells of faults, or `quiet` when there is none.

    Ages grow with every message, so a change of rules or topics, not of ages, makes it another state.
    """
    if not faults:
        return State(OK, quiet)
    values = [
        pair
        for i, fault in enumerate(faults)
        for pair in (
            (f"fault{i}.rule", fault.rule),
            (f"fault{i}.topic", fault.topic),
            (f"fault{i}.age_s", f"{fault.age_s:.3f}"),
            (f"fault{i}.limit_s", f"{fault.limit_s:.3f}"),
            (f"fault{i}.text", fault.text),
            (f"fault{i}.action", fault.action),
        )
    ]
    key = ";".join(f"{fault.rule}:{fault.topic}" for fault in faults)
    return State(ERROR, "; ".join(fault.line() for fault in faults), tuple(values), key)


class Diagnostics:
    """Keeps the newest state of each name and publishes them."""

    def __init__(self, node_name: str, publish: Callable[[DiagnosticArray], None], stamp: Callable[[], Time]) -> None:
        """Take the node's name and how to publish and stamp."""
        self._node_name, self._publish, self._stamp = node_name, publish, stamp
        self._states: dict[str, State] = {}

    def set(self, name: str, state: State) -> bool:
        """Note a state; publish and return True if it is another one than before."""
        before = self._states.get(name)
        self._states[name] = state
        changed = before is None or _identity(before) != _identity(state)
        if changed:
            self._publish(self._array([name]))
        return changed

    def drop(self, name: str) -> None:
        """Say no more of a state, which need not be there."""
        self._states.pop(name, None)

    def close(self) -> None:
        """Say of every state at once that what it told of is closed: neither an error nor a "runs" outlives it."""
        self._states = dict.fromkeys(self._states, State(STALE, "closed"))
        self.publish_all()

    def publish_all(self) -> None:
        """Publish every state; to be called once a second."""
        self._publish(self._array(list(self._states)))

    def states(self) -> Mapping[str, State]:
        """Return the newest state of each name."""
        return dict(self._states)

    def _array(self, names: list[str]) -> DiagnosticArray:
        statuses = [_status(f"{self._node_name}: {name}", self._node_name, self._states[name]) for name in names]
        return DiagnosticArray(header=Header(stamp=self._stamp()), status=statuses)


def _identity(state: State) -> tuple[int, str]:
    return state.level, state.key or state.message


def _status(name: str, hardware_id: str, state: State) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=bytes([state.level]),
        name=name,
        message=state.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in state.values],
    )
