"""The gate's states: pure and total, every event has a next state in every state.

A stop that has begun is only ever escalated; it is left by a release from standstill, or by a person taking over.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What the gate does."""

    STANDBY = "standby"  # brakes until a first proposal may pass
    PASSING = "passing"  # the proposal passes, within limits
    RESPONDING = "responding"  # brakes while the danger lasts
    COMFORTABLE_STOP = "comfortable_stop"
    EMERGENCY_STOP = "emergency_stop"
    HOLD = "hold"  # stands until released; one that rolls is stopped again
    OVERRIDDEN = "overridden"  # a person drives, commands do not count


class Event(Enum):
    """What happens to it."""

    CLEAR = "clear"  # no rule asks for brakes
    CAUTION = "caution"  # one asks for gentle brakes, for as long as it speaks
    DANGER = "danger"  # one asks for more than that
    FAULT = "fault"  # one has lasted that asks for a stop; with danger, for an emergency stop
    STANDSTILL = "standstill"  # for a while: one sample of it may be locked wheels
    MOVING = "moving"
    RELEASE = "release"
    OVERRIDE = "override"
    OVERRIDE_ENDS = "override_ends"


STOPS = frozenset({State.COMFORTABLE_STOP, State.EMERGENCY_STOP, State.HOLD})
"""States of the minimal-risk manoeuvre."""

_DRIVES = {
    Event.CLEAR: State.PASSING,
    Event.CAUTION: State.RESPONDING,
    Event.DANGER: State.RESPONDING,
    Event.FAULT: State.COMFORTABLE_STOP,
    Event.OVERRIDE: State.OVERRIDDEN,
}

_NEXT: dict[State, dict[Event, State]] = {
    State.STANDBY: {Event.CLEAR: State.PASSING, Event.OVERRIDE: State.OVERRIDDEN},
    State.PASSING: _DRIVES,
    State.RESPONDING: _DRIVES,
    State.COMFORTABLE_STOP: {
        Event.DANGER: State.EMERGENCY_STOP,
        Event.STANDSTILL: State.HOLD,
        Event.OVERRIDE: State.OVERRIDDEN,
    },
    State.EMERGENCY_STOP: {Event.STANDSTILL: State.HOLD, Event.OVERRIDE: State.OVERRIDDEN},
    State.HOLD: {
        Event.RELEASE: State.STANDBY,
        Event.MOVING: State.EMERGENCY_STOP,
        Event.OVERRIDE: State.OVERRIDDEN,
    },
    State.OVERRIDDEN: {Event.OVERRIDE_ENDS: State.STANDBY},
}
"""Where no row is given the state stays."""


def advance(state: State, event: Event) -> State:
    """Return the state after an event."""
    return _NEXT[state].get(event, state)


def mermaid() -> str:
    """Return the diagram for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STANDBY.value}"]
    for state, row in _NEXT.items():
        lines += [f"    {state.value} --> {to.value}: {event.value}" for event, to in row.items() if to is not state]
    return "\n".join(lines)
