"""`adawm benchmark gate_step`: one step of the safety gate's core with a crowd around it, against its limit.

Others stand and drive on a disc around a vehicle on a straight road, new ones at every step, all of them within reach
of the check along the path. In process, without ROS: the node's own share is in `adawm benchmark latency --gate`.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from adawm_planner.cli.options import json_option, seed_option
from adawm_planner.config.gate import GateConfig
from adawm_planner.data_types import Command, EgoState, Objects, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.result_file import write_json
from adawm_planner.safety.gate import Heard, Memory, step
from adawm_planner.safety.inputs import Proposal, Reading
from adawm_planner.safety.states import State
from benchmarks.record import percentiles, with_origin

VEHICLE = VehicleInfo(max_steer=0.61, wheelbase=2.8, length=4.7, width=1.85, mass=1600.0)
ROUTE = route_from_points(np.arange(-50.0, 300.0), np.zeros(350))
LIMIT_MS = 1.0
RADIUS_M = 25.0
WARM_UP = 50


def crowd(rng: np.random.Generator, count: int) -> Objects:
    """Make up others on a disc around the vehicle, anywhere but on it."""
    radius, angle = np.sqrt(rng.uniform(0.04, 1.0, count)) * RADIUS_M, rng.uniform(-math.pi, math.pi, count)
    yaw, speed, one = rng.uniform(-math.pi, math.pi, count), rng.uniform(0.0, 14.0, count), np.ones(count)
    turning = rng.uniform(-1.0, 1.0, count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return Objects(np.arange(count), x, y, yaw, speed * np.cos(yaw), speed * np.sin(yaw), turning, 4.5 * one, 1.8 * one)


def measure(steps: int, objects: int, seed: int) -> dict[str, Any]:
    """Time steps of the gate [ms]; each has another crowd, and lets the planner drive as far as the gate knows."""
    rng, config, took, braked = np.random.default_rng(seed), GateConfig(), [], 0
    ego, memory = EgoState(0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0), Memory(State.PASSING)
    for k in range(WARM_UP + steps):
        reading = Reading(ego, crowd(rng, objects), VEHICLE, ROUTE)
        heard = Heard(reading, Proposal(Command(throttle=0.2)), FRAME_S)
        began = time.perf_counter()
        answer = step(heard, memory, config)
        spent = 1e3 * (time.perf_counter() - began)
        if k >= WARM_UP:
            took.append(spent)
            braked += answer.verdict is not None
    return {
        "objects": objects,
        "steps": steps,
        "seed": seed,
        "limit_ms": LIMIT_MS,
        "step_ms": percentiles(took),
        "with_a_verdict": braked,
    }


@click.command(name="gate_step")
@click.option("--steps", type=click.IntRange(min=1), default=5000, show_default=True, help="How many.")
@click.option("--objects", type=click.IntRange(min=1), default=64, show_default=True, help="Others around.")
@seed_option(0)
@json_option
def gate_step(steps: int, objects: int, seed: int, json_file: Path | None) -> None:
    """Time the safety gate's core with others around it."""
    figures = measure(steps, objects, seed)
    levels = ", ".join(f"{name} {value:.3f}" for name, value in figures["step_ms"].items())
    Console(highlight=False).print(f"{steps} steps with {objects} others, ms: {levels}; limit {LIMIT_MS:g}")
    write_json(json_file, with_origin("gate_step", figures, ("numpy",)))
