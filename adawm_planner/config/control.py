"""How a target acceleration and a route become pedals and a steering wheel."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ControlConfig:
    """Calibration of the nominal vehicle and the limits of the speed governor.

    The longitudinal part is feed-forward on purpose: a vehicle that answers differently from the
    nominal one is what adaptation has to notice, so no integrator may hide it.
    """

    cruise_speed: float = 8.0  # m/s, upper limit on straight road
    lateral_acceleration: float = 2.5  # m/s2, sets the speed in bends
    bend_deceleration: float = 1.5  # m/s2, assumed when slowing down for a bend
    end_deceleration: float = 2.0  # m/s2, assumed when stopping at the end of the route
    governor_gain: float = 2.0  # 1/s, target acceleration per m/s of speed error
    throttle_acceleration: float = 4.0  # m/s2 at throttle 1
    brake_deceleration: float = 8.0  # m/s2 at brake 1
    drag: float = 0.0010  # 1/m, deceleration per squared speed
    rolling_deceleration: float = 0.12  # m/s2
    hold_brake: float = 0.3  # 0..1, brake that keeps a standing vehicle still
    standstill_speed: float = 0.15  # m/s, below it a non-positive target holds the vehicle
    lookahead_time: float = 0.9  # s
    min_lookahead: float = 4.0  # m
    max_lookahead: float = 10.0  # m

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0.0:
                raise ValueError(f"control.{field.name} is {value}, must be greater than 0")
        if self.hold_brake > 1.0:
            raise ValueError(f"control.hold_brake is {self.hold_brake}, must be at most 1")
