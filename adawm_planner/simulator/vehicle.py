"""Ego vehicle dynamics: Command in, EgoState out, one call per frame.

Kinematic single-track model about the vehicle's centre (Rajamani, Vehicle Dynamics and Control, 2.2),
with a command delay, first-order actuators, load-dependent pedals and a friction circle.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import MOST_STEER_RAD, Command, EgoState, VehicleInfo
from adawm_planner.dims import FRAME_S

GRAVITY = 9.81  # m/s2
SUBSTEPS = 5  # per frame: 10 ms, a tenth of the fastest actuator


LIMITS: dict[str, tuple[float, float]] = {
    "length": (0.5, 25.0),
    "width": (0.3, 4.0),
    "wheelbase": (0.3, 20.0),
    "mass": (10.0, 100_000.0),
    "drive_force": (1.0, 1e6),
    "brake_force": (1.0, 1e7),
    "drag": (0.0, 100.0),
    "rolling_force": (0.0, 1e5),
    "friction": (0.01, 3.0),
    "max_steer": (0.01, MOST_STEER_RAD),
    "steer_rate": (0.01, 100.0),
    "steer_lag": (1e-4, 10.0),
    "throttle_lag": (1e-4, 10.0),
    "brake_lag": (1e-4, 10.0),
    "delay": (0.0, 2.0),
}
"""Field of VehiclePreset -> smallest and largest value, in its unit; beyond them the model is no vehicle's."""


@dataclass(frozen=True)
class VehiclePreset:
    """Dynamics of one ego vehicle; the fields a shift changes are forces, delays and friction."""

    name: str
    description: str = ""
    length: float = 4.7  # m
    width: float = 1.85  # m
    wheelbase: float = 2.8  # m
    mass: float = 1600.0  # kg
    drive_force: float = 6400.0  # N at throttle 1
    brake_force: float = 12800.0  # N at brake 1
    drag: float = 1.6  # N per (m/s)2
    rolling_force: float = 190.0  # N
    friction: float = 0.9  # tyre-road coefficient
    max_steer: float = 0.61  # rad at the front wheels
    steer_rate: float = 0.9  # rad/s
    steer_lag: float = 0.08  # s, time constant
    throttle_lag: float = 0.15  # s, time constant
    brake_lag: float = 0.08  # s, time constant
    delay: float = 0.0  # s, from command to actuator, in whole frames

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"vehicle {self.name}: {name} is {value!r}, must be a number in {low:g}..{high:g}")
        frames = self.delay / FRAME_S
        if abs(frames - round(frames)) > 1e-6:
            raise ValueError(
                f"vehicle {self.name}: delay is {self.delay} s, must be a multiple of {FRAME_S:g} s, a frame"
            )

    @property
    def info(self) -> VehicleInfo:
        """What the planner is told about this vehicle."""
        return VehicleInfo(self.max_steer, self.wheelbase, self.length, self.width, self.mass)


class EgoVehicle:
    """The ego vehicle's motion and actuators; everything it remembers is set by `reset`."""

    def __init__(self, preset: VehiclePreset) -> None:
        self.preset = preset
        self.reset(0.0, 0.0, 0.0, 0.0)

    def reset(self, x: float, y: float, yaw: float, speed: float) -> None:
        """Place the vehicle (m, m, rad, map frame) rolling straight at `speed` [m/s], actuators at rest."""
        self._x, self._y, self._yaw, self._speed = x, y, yaw, speed
        self._lateral_speed = self._yaw_rate = self._acceleration = 0.0
        self._throttle = self._brake = self._steer = 0.0
        self._pending: deque[Command] = deque([Command()] * round(self.preset.delay / FRAME_S))

    def place(self, x: float, y: float, yaw: float) -> None:
        """Move the vehicle (m, m, rad, map frame) without changing its speed."""
        self._x, self._y, self._yaw = x, y, yaw

    def set_speed(self, speed: float) -> None:
        """Set the forward speed [m/s]."""
        self._speed = speed

    @property
    def state(self) -> EgoState:
        """Motion at the end of the last frame."""
        return EgoState(
            self._x, self._y, self._yaw, self._speed, self._lateral_speed, self._yaw_rate, self._acceleration
        )

    def tick(self, command: Command) -> Command:
        """Advance one frame; returns the command that reached the actuators (older when delayed)."""
        self._pending.append(command)
        applied = self._pending.popleft()
        before = self._speed
        for _ in range(SUBSTEPS):
            self._substep(applied, FRAME_S / SUBSTEPS)
        self._acceleration = (self._speed - before) / FRAME_S
        return applied

    def _substep(self, command: Command, dt: float) -> None:
        p = self.preset
        brake = 1.0 if command.hand_brake else min(max(command.brake, 0.0), 1.0)
        throttle = min(max(command.throttle, 0.0), 1.0)
        self._throttle += (throttle - self._throttle) * dt / (p.throttle_lag + dt)
        self._brake += (brake - self._brake) * dt / (p.brake_lag + dt)
        # Positive steer is right in the command, left-positive angles are used from here on.
        wanted = -min(max(command.steer, -1.0), 1.0) * p.max_steer
        turn = (wanted - self._steer) * dt / (p.steer_lag + dt)
        self._steer += min(max(turn, -p.steer_rate * dt), p.steer_rate * dt)
        self._integrate(command.reverse, dt)

    def _integrate(self, reverse: bool, dt: float) -> None:
        """Move by one substep; where the tyres cannot give the wanted yaw rate, the car runs wide."""
        grip = self.preset.friction * GRAVITY
        slip = math.atan(0.5 * math.tan(self._steer))
        wanted = self._speed * 2.0 * math.sin(slip) / self.preset.wheelbase
        limit = grip / max(abs(self._speed), 0.5)
        yaw_rate = min(max(wanted, -limit), limit)
        used = yaw_rate * self._speed / grip
        self._speed = self._next_speed(reverse, grip * math.sqrt(max(1.0 - used * used, 0.01)), dt)
        slip = slip if yaw_rate == wanted else 0.0
        self._x += self._speed * math.cos(self._yaw + slip) * dt
        self._y += self._speed * math.sin(self._yaw + slip) * dt
        self._yaw = wrap_angle(self._yaw + yaw_rate * dt)
        self._yaw_rate, self._lateral_speed = yaw_rate, self._speed * math.sin(slip)

    def _next_speed(self, reverse: bool, grip: float, dt: float) -> float:
        """Speed after the pedals' forces, limited by friction; brakes and drag stop but never push."""
        p, speed = self.preset, self._speed
        drive = (-1.0 if reverse else 1.0) * self._throttle * p.drive_force / p.mass
        speed += min(max(drive, -grip), grip) * dt
        resist = (self._brake * p.brake_force + p.drag * speed * speed + p.rolling_force) / p.mass
        return math.copysign(max(abs(speed) - min(resist, grip) * dt, 0.0), speed)
