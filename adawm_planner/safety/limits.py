"""A wanted command and the one before it in, a command within every limit out, and what was cut.

Accelerations are those of the pedals on the nominal vehicle, so that a slope or a load, which change what the
vehicle does with them, cut nothing. The order matters: ranges, then what the vehicle may do, then how fast a
command may change, which therefore holds for every command, stops included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adawm_planner.config.gate import CommandLimits
from adawm_planner.data_types import Command, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.safety.verdict import Rule, Verdict


@dataclass(frozen=True)
class Wanted:
    """A command as acceleration and steering."""

    acceleration: float  # m/s2 at the pedals
    steer: float  # -1..1, positive = right

    @staticmethod
    def of(command: Command, limits: CommandLimits) -> Wanted:
        """Return what a command asks for; the brake counts where both pedals are pressed."""
        if command.hand_brake:
            return Wanted(-limits.brake_mps2, command.steer)
        pressed = command.brake > 0.0
        asked = -command.brake * limits.brake_mps2 if pressed else command.throttle * limits.throttle_mps2
        return Wanted(asked, command.steer)

    def command(self, limits: CommandLimits) -> Command:
        """Return the command that asks for this, as precise as the message that carries it."""
        throttle = max(self.acceleration, 0.0) / limits.throttle_mps2
        brake = max(-self.acceleration, 0.0) / limits.brake_mps2
        return Command(_single(throttle), _single(self.steer), _single(brake))


def _single(value: float) -> float:
    return float(np.float32(value))


def into_range(command: Command) -> tuple[Command, list[Verdict]]:
    """Return the command with its values in their ranges; they must be finite."""
    throttle, brake = (min(max(value, 0.0), 1.0) for value in (command.throttle, command.brake))
    steer = min(max(command.steer, -1.0), 1.0)
    off = max(abs(throttle - command.throttle), abs(brake - command.brake), abs(steer - command.steer))
    if off == 0.0:
        return command, []
    return Command(throttle, steer, brake, command.hand_brake), [Verdict(Rule.COMMAND_RANGE, off, 0.0)]


def within_limits(
    wanted: Wanted, before: Wanted, speed: float, vehicle: VehicleInfo | None, limits: CommandLimits
) -> tuple[Wanted, list[Verdict]]:
    """Cut what exceeds a limit.

    Args:
        wanted: within the ranges of a command.
        before: the command of the frame before.
        speed: own, forward [m/s], finite.
        vehicle: None leaves the lateral acceleration unchecked.
    """
    acceleration, cuts = _acceleration(wanted.acceleration, before.acceleration, speed, limits)
    steer, turns = _steering(wanted.steer, before.steer, speed, vehicle, limits)
    return Wanted(acceleration, steer), cuts + turns


def _acceleration(wanted: float, before: float, speed: float, limits: CommandLimits) -> tuple[float, list[Verdict]]:
    verdicts = []
    allowed = wanted
    if allowed > limits.acceleration_mps2:
        verdicts.append(Verdict(Rule.ACCELERATION, allowed, limits.acceleration_mps2))
        allowed = limits.acceleration_mps2
    if speed > limits.speed_mps and allowed > 0.0:
        verdicts.append(Verdict(Rule.SPEED, speed, limits.speed_mps))
        allowed = 0.0
    low, high = before - limits.falling_jerk_mps3 * FRAME_S, before + limits.rising_jerk_mps3 * FRAME_S
    if not low <= allowed <= high:
        most = limits.rising_jerk_mps3 if allowed > high else limits.falling_jerk_mps3
        verdicts.append(Verdict(Rule.JERK, abs(allowed - before) / FRAME_S, most))
        allowed = min(max(allowed, low), high)
    return allowed, verdicts


def _steering(
    wanted: float, before: float, speed: float, vehicle: VehicleInfo | None, limits: CommandLimits
) -> tuple[float, list[Verdict]]:
    verdicts = []
    allowed = wanted
    if vehicle is not None:
        most = full_lock_share(speed, vehicle, limits)
        if abs(allowed) > most:
            bend = math.tan(abs(allowed) * vehicle.max_steer) / vehicle.wheelbase
            verdicts.append(Verdict(Rule.LATERAL_ACCELERATION, speed * speed * bend, limits.lateral_mps2))
            allowed = math.copysign(most, allowed)
    step = limits.steer_rate_per_s * FRAME_S
    if abs(allowed - before) > step:
        verdicts.append(Verdict(Rule.STEER_RATE, abs(allowed - before) / FRAME_S, limits.steer_rate_per_s))
        allowed = min(max(allowed, before - step), before + step)
    return allowed, verdicts


def full_lock_share(speed: float, vehicle: VehicleInfo, limits: CommandLimits) -> float:
    """Largest steering command (0..1) at which the lateral acceleration stays within its limit.

    Kinematic single-track model: lateral acceleration is speed squared times tan(angle) over the wheelbase.
    """
    angle = math.atan2(limits.lateral_mps2 * vehicle.wheelbase, speed * speed)
    return min(angle / vehicle.max_steer, 1.0)


def judge_speed(speed: float, limits: CommandLimits, deceleration: float) -> list[Verdict]:
    """Return a verdict for a speed that calls for brakes [m/s]."""
    most = limits.speed_mps * limits.overspeed
    return [Verdict(Rule.OVERSPEED, speed, most, deceleration)] if speed > most else []
