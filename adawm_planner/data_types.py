"""The typed values that flow between the stages.

Scene -> Observation -> Latent -> Action -> Command; an Experience is one decision as the planner saw it.
Positions and headings are in the `map` frame (x east, y north, yaw counter-clockwise from x), the pose
reference point is the vehicle's centre on the ground, as in carla_ros_bridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class EgoState:
    """Motion of the ego vehicle at one instant."""

    x: float  # m, map
    y: float  # m, map
    yaw: float  # rad, map
    speed: float  # m/s along the body's x axis (simulator: of the centre along its path), negative when reversing
    lateral_speed: float  # m/s along the body's y axis, left positive
    yaw_rate: float  # rad/s, left positive
    acceleration: float  # m/s2 along the body's x axis


@dataclass(frozen=True)
class Objects:
    """Other road users at one instant; arrays of equal length N."""

    id: Int64  # (N,)
    x: Float64  # (N,) m, map
    y: Float64  # (N,) m, map
    yaw: Float64  # (N,) rad, map
    vx: Float64  # (N,) m/s, map axes
    vy: Float64  # (N,) m/s, map axes
    yaw_rate: Float64  # (N,) rad/s, left positive
    length: Float64  # (N,) m
    width: Float64  # (N,) m

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Route:
    """Lane-centre points to follow, about 1 m apart."""

    x: Float64  # (M,) m, map
    y: Float64  # (M,) m, map
    yaw: Float64  # (M,) rad, map
    s: Float64  # (M,) m along the route, s[0] = 0
    curvature: Float64  # (M,) 1/m, left positive, smoothed over about 5 m
    to_bend: Float64  # (M,) m to the next bend's first point, 0 inside a bend, inf after the last
    since_bend: Float64  # (M,) m since the latest bend began, inf before the first

    @property
    def length(self) -> float:
        """Arc length from the first to the last point [m]."""
        return float(self.s[-1])


MOST_STEER_RAD = 1.5
"""Largest steering angle [rad] of a vehicle; at a right angle the path that it leads to has no radius."""

LEAST_WHEELBASE_M, MOST_WHEELBASE_M = 0.2, 20.0
"""Of a vehicle that drives on a road [m]; more is in another unit."""


@dataclass(frozen=True)
class VehicleInfo:
    """What the planner is told about the vehicle it drives."""

    max_steer: float  # rad at the front wheels for steer = 1
    wheelbase: float  # m
    length: float  # m
    width: float  # m
    mass: float  # kg


@dataclass(frozen=True)
class Scene:
    """All that is known about the world at one frame, before any interpretation."""

    stamp: float  # s, simulation time
    ego: EgoState
    objects: Objects
    route: Route
    drivable: DrivableMap | None  # None: derived from the route alone
    vehicle: VehicleInfo
    near: int | None = None  # index of the ego's latest projection onto the route; None: not on it yet


@dataclass(frozen=True)
class DrivableMap:
    """Drivable area of one map as a bitmap in the map frame."""

    mask: UInt8  # (rows, columns), 255 drivable; row 0 is the smallest y
    origin_x: float  # m, map: x of the outer corner of mask[0, 0]
    origin_y: float  # m, map: y of the outer corner of mask[0, 0]
    cell: float  # m


@dataclass(frozen=True)
class Observation:
    """What the world model sees at one decision."""

    bev: UInt8  # (C, H, W), channels as dims.BEV_CHANNELS, x forward is up, ego at the centre
    state: Float32  # (S,), entries as dims.STATE_FEATURES


@dataclass(frozen=True)
class Carry:
    """Recurrent state of the world model, handed in and out of every step."""

    h: Float32  # (1, D) deterministic
    z: Float32  # (1, G * N) stochastic, one-hot per group
    action: Float32  # (1, A) one-hot of the previous action
    memory: str = ""  # digest of the dynamics adapter that filtered h and z; empty: the base model


@dataclass(frozen=True)
class PolicyOutput:
    """What the policy says about one latent."""

    probabilities: Float32  # (A,) over dims.ACCELERATION_BINS
    value: float  # discounted return, by the critic's expected symlog


@dataclass(frozen=True)
class Action:
    """One decision."""

    index: int  # into dims.ACCELERATION_BINS
    acceleration: float  # m/s2, the bin's target
    probabilities: Float32  # (A,) the distribution it was taken from


@dataclass(frozen=True)
class Command:
    """One actuation command with carla_msgs/CarlaEgoVehicleControl's meaning."""

    throttle: float = 0.0  # 0..1
    steer: float = 0.0  # -1..1, positive = right, fraction of max_steer
    brake: float = 0.0  # 0..1
    hand_brake: bool = False
    reverse: bool = False


class Outcome(Enum):
    """How an episode ended."""

    SUCCESS = "success"
    COLLISION = "collision"
    OFF_LANE = "off_lane"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class RewardTerms:
    """Reward of one or more frames by term; the episode's score is their sum."""

    progress: float = 0.0
    speed: float = 0.0
    collision: float = 0.0
    lateral: float = 0.0
    destination: float = 0.0

    @property
    def total(self) -> float:
        """Sum of all terms."""
        return self.progress + self.speed + self.collision + self.lateral + self.destination

    def __add__(self, other: RewardTerms) -> RewardTerms:
        return RewardTerms(
            self.progress + other.progress,
            self.speed + other.speed,
            self.collision + other.collision,
            self.lateral + other.lateral,
            self.destination + other.destination,
        )


@dataclass(frozen=True)
class Experience:
    """One decision as the planner saw it."""

    stamp_s: float  # simulation time of the observation
    sequence: int  # counts experiences; a gap is a lost message
    episode: int
    observation: Observation
    action: Action
    value: float  # discounted return, by the critic's expected symlog
    reward: RewardTerms  # since the previous experience of the episode
    is_first: bool
    is_last: bool  # nothing follows in this episode; the action was not carried out
    is_terminal: bool  # the future is worth nothing
    adapter_digests: tuple[str, ...] = ()  # sha256 of the bundles that decided, hex; empty also where none is known
    intervention: str = ""  # since the previous experience: rule of the gate that changed a command, or manual_override
