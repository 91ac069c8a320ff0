"""`adawm benchmark fuzz`: proposals and worlds of every kind through the gate's core, judged by an oracle of its own.

An escape is a command that is not finite, out of range, changes faster than its limits, turns or accelerates more
than allowed, or does not brake as hard as is due. When and how hard the oracle works out by hand, without the gate's
code: a proposal that cannot be followed, an input that is missing, old or impossible, a vehicle off its route, a
standing obstacle on a straight path within the stopping distance, or a stop that has not been released.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from adawm_planner.cli.options import SEED, json_option
from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command, EgoState, Objects, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.result_file import write_json
from adawm_planner.safety.gate import Answer, Heard, Memory, step
from adawm_planner.safety.inputs import Late, Proposal, Reading
from adawm_planner.safety.states import STOPS, State
from benchmarks.record import with_origin

VEHICLE = VehicleInfo(max_steer=0.61, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)
ROUTE = route_from_points(np.arange(-100.0, 400.0, 1.0), np.zeros(500))
CONFIG = GateConfig()
WEIRD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, -0.0, 2.0, -2.0)
ROUNDING = 1e-5
"""Commands are single precision: what the oracle forgives, in units of the full pedal or lock."""

EPISODE_STEPS = 50
"""Steps that share one memory, so that rates and stops are tried over time; more would be stops alone."""

COMFORTABLE, EMERGENCY, HOLD = CONFIG.stop.comfortable_mps2, CONFIG.stop.emergency_mps2, CONFIG.stop.hold_mps2
DUE_MPS2 = {
    "no proposal": COMFORTABLE,
    "old proposal": COMFORTABLE,
    "proposal not finite": COMFORTABLE,
    "reverse": COMFORTABLE,
    "repeated proposal": COMFORTABLE,
    "no route": COMFORTABLE,
    "off the route": COMFORTABLE,
    "no ego": EMERGENCY,
    "no objects": EMERGENCY,
    "no vehicle": EMERGENCY,
    "ego not finite": EMERGENCY,
    "old input": EMERGENCY,
    "obstacle": CONFIG.path.brake_mps2,  # what the stopping distance counts on
}
"""Deceleration that is due for each cause [m/s2]."""

PARKED = 0.2
"""Share of such runs of steps in which the vehicle mostly stands: a stop ends in a hold only after a while of that."""

STOP_MPS2 = {State.COMFORTABLE_STOP: COMFORTABLE, State.EMERGENCY_STOP: EMERGENCY, State.HOLD: HOLD}
"""The same for a stop that has not been released."""


@dataclass(frozen=True)
class Case:
    """One step and why it must brake, empty where it need not."""

    heard: Heard
    due: str


def run(proposals: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Put proposals through the gate.

    Returns:
        Counts by what was due and what state answered, and one line for each of the first escapes.
    """
    rng = np.random.default_rng(seed)
    due, states, escapes = Counter[str](), Counter[str](), []
    memory = Memory()
    for k in range(proposals):
        if k % EPISODE_STEPS == 0:
            memory = Memory() if rng.random() < 0.5 else Memory(State.PASSING)
            parked = rng.random() < PARKED
        case = draw(rng, parked)
        before = memory
        answer = step(case.heard, memory, CONFIG)
        memory = answer.memory
        due[case.due or "nothing"] += 1
        states[answer.state.value] += 1
        problem = escaped(case, before, answer)
        if problem:
            escapes.append(f"step {k}: {problem}: {case.heard} -> {answer.command}")
    return {"due": dict(sorted(due.items())), "states": dict(sorted(states.items()))}, escapes


def draw(rng: np.random.Generator, parked: bool) -> Case:
    """Make up what the gate hears: mostly an ordinary frame, with one thing wrong in every other one.

    Args:
        rng: where it is drawn from.
        parked: let the vehicle stand in most frames.
    """
    speed = 0.0 if parked and rng.random() < 0.95 else rng.uniform(0.0, 16.0)
    ego = EgoState(0.0, rng.uniform(-1.0, 1.0), rng.uniform(-0.2, 0.2), speed, 0.0, rng.uniform(-0.3, 0.3), 0.0)
    reading = Reading(ego, _traffic(rng), VEHICLE, ROUTE)
    proposal: Proposal | None = Proposal(_command(rng))
    due = ""
    kind = int(rng.integers(0, 16))
    if kind == 0:
        proposal, due = None, "no proposal"
    elif kind == 1:
        proposal, due = replace(Proposal(_command(rng)), age_s=float(rng.choice([0.25, 9.0, math.inf]))), "old proposal"
    elif kind == 2:
        number = float(rng.choice([math.nan, math.inf, -math.inf]))
        broken: dict[str, Any] = {str(rng.choice(["throttle", "brake", "steer"])): number}
        proposal, due = Proposal(replace(_command(rng), **broken)), "proposal not finite"
    elif kind == 3:
        proposal, due = Proposal(replace(_command(rng), reverse=True)), "reverse"
    elif kind == 4:
        name = str(rng.choice(["ego", "objects", "vehicle", "route"]))
        missing: dict[str, Any] = {name: None}
        reading, due = replace(reading, **missing), f"no {name}"
    elif kind == 5:
        name = str(rng.choice(["x", "y", "yaw", "speed", "yaw_rate", "acceleration"]))
        wrong = float(rng.choice([math.nan, math.inf, -math.inf]))
        reading, due = replace(reading, ego=replace(ego, **{name: wrong})), "ego not finite"
    elif kind == 6:
        reading, due = replace(reading, late=(Late("objects", float(rng.uniform(0.16, 9.0)), 0.1),)), "old input"
    elif kind == 7:
        off = float(rng.choice([-1.0, 1.0]) * rng.uniform(2.6, 60.0))
        reading, due = replace(reading, ego=replace(ego, y=off)), "off the route"
    elif kind in (8, 9):
        reading, due = _obstacle(rng, reading)
    elif kind == 10:
        weird: dict[str, Any] = {name: float(rng.choice(WEIRD[3:])) for name in ("throttle", "brake", "steer")}
        proposal = Proposal(Command(**weird))
    elif kind == 11:
        proposal = Proposal(_command(rng), frames=int(rng.integers(4, 99)))
        due = "repeated proposal"
    overridden = bool(rng.random() < 0.01)
    released = bool(rng.random() < 0.02)
    elapsed = float(rng.choice([0.0, FRAME_S, FRAME_S, 0.3]))
    return Case(Heard(reading, proposal, elapsed, overridden, released), due)


def _command(rng: np.random.Generator) -> Command:
    throttle, brake = (rng.uniform(0.0, 1.0), 0.0) if rng.random() < 0.7 else (0.0, rng.uniform(0.0, 1.0))
    return Command(float(throttle), float(rng.uniform(-1.0, 1.0)), float(brake), bool(rng.random() < 0.01))


def _traffic(rng: np.random.Generator) -> Objects:
    n = int(rng.integers(0, 7))
    yaw, speed = rng.uniform(-math.pi, math.pi, n), rng.uniform(0.0, 14.0, n)
    x, y = rng.uniform(-60.0, 60.0, n), rng.uniform(-40.0, 40.0, n)
    size, turning = np.ones(n), rng.uniform(-2.0, 2.0, n)
    return Objects(np.arange(n), x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), turning, 4.5 * size, 1.8 * size)


def _obstacle(rng: np.random.Generator, reading: Reading) -> tuple[Reading, str]:
    """A standing car straight ahead, nearer than the vehicle needs to stop: v * delay + v * v / (2 * brake)."""
    speed = float(rng.uniform(2.0, 16.0))
    ego = EgoState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0)
    stopping = speed * CONFIG.path.delay_s + speed * speed / (2.0 * CONFIG.path.brake_mps2)
    at = 0.5 * (VEHICLE.length + 4.5) + stopping * float(rng.uniform(0.05, 0.95))
    one = Objects(np.array([5]), *(np.array([each]) for each in (at, 0.0, 0.0, 0.0, 0.0, 0.0, 4.5, 1.8)))
    return replace(reading, ego=ego, objects=one), "obstacle"


def escaped(case: Case, before: Memory, answer: Answer) -> str:
    """Say what is wrong with an answer; empty where nothing is."""
    limits, command = CONFIG.command, answer.command
    values = (command.throttle, command.brake, command.steer)
    if not all(map(math.isfinite, values)):
        return "not finite"
    if not (0.0 <= command.throttle <= 1.0 and 0.0 <= command.brake <= 1.0 and -1.0 <= command.steer <= 1.0):
        return "out of range"
    if command.reverse or command.hand_brake or (command.throttle > 0.0 and command.brake > 0.0):
        return "gear or both pedals"
    asked = command.throttle * limits.throttle_mps2 - command.brake * limits.brake_mps2
    rise = (asked - before.sent.acceleration) / FRAME_S
    slack = ROUNDING * limits.brake_mps2 / FRAME_S
    if rise > limits.rising_jerk_mps3 + slack or rise < -limits.falling_jerk_mps3 - slack:
        return f"jerk {rise:.1f}"
    turn = abs(command.steer - before.sent.steer) / FRAME_S
    if turn > limits.steer_rate_per_s + ROUNDING / FRAME_S:
        return f"steering rate {turn:.2f}"
    fell = before.sent.acceleration - limits.falling_jerk_mps3 * FRAME_S  # as far as one frame may go
    if asked > max(limits.acceleration_mps2, fell) + slack:
        return f"acceleration {asked:.2f}"
    if not case.due and _too_sharp(case, before, command):
        return "lateral acceleration"
    due = _due_mps2(case, before)
    if due > 0.0 and asked > max(-due, fell) + slack:
        return f"brakes with {max(-asked, 0.0):.2f} of {due:.2f} m/s2, {case.due or before.state.value}"
    return ""


def _due_mps2(case: Case, before: Memory) -> float:
    """Deceleration [m/s2] that is due, 0 where none is; one for comfort alone may set in gradually."""
    due = DUE_MPS2[case.due] if case.due else 0.0
    if before.state in STOPS and not (case.heard.overridden or case.heard.release):
        reading, stop = case.heard.reading, STOP_MPS2[before.state]
        if reading.stands(CONFIG.stop.standstill_mps):
            stop = HOLD
        elif before.state is State.HOLD and reading.ego is not None:
            stop = EMERGENCY  # it rolls
        due = max(due, stop)
    if due > COMFORTABLE or before.state is State.HOLD:
        return due
    return min(due, max(-before.sent.acceleration, 0.0) + CONFIG.stop.comfortable_jerk_mps3 * FRAME_S)


def _too_sharp(case: Case, before: Memory, command: Command) -> bool:
    """Whether the wheel turns the vehicle more than allowed, and is not on its way back as fast as it may."""
    ego = case.heard.reading.ego
    assert ego is not None
    angle = abs(command.steer) * VEHICLE.max_steer
    lateral = ego.speed**2 * math.tan(angle) / VEHICLE.wheelbase
    back = abs(before.sent.steer) - CONFIG.command.steer_rate_per_s * FRAME_S
    return lateral > CONFIG.command.lateral_mps2 * (1.0 + 1e-4) and abs(command.steer) > back + ROUNDING


@click.command()
@click.option("--proposals", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="How many.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the generator.")
@json_option
def fuzz(proposals: int, seed: int, json_file: Path | None) -> None:
    """Put random proposals and worlds through the gate and count what escapes it."""
    console, started = Console(), time.monotonic()
    counts, escapes = run(proposals, seed)
    console.print(f"{proposals} proposals, {len(escapes)} escapes, {time.monotonic() - started:.0f} s")
    for line in escapes[:20]:
        console.print(line, markup=False)
    figures = {"proposals": proposals, "seed": seed, "escapes": len(escapes), "first_escapes": escapes[:20], **counts}
    write_json(json_file, with_origin("fuzz", figures, ["numpy"]))
    if escapes:
        raise SystemExit(1)
