"""What the safety gate allows; every limit with its unit, range and reason in one place.

The node's parameters and the table in docs/gate.md are made from these fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from adawm_planner.dims import FRAME_S


def limit(default: float, unit: str, low: float, high: float, description: str) -> Any:
    """Return a field with a default, a unit, an inclusive range and a description."""
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "description": description})


@dataclass(frozen=True)
class _Limits:
    """Refuses values outside their range."""

    section: ClassVar[str]  # of the gate's parameters

    def __post_init__(self) -> None:
        for each in fields(self):
            value, low, high = getattr(self, each.name), each.metadata["low"], each.metadata["high"]
            if not (math.isfinite(value) and low <= value <= high):
                name, limits = f"gate.{self.section}.{each.name}", f"{low:g}..{high:g} {each.metadata['unit']}"
                raise ValueError(f"{name} is {value}, must lie in {limits}".rstrip())


@dataclass(frozen=True)
class CommandLimits(_Limits):
    """Largest commands that leave the gate; accelerations are the pedals', as the nominal vehicle answers them."""

    section = "command"

    throttle_mps2: float = limit(4.0, "m/s2", 0.5, 20.0, "acceleration at throttle 1")
    brake_mps2: float = limit(8.0, "m/s2", 1.0, 20.0, "deceleration at brake 1")
    acceleration_mps2: float = limit(3.0, "m/s2", 0.2, 10.0, "acceleration that may be commanded")
    rising_jerk_mps3: float = limit(100.0, "m/s3", 1.0, 400.0, "rise of the commanded acceleration")
    falling_jerk_mps3: float = limit(120.0, "m/s3", 20.0, 400.0, "fall of the commanded acceleration, stops included")
    steer_rate_per_s: float = limit(2.0, "1/s", 0.1, 40.0, "change of the steering command, of full lock")
    lateral_mps2: float = limit(4.0, "m/s2", 0.5, 10.0, "lateral acceleration of speed and steering command")
    speed_mps: float = limit(20.0, "m/s", 1.0, 70.0, "speed above which no throttle passes")
    overspeed: float = limit(1.1, "of speed_mps", 1.0, 2.0, "speed above which the gate brakes")


@dataclass(frozen=True)
class WatchLimits(_Limits):
    """How old and how wrong what the gate hears may be; its own wait for inputs is in `limits.*`."""

    section = "watch"

    proposal_s: float = limit(0.2, "s", 0.05, 2.0, "age of the planner's newest valid proposal")
    proposal_frames: float = limit(3.0, "frames of 0.05 s", 1.0, 20.0, "frames that one proposal may serve")
    way_m: float = limit(1.0, "m", 0.1, 50.0, "distance between where odometry's places and velocities lead in 1 s")
    turn_rad: float = limit(0.2, "rad", 0.02, 3.0, "angle between where odometry's headings and yaw rates lead in 1 s")
    latch_s: float = limit(0.5, "s", 0.0, 10.0, "time a fault lasts before the stop cannot be taken back")
    recurrent_s: float = limit(
        1.0, "s", 0.1, 60.0, "time in all that faults come and go before the stop cannot be taken back"
    )
    forgiven: float = limit(
        0.1, "of time without", 0.0, 1.0, "share of the time without faults that is taken off recurrent ones"
    )
    route_m: float = limit(2.5, "m", 0.5, 50.0, "distance of the vehicle's centre from its route")
    heading_rad: float = limit(1.2, "rad", 0.1, 3.2, "angle between the vehicle and its route")


@dataclass(frozen=True)
class RssLimits(_Limits):
    """Responsibility-Sensitive Safety (Shalev-Shwartz et al. 2017); accelerations as ad-rss-lib has them, but for two.

    The response times are not its 1 s and 2 s of a human: the gate answers every frame, and what a vehicle ahead
    does is seen in the next one. So no acceleration during the response is counted, where it has 3.5 m/s2; and the own
    brakes are taken for what the vehicle gives, 6 m/s2, where it counts on 4.
    """

    section = "rss"

    response_s: float = limit(0.2, "s", 0.05, 5.0, "until the own brakes answer: a decision and the brakes' lag")
    other_response_s: float = limit(0.2, "s", 0.0, 5.0, "until an oncoming vehicle brakes")
    acceleration_mps2: float = limit(0.0, "m/s2", 0.0, 10.0, "own acceleration during response_s")
    brake_min_mps2: float = limit(6.0, "m/s2", 0.5, 12.0, "own deceleration that is counted on")
    brake_correct_mps2: float = limit(3.0, "m/s2", 0.5, 12.0, "deceleration of one who keeps to his own side")
    brake_max_mps2: float = limit(8.0, "m/s2", 0.5, 12.0, "hardest braking of a vehicle ahead")
    lateral_acceleration_mps2: float = limit(0.2, "m/s2", 0.0, 5.0, "lateral acceleration during a response time")
    lateral_brake_mps2: float = limit(0.8, "m/s2", 0.1, 5.0, "lateral deceleration that is counted on")
    lateral_margin_m: float = limit(0.1, "m", 0.0, 2.0, "lateral fluctuation, mean of both vehicles")
    aligned_rad: float = limit(0.5, "rad", 0.1, 0.8, "angle up to which two headings are one direction, or opposite")
    turned_rad: float = limit(0.2, "rad", 0.05, 0.8, "turn up to which the own circle stands for the own lane")


@dataclass(frozen=True)
class PathLimits(_Limits):
    """The braking-distance check along the path that the vehicle's own motion makes."""

    section = "path"

    delay_s: float = limit(0.2, "s", 0.05, 2.0, "until the brakes answer, and how long the check may still wait")
    brake_mps2: float = limit(6.0, "m/s2", 0.5, 12.0, "deceleration that is counted on")
    horizon_s: float = limit(4.0, "s", 0.5, 6.0, "how far others are foreseen")
    turning_s: float = limit(
        1.0, "s", 0.1, 10.0, "how long others are believed to go on turning: their rate falls to 1/e in this time"
    )
    turning_mps2: float = limit(
        6.0, "m/s2", 0.0, 12.0, "lateral acceleration up to which the turn of others is believed"
    )
    margin_m: float = limit(0.3, "m", 0.0, 5.0, "distance kept in front")
    side_m: float = limit(0.0, "m", 0.0, 2.0, "distance kept beside")
    clear_s: float = limit(0.2, "s", 0.0, 5.0, "time without danger before the brakes are released")


@dataclass(frozen=True)
class StopLimits(_Limits):
    """The minimal-risk manoeuvre.

    Its comfortable deceleration is just within the bound of comfort in nuPlan's closed-loop metrics, 4.05 m/s2; the
    jerk is not, 4.13 m/s3, at which one that was accelerating at 50 km/h would not stand within 35 m.
    """

    section = "stop"

    comfortable_mps2: float = limit(4.0, "m/s2", 0.5, 8.0, "deceleration of the comfortable stop")
    comfortable_jerk_mps3: float = limit(8.0, "m/s3", 0.5, 100.0, "rise of the comfortable stop's deceleration")
    emergency_mps2: float = limit(8.0, "m/s2", 2.0, 12.0, "deceleration of the emergency stop")
    hold_mps2: float = limit(4.0, "m/s2", 1.0, 12.0, "braking while standing: holds a slope of 40 %")
    standstill_mps: float = limit(0.1, "m/s", 0.01, 1.0, "speed below which the vehicle stands")
    standstill_s: float = limit(0.5, "s", 0.05, 5.0, "time of standstill after which a stop holds and may be released")


@dataclass(frozen=True)
class GateConfig:
    """Everything the gate is configured with."""

    command: CommandLimits = CommandLimits()
    watch: WatchLimits = WatchLimits()
    rss: RssLimits = RssLimits()
    path: PathLimits = PathLimits()
    stop: StopLimits = StopLimits()

    def __post_init__(self) -> None:
        counted_on = min(self.path.brake_mps2, self.rss.brake_min_mps2)
        if self.stop.comfortable_mps2 >= counted_on:
            raise ValueError(
                f"gate.stop.comfortable_mps2 is {self.stop.comfortable_mps2}, must be below path.brake_mps2 and "
                f"rss.brake_min_mps2, {counted_on}: it would pass for braking in danger"
            )
        if self.stop.emergency_mps2 < max(self.path.brake_mps2, self.rss.brake_min_mps2):
            raise ValueError(
                f"gate.stop.emergency_mps2 is {self.stop.emergency_mps2}, must be at least path.brake_mps2 and "
                "rss.brake_min_mps2, which count on it"
            )
        if self.command.brake_mps2 < self.stop.emergency_mps2:
            raise ValueError(
                f"gate.command.brake_mps2 is {self.command.brake_mps2}, must be at least stop.emergency_mps2, "
                f"{self.stop.emergency_mps2}: full brake cannot give it"
            )
        if self.command.brake_mps2 < self.stop.hold_mps2:
            raise ValueError(
                f"gate.stop.hold_mps2 is {self.stop.hold_mps2}, must be at most command.brake_mps2, "
                f"{self.command.brake_mps2}: full brake cannot give it"
            )
        self._check_answer()
        if self.rss.brake_max_mps2 < self.rss.brake_min_mps2:
            raise ValueError(
                f"gate.rss.brake_max_mps2 is {self.rss.brake_max_mps2}, must be at least rss.brake_min_mps2, "
                f"{self.rss.brake_min_mps2}: a vehicle ahead may brake as hard as this one"
            )
        fastest = self.command.overspeed * self.command.speed_mps
        standing_s = self.path.delay_s + fastest / self.path.brake_mps2
        if self.path.horizon_s < standing_s:
            raise ValueError(
                f"gate.path.horizon_s is {self.path.horizon_s}, must be at least {standing_s:.2f} s, what a stop from "
                "overspeed x speed_mps takes by path.delay_s and path.brake_mps2; raise it, or lower command.speed_mps"
            )

    def _check_answer(self) -> None:
        """Raises ValueError where the brakes that are counted on may come later than they are counted on."""
        counted_on = max(self.path.brake_mps2, self.rss.brake_min_mps2)
        needed_s = FRAME_S + (self.command.acceleration_mps2 + counted_on) / self.command.falling_jerk_mps3
        for name, given_s in (("path.delay_s", self.path.delay_s), ("rss.response_s", self.rss.response_s)):
            if given_s < needed_s:
                raise ValueError(
                    f"gate.{name} is {given_s}, must be at least {needed_s:.3f} s, what it takes from "
                    "command.acceleration_mps2 to the brakes that are counted on by command.falling_jerk_mps3 and one "
                    "frame; raise it, or command.falling_jerk_mps3"
                )
