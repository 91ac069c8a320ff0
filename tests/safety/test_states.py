"""The state machine: every state with every event."""

from __future__ import annotations

import itertools

import pytest

from adawm_planner.safety.states import STOPS, Event, State, advance, mermaid

S, E = State, Event
MOVES = {
    (S.STANDBY, E.CLEAR): S.PASSING,
    (S.STANDBY, E.OVERRIDE): S.OVERRIDDEN,
    **{
        (state, event): to
        for state in (S.PASSING, S.RESPONDING)
        for event, to in {
            E.CLEAR: S.PASSING,
            E.CAUTION: S.RESPONDING,
            E.DANGER: S.RESPONDING,
            E.FAULT: S.COMFORTABLE_STOP,
            E.OVERRIDE: S.OVERRIDDEN,
        }.items()
    },
    (S.COMFORTABLE_STOP, E.DANGER): S.EMERGENCY_STOP,
    (S.COMFORTABLE_STOP, E.STANDSTILL): S.HOLD,
    (S.COMFORTABLE_STOP, E.OVERRIDE): S.OVERRIDDEN,
    (S.EMERGENCY_STOP, E.STANDSTILL): S.HOLD,
    (S.EMERGENCY_STOP, E.OVERRIDE): S.OVERRIDDEN,
    (S.HOLD, E.RELEASE): S.STANDBY,
    (S.HOLD, E.MOVING): S.EMERGENCY_STOP,
    (S.HOLD, E.OVERRIDE): S.OVERRIDDEN,
    (S.OVERRIDDEN, E.OVERRIDE_ENDS): S.STANDBY,
}
"""Every pair that leads elsewhere; written out, not read from the code."""


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_with_every_event(state: State, event: Event) -> None:
    assert advance(state, event) is MOVES.get((state, event), state)


def test_a_stop_is_left_only_by_release_at_standstill_or_by_a_person() -> None:
    for state, event in itertools.product(STOPS, Event):
        after = advance(state, event)
        if after not in STOPS:
            assert event is E.OVERRIDE or (event is E.RELEASE and state is S.HOLD)


@pytest.mark.parametrize("events", list(itertools.product(Event, repeat=3)))
def test_a_stop_never_becomes_gentler(events: tuple[Event, ...]) -> None:
    state = S.EMERGENCY_STOP
    for event in events:
        state = advance(state, event)
        assert state is not S.COMFORTABLE_STOP or E.OVERRIDE in events


def test_the_diagram_shows_every_move_and_no_other() -> None:
    rows = set(mermaid().splitlines()[2:])
    moves = {(a, e): b for (a, e), b in MOVES.items() if a is not b}
    assert rows == {f"    {a.value} --> {b.value}: {e.value}" for (a, e), b in moves.items()}
    assert mermaid().splitlines()[:2] == ["stateDiagram-v2", "    [*] --> standby"]
