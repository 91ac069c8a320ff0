"""What was seen of a run in, what became of the promise out: pure, in frames of the bridge and in seconds.

A braking command is one with brake and without throttle. Times count from the fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from adawm_planner.dims import FRAME_S
from adawm_planner.faults.table import INPUT_LIMIT_S, Due, Fault, Promise
from adawm_planner.safety.states import STOPS, State

STANDSTILL_MPS = 0.1
"""Speed below which the vehicle stands [m/s]; `stop.standstill_mps` of docs/gate.md."""

TRIES = 3
"""Runs of one fault at most, where something braked before it or the bridge itself was late."""

LATE_FRAMES = 2.0
"""Period of the bridge beyond which it was late [frames]; the last try counts all the same."""

LAST_COMMANDS = 10
"""Commands at the end that show whether the planner drives then, which asks for throttle in each."""

WEIGHT = (
    State.STANDBY,
    State.PASSING,
    State.RESPONDING,
    State.OVERRIDDEN,
    State.COMFORTABLE_STOP,
    State.EMERGENCY_STOP,
    State.HOLD,
)
"""States from the least to the furthest."""


@dataclass(frozen=True)
class Frame:
    """A frame that the bridge was to publish."""

    at_s: float  # monotonic
    speed_mps: float
    x_m: float


@dataclass(frozen=True)
class Sent:
    """A command that reached the vehicle."""

    at_s: float  # monotonic
    throttle: float
    brake: float

    @property
    def brakes(self) -> bool:
        """Whether it is a braking command."""
        return self.brake > 0.0 and self.throttle == 0.0


@dataclass(frozen=True)
class Said:
    """What a node published of itself."""

    at_s: float  # monotonic
    node: str  # gate or planner
    state: str  # of the gate
    rule: str  # that speaks, empty where none does
    line: str


@dataclass
class Trace:
    """Everything that was seen of one run."""

    injected_s: float = math.inf  # monotonic
    due_s: float | None = None  # from when the promise counts, where not at once
    within_frame: bool = False  # the fault came after a frame, which is the first one with it
    frames: list[Frame] = field(default_factory=list)
    commands: list[Sent] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What one fault came to."""

    fault: str
    braked_s: float | None  # from the fault to the first braking command
    braked_frames: int | None  # bridge frames that began in this time, after the first one with the fault
    braking_commands: int
    state: str  # the furthest that the gate reached
    last_state: str
    standstill_s: float | None  # from the fault
    standstill_m: float | None  # way from the fault to there
    rule: str  # that spoke, by name
    reason: str  # the line that was published
    longest_period_s: float  # between two frames of the bridge: more than 0.05 s is the machine's doing
    silent_frames: int  # most bridge frames in a row that began without a command since the one before
    broken: str  # what of the promise was not kept, empty if all was

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not self.broken


def judge(fault: Fault, trace: Trace) -> Outcome:
    """Tell what became of a fault; every figure is of what came after it."""
    start = trace.injected_s if trace.due_s is None else trace.due_s
    frames = [each for each in trace.frames if each.at_s >= start]
    commands = [each for each in trace.commands if each.at_s >= start]
    braking = [each for each in commands if each.brakes]
    first = braking[0].at_s if braking else None
    states = _states(trace)
    stands = next((each for each in frames if each.speed_mps < STANDSTILL_MPS), None)
    spoke = _first_reason(trace)
    outcome = Outcome(
        fault=fault.name,
        braked_s=None if first is None else first - start,
        braked_frames=None if first is None else sum(each.at_s <= first for each in frames) - (not trace.within_frame),
        braking_commands=len(braking),
        state=max(states, key=lambda each: WEIGHT.index(State(each)), default=State.STANDBY.value),
        last_state=states[-1] if states else State.STANDBY.value,
        standstill_s=None if stands is None else stands.at_s - start,
        standstill_m=None if stands is None else stands.x_m - frames[0].x_m,
        rule="" if spoke is None else spoke.rule,
        reason="" if spoke is None else spoke.line,
        longest_period_s=max((b.at_s - a.at_s for a, b in zip(frames, frames[1:], strict=False)), default=0.0),
        silent_frames=_silent_frames(frames, commands),
        broken="",
    )
    return replace(outcome, broken=_broken(fault.promise, outcome, states, commands))


def clean(trace: Trace, seconds: float) -> bool:
    """Whether nothing braked in the time before the fault, so that what follows is its doing."""
    before = [each for each in trace.commands if trace.injected_s - seconds <= each.at_s < trace.injected_s]
    return bool(before) and not any(each.brakes for each in before)


def _states(trace: Trace) -> list[str]:
    """States of the gate, that at the fault first."""
    gate = [each for each in trace.said if each.node == "gate"]
    before = [each.state for each in gate if each.at_s < trace.injected_s]
    return before[-1:] + [each.state for each in gate if each.at_s >= trace.injected_s]


def _first_reason(trace: Trace) -> Said | None:
    """The gate's first reason to brake; without one, the planner's."""
    after = [each for each in trace.said if each.at_s >= trace.injected_s and each.rule]
    gate = (each for each in after if each.node == "gate" and State(each.state) is not State.PASSING)
    return next(gate, next((each for each in after if each.node == "planner"), None))


def _silent_frames(frames: Sequence[Frame], commands: Sequence[Sent]) -> int:
    """Return the longest run of frames that had brought no command when the next one began."""
    longest = silent = answered = 0
    for frame in frames[1:]:
        heard = sum(each.at_s <= frame.at_s for each in commands)
        silent = 0 if heard > answered else silent + 1
        longest, answered = max(longest, silent), heard
    return longest


def _needless(outcome: Outcome, stopped: bool, commands: Sequence[Sent]) -> str:
    """Say what was done, or left undone, where nothing was due."""
    if stopped:
        return f"a needless stop: {outcome.reason}"
    if outcome.standstill_s is not None:
        return f"a needless standstill: {outcome.reason}"
    driven = any(each.throttle > 0.0 for each in commands[-LAST_COMMANDS:])
    if State(outcome.last_state) is not State.PASSING and not driven:
        return f"drives no longer: the gate is in {outcome.last_state}"
    return _too_silent(outcome)


def _not_yielded(outcome: Outcome, stopped: bool, commands: Sequence[Sent]) -> str:
    """Say what was not left to a person who drives."""
    if stopped:
        return f"a needless stop: {outcome.reason}"
    if State(outcome.last_state) is not State.OVERRIDDEN:
        return f"a person drives, and the gate is in {outcome.last_state}"
    if not commands or not commands[-1].brakes:
        return "a person drives, and the last command does not brake"
    return _too_silent(outcome)


def _too_silent(outcome: Outcome) -> str:
    limit = _frames(INPUT_LIMIT_S)
    return f"no command for {outcome.silent_frames} frames, limit {limit}" if outcome.silent_frames > limit else ""


def _not_stopped(outcome: Outcome, states: Sequence[str], commands: Sequence[Sent]) -> str:
    """Say what a stop lacks that is not taken back."""
    first = next((k for k, each in enumerate(states) if State(each) in STOPS), None)
    if first is None:
        return f"no stop that is not taken back, only {outcome.state}"
    left = next((each for each in states[first:] if State(each) not in STOPS), None)
    if left is not None:
        return f"a stop that was taken back: {states[first]}, then {left}"
    if not commands[-1].brakes:
        return "the last command does not brake"
    if outcome.standstill_s is None:
        return "no standstill"
    return ""


def _frames(seconds: float) -> int:
    return math.floor(seconds / FRAME_S + 1e-9)


def _broken(promise: Promise, outcome: Outcome, states: Sequence[str], commands: Sequence[Sent]) -> str:
    stopped = any(State(each) in STOPS for each in states)
    if promise.due is Due.DRIVE:
        return _needless(outcome, stopped, commands)
    if promise.due is Due.YIELD:
        return _not_yielded(outcome, stopped, commands)
    if outcome.braked_frames is None:
        return "no braking command"
    limit = _frames(promise.limit_s)
    if outcome.braked_frames > limit:
        return f"braked after {outcome.braked_frames} frames, limit {limit}"
    if not outcome.rule:
        return "no reason published"
    return _not_stopped(outcome, states, commands) if promise.due is Due.STOP else ""
