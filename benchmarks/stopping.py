"""`adawm benchmark stopping`: how far a vehicle rolls on when planner, inputs or gate are gone.

The gate's loop and the simulator's vehicle without ROS, in simulated time: the same figures on every machine. A
planner that drives at a steady speed, or accelerates, dies right after it has answered a frame, which is the moment
that the gate notices last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from adawm_planner.cli.options import json_option
from adawm_planner.config.control import ControlConfig
from adawm_planner.config.gate import GateConfig
from adawm_planner.control.tracking import pedals
from adawm_planner.data_types import Command, Objects
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import route_from_points
from adawm_planner.result_file import write_json
from adawm_planner.runtime.frame_inputs import (
    FRAME_PARTS,
    OBJECTS,
    ODOMETRY,
    ROUTE,
    STATUS,
    VEHICLE,
    ObjectsInput,
    OdometryInput,
    Part,
    StatusInput,
)
from adawm_planner.runtime.gate_loop import GateLoop, GateOutgoing, GateTimes
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from adawm_planner.runtime.watchdog import WorldClock
from adawm_planner.simulator.handshake import COMMAND_WAIT_S, EgoControl
from adawm_planner.simulator.tasks import BUILT_IN_VEHICLES, load_vehicle
from adawm_planner.simulator.vehicle import EgoVehicle
from benchmarks.record import with_origin

SPEED_MPS = 50.0 / 3.6
PROMISED_M = 35.0
"""From 50 km/h to standstill without a planner: 0.3 s, then 4 m/s2 built up with 5 m/s3."""

WALL_STEP_S = 0.01
DRIVEN_FRAMES = 60
WATCHED_S = 15.0
COMMAND_TIMEOUT_S = 0.3
"""A `command_timeout` of the sim bridge, or a vehicle interface's own."""

ROUTE_M = 1000.0


class Gone(Enum):
    """What is gone."""

    PLANNER = "the planner"
    INPUTS = "every input"
    ODOMETRY = "odometry"
    GATE = "the gate"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    gone: Gone
    acceleration: float = 0.0  # m/s2 that the planner asked for at last
    vehicle: str = "nominal"
    stepped: bool = False  # the world waits for commands
    timeout_s: float = 0.0  # after which the vehicle brakes by itself; 0: never


CASES = (
    Case(Gone.PLANNER),
    Case(Gone.PLANNER, acceleration=3.0),
    Case(Gone.PLANNER, stepped=True),
    *(Case(Gone.PLANNER, vehicle=name) for name in BUILT_IN_VEHICLES if name != "nominal"),
    Case(Gone.INPUTS),
    Case(Gone.INPUTS, stepped=True),
    Case(Gone.ODOMETRY),
    Case(Gone.ODOMETRY, stepped=True),
    Case(Gone.GATE),
    Case(Gone.GATE, timeout_s=COMMAND_TIMEOUT_S),
    Case(Gone.GATE, stepped=True, timeout_s=COMMAND_TIMEOUT_S),
)


@dataclass(frozen=True)
class Stop:
    """What became of it, counted from the last command of a sound stack; None where it never came to that."""

    braked_s: float | None  # simulated time
    stands_s: float | None
    stands_m: float | None
    speed_mps: float  # at the end


class Drive:
    """A vehicle on a straight empty road, its gate, and the planner as far as a gate sees it."""

    def __init__(self, case: Case) -> None:
        self.case, self.now, self.frame = case, 0.0, 0
        self.vehicle = EgoVehicle(load_vehicle(case.vehicle))
        self.vehicle.reset(5.0, 0.0, 0.0, SPEED_MPS)
        topics = {name: name for name in (ODOMETRY, OBJECTS, STATUS, ROUTE, VEHICLE)}
        self.gate = GateLoop(GateConfig(), InputMonitor(InputLimits(), topics), GateTimes(), False)
        self.gate.on_vehicle(self.vehicle.preset.info)
        self.gate.on_route(route_from_points(np.arange(0.0, ROUTE_M), np.zeros(int(ROUTE_M))))
        self.control = EgoControl(case.timeout_s)
        self.broken = False

    def step(self) -> Command:
        """Show a frame, wait for what answers it, and move the vehicle by one frame; return what moved it."""
        self.frame += 1
        gone = self.case.gone if self.broken else None
        self._world()
        if gone is not Gone.GATE:
            shown = {Gone.INPUTS: (), Gone.ODOMETRY: (STATUS, OBJECTS)}
            self._show(FRAME_PARTS if gone is None else shown.get(gone, FRAME_PARTS))
        if gone is None:
            pressed = pedals(self.case.acceleration, self.vehicle.state.speed, ControlConfig())
            self._take(self.gate.on_proposal(Command(pressed[0], 0.0, pressed[1]), self._stamp_ns(), self.now))
        self._wait(gone is Gone.GATE)
        applied = self.control.take(self.frame * FRAME_S)
        self.vehicle.tick(applied)
        return applied

    def _wait(self, alone: bool) -> None:
        """One period of wall time; in a stepped world until a command is there, or COMMAND_WAIT_S are over."""
        end = self.now + (COMMAND_WAIT_S if self.case.stepped else FRAME_S)
        while self.now < end - 1e-9 and not (self.case.stepped and self.control.in_time):
            self.now += WALL_STEP_S
            if not alone:
                self._take(self.gate.on_timer(self.now))

    def _world(self) -> None:
        self.gate.on_world(WorldClock(self.frame, self.case.stepped, True), self.now)

    def _show(self, topics: Sequence[str]) -> None:
        state, stamp = self.vehicle.state, self._stamp_ns()
        nobody = Objects(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(8)))
        place = (state.x, state.y, state.yaw)
        parts: dict[str, Part] = {
            STATUS: StatusInput(stamp, "map", abs(state.speed), state.acceleration, 0.0),
            ODOMETRY: OdometryInput(stamp, "map", *place, 1.0, state.speed, 0.0, 0.0, state.yaw_rate),
            OBJECTS: ObjectsInput(stamp, "map", nobody),
        }
        for topic in topics:
            self._take(self.gate.on_part(parts[topic], self.now))

    def _take(self, sent: Sequence[GateOutgoing]) -> None:
        for out in sent:
            self.control.command(out.answer.command, False, self.frame * FRAME_S)

    def _stamp_ns(self) -> int:
        return round(self.frame * FRAME_S * 1e9)


def stop(case: Case) -> Stop:
    """Drive, let it be gone, and look on."""
    drive = Drive(case)
    for _ in range(DRIVEN_FRAMES):
        drive.vehicle.set_speed(SPEED_MPS)
        assert drive.step().brake == 0.0, "braked while nothing was wrong"
    drive.vehicle.set_speed(SPEED_MPS)
    drive.broken, from_m = True, drive.vehicle.state.x
    braked: float | None = None
    for k in range(round(WATCHED_S / FRAME_S)):
        if drive.step().brake > 0.0 and braked is None:
            braked = k * FRAME_S
        if drive.vehicle.state.speed < GateConfig().stop.standstill_mps:
            return Stop(braked, (k + 1) * FRAME_S, drive.vehicle.state.x - from_m, drive.vehicle.state.speed)
    return Stop(braked, None, None, drive.vehicle.state.speed)


def rows() -> list[dict[str, Any]]:
    """Every case and what became of it."""
    return [{**asdict(case), "gone": case.gone.value, **asdict(stop(case))} for case in CASES]


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for docs/gate.md."""
    lines = [
        "| gone | the planner had been | vehicle | world | brakes after | stands after | way |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        own = f", brakes by itself after {row['timeout_s']:g} s" if row["timeout_s"] else ""
        had = f"accelerating with {row['acceleration']:g} m/s2" if row["acceleration"] else "keeping its speed"
        braked = "never" if row["braked_s"] is None else f"{row['braked_s']:.2f} s"
        stands = f"never ({row['speed_mps']:.1f} m/s after {WATCHED_S:g} s)"
        stands, way = (
            (stands, "-") if row["stands_m"] is None else (f"{row['stands_s']:.2f} s", f"{row['stands_m']:.1f} m")
        )
        world = "waits" if row["stepped"] else "real time"
        cells = (row["gone"], had, row["vehicle"] + own, world, braked, stands, way)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@json_option
def stopping(json_file: Path | None) -> None:
    """Stop a vehicle from 50 km/h in the simulator's dynamics, without ROS, and measure the way."""
    table = rows()
    Console().print(markdown(table), soft_wrap=True)
    figures = {"speed_mps": SPEED_MPS, "promised_m": PROMISED_M, "rows": table}
    write_json(json_file, with_origin("stopping", figures, ("numpy",)))
