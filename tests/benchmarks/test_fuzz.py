"""A small run of the gate's fuzzing, and proof that its oracle sees each kind of escape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command
from adawm_planner.safety.gate import Answer, Heard, Memory, step
from adawm_planner.safety.limits import Wanted
from adawm_planner.safety.states import State
from adawm_planner.safety.verdict import Rule
from benchmarks import fuzz
from benchmarks.fuzz import CONFIG, DUE_MPS2, Case, draw, escaped, run


def test_nothing_escapes_and_every_kind_of_case_comes_up() -> None:
    counts, escapes = run(6000, seed=1)
    assert escapes == []
    assert set(counts["due"]) == {"nothing", *DUE_MPS2}
    assert set(counts["states"]) == {state.value for state in State}
    assert set(counts["rules"]) == {rule.value for rule in Rule}


@pytest.mark.parametrize("most", [0.5, 3.9])
def test_brakes_that_are_too_weak_escape(monkeypatch: pytest.MonkeyPatch, most: float) -> None:
    def weak(heard: Heard, memory: Memory, config: GateConfig) -> Answer:
        answer = step(heard, memory, config)
        sent = replace(answer.memory.sent, acceleration=max(answer.memory.sent.acceleration, -most))
        return replace(answer, command=sent.command(config.command), memory=replace(answer.memory, sent=sent))

    monkeypatch.setattr(fuzz, "step", weak)
    _, escapes = run(900, seed=1)
    met = {"obstacle", "crossing", "leading", "oncoming"}
    assert {"hold", "no ego", *met} <= {line.split(":")[1].split(", ")[-1] for line in escapes}


def test_the_same_seed_gives_the_same_run() -> None:
    assert run(100, seed=5) == run(100, seed=5)


def _quiet() -> tuple[Case, Memory]:
    rng = np.random.default_rng(2)
    while True:
        case = draw(rng, parked=False)
        if not case.due and not case.heard.overridden:
            return case, Memory(State.PASSING)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Command(throttle=math.nan), "not finite"),
        (Command(throttle=1.5), "out of range"),
        (Command(brake=-0.1), "out of range"),
        (Command(steer=1.1), "out of range"),
        (Command(reverse=True), "gear"),
        (Command(throttle=0.1, brake=0.1), "pedals"),
        (Command(steer=0.5), "steering rate"),
        (Command(brake=1.0), "jerk"),
        (Command(throttle=0.9), "acceleration"),
    ],
)
def test_the_oracle_sees_an_escape(command: Command, said: str) -> None:
    case, memory = _quiet()
    answer = replace(step(case.heard, memory, CONFIG), command=command)
    before = replace(memory, sent=Wanted(2.0, 0.0))
    assert said in escaped(case, before, answer)


def test_the_oracle_sees_missing_brakes_and_sharp_turns() -> None:
    case, memory = _quiet()
    answer = step(case.heard, memory, CONFIG)
    driving = replace(answer, command=Command(throttle=0.2))
    assert "of 6.00 m/s2, obstacle" in escaped(replace(case, due="obstacle"), memory, driving)
    coasting = replace(answer, command=Command())
    assert "of 6.00 m/s2, obstacle" in escaped(replace(case, due="obstacle"), memory, coasting)
    touched = replace(answer, command=Command(brake=0.05))
    assert "brakes with 0.40 of 6.00" in escaped(replace(case, due="obstacle"), memory, touched)
    assert not escaped(replace(case, due="no proposal"), memory, touched)  # the first frame of a comfortable stop
    braking = replace(memory, sent=Wanted(-2.0, 0.0))
    assert "of 2.40 m/s2, no proposal" in escaped(replace(case, due="no proposal"), braking, touched)
    held, ego = replace(case.heard, release=False), case.heard.reading.ego
    assert ego is not None
    assert "brakes with 0.00 of 8.00 m/s2, hold" in escaped(Case(held, ""), Memory(State.HOLD), driving)  # it rolls
    stands = replace(held, reading=replace(held.reading, ego=replace(ego, speed=0.0)))
    assert "brakes with 0.00 of 4.00 m/s2, hold" in escaped(Case(stands, ""), Memory(State.HOLD), driving)
    fast = replace(case.heard, reading=replace(case.heard.reading, ego=replace(ego, speed=16.0)))
    turning = replace(answer, command=Command(steer=0.3))
    assert "lateral" in escaped(Case(fast, ""), Memory(State.PASSING, sent=Wanted(0.0, 0.25)), turning)
    faster = replace(fast, reading=replace(fast.reading, ego=replace(ego, speed=20.1)))
    assert escaped(Case(faster, ""), Memory(State.PASSING), replace(answer, command=Command(throttle=0.1))) == (
        "throttle at 20.1 m/s"
    )
