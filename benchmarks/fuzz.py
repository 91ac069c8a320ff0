"""`adawm benchmark fuzz`: proposals and worlds of every kind through the gate's core, judged by an oracle of its own.

An escape is a command that is not finite, out of range, changes faster than its limits, turns or accelerates more
than allowed, has throttle above the largest speed, or does not brake as hard as is due. When and how hard the oracle
works out by hand, without the gate's code: a proposal that cannot be followed, an input that is missing, old or
impossible, a vehicle off or across its route or too fast, a car that stands on a straight path within the stopping
distance or crosses it there, one that drives ahead or comes towards it within RSS's distance, or a stop that has not
been released.
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

SHOWN = 20
"""Escapes that are told in full."""

SOON_TOO_FAST = CONFIG.command.speed_mps * CONFIG.command.overspeed
"""Speed [m/s] up to which an ordinary frame is drawn; above `command.speed_mps` no throttle may pass."""

CAR_LENGTH, CAR_WIDTH = 4.5, 1.8  # of one that is in the way [m]

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
    "across the route": COMFORTABLE,
    "too fast": COMFORTABLE,
    "no ego": EMERGENCY,
    "no objects": EMERGENCY,
    "no vehicle": EMERGENCY,
    "ego not finite": EMERGENCY,
    "impossible vehicle": EMERGENCY,
    "impossible objects": EMERGENCY,
    "fault of an input": EMERGENCY,
    "old input": EMERGENCY,
    "obstacle": CONFIG.path.brake_mps2,  # what the stopping distance counts on
    "crossing": CONFIG.path.brake_mps2,
    "leading": CONFIG.rss.brake_min_mps2,  # what RSS's distances count on
    "oncoming": CONFIG.rss.brake_min_mps2,
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
        Counts by what was due, what state answered and what rules spoke, and one line for each of the first escapes.
    """
    rng = np.random.default_rng(seed)
    due, states, rules, escapes = Counter[str](), Counter[str](), Counter[str](), list[str]()
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
        rules.update({each.rule.value for each in answer.verdicts})
        problem = escaped(case, before, answer)
        if problem:
            heard = replace(case.heard, reading=replace(case.heard.reading, route=None))  # always the same, and long
            escapes.append(f"step {k}: {problem}: {heard if len(escapes) < SHOWN else ''} -> {answer.command}")
    counts = {"due": due, "states": states, "rules": rules}
    return {name: dict(sorted(each.items())) for name, each in counts.items()}, escapes


def draw(rng: np.random.Generator, parked: bool) -> Case:
    """Make up what the gate hears: mostly an ordinary frame, with one thing wrong in every other one.

    Args:
        rng: where it is drawn from.
        parked: let the vehicle stand in most frames.
    """
    speed = 0.0 if parked and rng.random() < 0.95 else rng.uniform(0.0, 16.0 if rng.random() < 0.8 else SOON_TOO_FAST)
    ego = EgoState(0.0, rng.uniform(-1.0, 1.0), rng.uniform(-0.2, 0.2), speed, 0.0, rng.uniform(-0.3, 0.3), 0.0)
    reading = Reading(ego, _traffic(rng), VEHICLE, ROUTE)
    proposal: Proposal | None = Proposal(_command(rng))
    due, kind = "", int(rng.integers(0, 32))
    if kind < 6:
        proposal, due = _wrong_proposal(rng, kind)
    elif kind < 12:
        reading, due = _wrong_input(rng, reading, kind - 6)
    elif kind < 15:
        reading, due = _misplaced(rng, reading, kind - 12)
    elif kind < 19:
        reading, due = _met(rng, reading, kind - 15)
    overridden = bool(rng.random() < 0.01)
    released = bool(rng.random() < 0.02)
    elapsed = float(rng.choice([0.0, FRAME_S, FRAME_S, 0.3]))
    return Case(Heard(reading, proposal, elapsed, overridden, released), due)


def _wrong_proposal(rng: np.random.Generator, kind: int) -> tuple[Proposal | None, str]:
    """A proposal that cannot be followed; the last kind can, once it is cut into its range."""
    if kind == 0:
        return None, "no proposal"
    if kind == 1:
        return replace(Proposal(_command(rng)), age_s=float(rng.choice([0.25, 9.0, math.inf]))), "old proposal"
    if kind == 2:
        number = float(rng.choice([math.nan, math.inf, -math.inf]))
        broken: dict[str, Any] = {str(rng.choice(["throttle", "brake", "steer"])): number}
        return Proposal(replace(_command(rng), **broken)), "proposal not finite"
    if kind == 3:
        return Proposal(replace(_command(rng), reverse=True)), "reverse"
    if kind == 4:
        return Proposal(_command(rng), frames=int(rng.integers(4, 99))), "repeated proposal"
    weird: dict[str, Any] = {name: float(rng.choice(WEIRD[3:])) for name in ("throttle", "brake", "steer")}
    return Proposal(Command(**weird)), ""


def _wrong_input(rng: np.random.Generator, reading: Reading, kind: int) -> tuple[Reading, str]:
    """An input that is missing, old or cannot be."""
    assert reading.ego is not None and reading.objects is not None
    if kind == 0:
        name = str(rng.choice(["ego", "objects", "vehicle", "route"]))
        missing: dict[str, Any] = {name: None}
        return replace(reading, **missing), f"no {name}"
    number = float(rng.choice([math.nan, math.inf, -math.inf]))
    if kind == 1:
        name = str(rng.choice(["x", "y", "yaw", "speed", "yaw_rate", "acceleration"]))
        return replace(reading, ego=replace(reading.ego, **{name: number})), "ego not finite"
    if kind == 2:
        return replace(reading, late=(Late("objects", float(rng.uniform(0.16, 9.0)), 0.1),)), "old input"
    if kind == 3:
        name = str(rng.choice(["max_steer", "wheelbase", "length", "width", "mass"]))
        wrong = float(rng.choice([number, 0.0, -1.0]))
        return replace(reading, vehicle=replace(VEHICLE, **{name: wrong})), "impossible vehicle"
    if kind == 4:
        name = str(rng.choice(["x", "y", "yaw", "vx", "vy", "yaw_rate", "length", "width"]))
        wrong = float(rng.choice([number, -1.0])) if name in ("length", "width") else number
        return replace(reading, objects=replace(_one(20.0, 0.0, 0.0, 0.0), **{name: np.array([wrong])})), (
            "impossible objects"
        )
    return replace(reading, faults=("odometry: in the frame 'odom'",)), "fault of an input"


def _misplaced(rng: np.random.Generator, reading: Reading, kind: int) -> tuple[Reading, str]:
    """A vehicle where, how or as fast as it must not be."""
    assert reading.ego is not None
    side, watch = float(rng.choice([-1.0, 1.0])), CONFIG.watch
    if kind == 0:
        return replace(reading, ego=replace(reading.ego, y=side * rng.uniform(watch.route_m + 0.1, 60.0))), (
            "off the route"
        )
    if kind == 1:
        return replace(reading, ego=replace(reading.ego, yaw=side * rng.uniform(watch.heading_rad + 0.01, 3.1))), (
            "across the route"
        )
    most = CONFIG.command.speed_mps * CONFIG.command.overspeed
    return replace(reading, ego=replace(reading.ego, speed=rng.uniform(most + 0.01, 60.0))), "too fast"


def _command(rng: np.random.Generator) -> Command:
    throttle, brake = (rng.uniform(0.0, 1.0), 0.0) if rng.random() < 0.7 else (0.0, rng.uniform(0.0, 1.0))
    return Command(float(throttle), float(rng.uniform(-1.0, 1.0)), float(brake), bool(rng.random() < 0.01))


def _traffic(rng: np.random.Generator) -> Objects:
    n = int(rng.integers(0, 7))
    yaw, speed = rng.uniform(-math.pi, math.pi, n), rng.uniform(0.0, 14.0, n)
    x, y = rng.uniform(-60.0, 60.0, n), rng.uniform(-40.0, 40.0, n)
    size, turning = np.ones(n), rng.uniform(-2.0, 2.0, n)
    return Objects(np.arange(n), x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), turning, 4.5 * size, 1.8 * size)


def _one(x: float, y: float, yaw: float, speed: float) -> Objects:
    """A car."""
    values = (x, y, yaw, speed * math.cos(yaw), speed * math.sin(yaw), 0.0, CAR_LENGTH, CAR_WIDTH)
    return Objects(np.array([5]), *(np.array([each]) for each in values))


def _met(rng: np.random.Generator, reading: Reading, kind: int) -> tuple[Reading, str]:
    """A car straight ahead, nearer than its motion allows: by the stopping distance, or by RSS's two lengthwise ones.

    The stopping distance is v * delay + v * v / (2 * brake); RSS's are Shalev-Shwartz et al. 2017, definitions 1 and 2,
    without an acceleration during the response.
    """
    speed, other, near = (float(rng.uniform(*span)) for span in ((2.0, 20.0), (0.5, 14.0), (0.05, 0.95)))
    ego, rss = EgoState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0), CONFIG.rss
    stopping = speed * CONFIG.path.delay_s + speed * speed / (2.0 * CONFIG.path.brake_mps2)
    lengthwise, across = 0.5 * (VEHICLE.length + CAR_LENGTH), 0.5 * (VEHICLE.length + CAR_WIDTH)
    own = speed * rss.response_s + speed * speed / (2.0 * rss.brake_min_mps2)
    if kind == 0:
        car, due = _one(lengthwise + near * stopping, 0.0, 0.0, 0.0), "obstacle"
    elif kind == 1:
        other, away = _crossing(speed, near * stopping, other)
        side = float(rng.choice([-1.0, 1.0]))
        car, due = _one(across + near * stopping, -side * away, side * math.pi / 2.0, other), "crossing"
    elif kind == 2:
        leading = min(other, 0.8 * speed)
        safe = own - leading * leading / (2.0 * rss.brake_max_mps2)
        car, due = _one(lengthwise + near * safe, 0.0, 0.0, leading), "leading"
    else:
        theirs = other * rss.other_response_s + other * other / (2.0 * rss.brake_correct_mps2)
        car, due = _one(lengthwise + near * (own + theirs), 0.0, math.pi, other), "oncoming"
    return replace(reading, ego=ego, objects=car), due


def _crossing(speed: float, gap: float, other: float) -> tuple[float, float]:
    """Speed at most `other` [m/s] and distance from the path [m] of a car that is in the way, brakes or not.

    That is from when a vehicle that goes on arrives to when one arrives that brakes from now on, which cannot stop.
    """
    delay, brake = CONFIG.path.delay_s, CONFIG.path.brake_mps2
    soonest = gap / speed
    slowed = speed * speed - 2.0 * brake * max(gap - speed * delay, 0.0)
    latest = max(soonest, delay + (speed - math.sqrt(slowed)) / brake)
    half = 0.5 * (latest - soonest) + 0.2  # longest of a crossing's middle to its ends that there may be
    other = min(other, 0.5 * (CAR_LENGTH + VEHICLE.width) / half)
    return other, other * 0.5 * (soonest + latest)


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
    ego = case.heard.reading.ego
    if ego is not None and ego.speed > limits.speed_mps and command.throttle > 0.0:
        return f"throttle at {ego.speed:.1f} m/s"
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
    for line in escapes[:SHOWN]:
        console.print(line, markup=False)
    figures = {
        "proposals": proposals,
        "seed": seed,
        "escapes": len(escapes),
        "first_escapes": escapes[:SHOWN],
        **counts,
    }
    write_json(json_file, with_origin("fuzz", figures, ["numpy"]))
    if escapes:
        raise SystemExit(1)
