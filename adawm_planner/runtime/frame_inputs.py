"""Parts of a bridge frame in, whole frames out: odometry, objects and vehicle status of one stamp.

The bridge stamps everything of a tick with the same time, so equal stamps make a frame; the parts come
over separate topics in any order. What is whole goes on to the input monitor.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from adawm_planner.data_types import EgoState, Objects

ODOMETRY = "odometry"
OBJECTS = "objects"
STATUS = "vehicle_status"
ROUTE = "waypoints"
VEHICLE = "vehicle_info"

FRAME_PARTS = (ODOMETRY, OBJECTS, STATUS)
"""Inputs that must be there, with equal stamps, in every frame."""

RESTART_NS = 1_000_000_000
"""A stamp this far before the newest frame is of another clock, a smaller step back is a late message [ns].

One this far ahead of others that are waited for is of another clock.
"""


@dataclass(frozen=True)
class OdometryInput:
    """Pose and motion of the ego as nav_msgs/Odometry tells them."""

    stamp_ns: int
    frame_id: str
    x: float  # m, map
    y: float  # m, map
    yaw: float  # rad, map
    quaternion_norm: float  # 1 for a rotation
    speed: float  # m/s along the body's x axis
    lateral_speed: float  # m/s along the body's y axis, left positive
    vertical_speed: float  # m/s along the body's z axis
    yaw_rate: float  # rad/s, left positive


@dataclass(frozen=True)
class StatusInput:
    """What carla_msgs/CarlaEgoVehicleStatus adds."""

    stamp_ns: int
    frame_id: str
    speed: float  # m/s, never negative
    acceleration_x: float  # m/s2, map
    acceleration_y: float  # m/s2, map


@dataclass(frozen=True)
class ObjectsInput:
    """Other road users of one stamp."""

    stamp_ns: int
    frame_id: str
    objects: Objects
    problem: str = ""  # why they cannot be used; empty: they can
    ego_id: int | None = None  # id by which the ego may be among them; None: not known


def without_ego(part: ObjectsInput, x: float, y: float) -> ObjectsInput:
    """Leave out the ego: what has its id, and a box around its place [m, map].

    The id alone does not tell: a tracker may count its objects as it likes, and the one of that number is an obstacle.
    """
    o = part.objects
    own: NDArray[np.bool_] = o.id == part.ego_id
    if not own.any():
        return part
    with np.errstate(all="ignore"):  # values that are not finite are no ego, and the input monitor's
        cos, sin, dx, dy = np.cos(o.yaw), np.sin(o.yaw), x - o.x, y - o.y
        along, across = np.abs(dx * cos + dy * sin), np.abs(dy * cos - dx * sin)
        others = ~(own & (along <= 0.5 * o.length) & (across <= 0.5 * o.width))
    return replace(part, objects=Objects(*(getattr(o, each.name)[others] for each in fields(o))))


Part = OdometryInput | StatusInput | ObjectsInput
_NAMES = {OdometryInput: ODOMETRY, StatusInput: STATUS, ObjectsInput: OBJECTS}


@dataclass(frozen=True)
class FrameInputs:
    """One whole frame."""

    stamp_ns: int
    received_s: float  # monotonic clock when the part that completed it arrived
    odometry: OdometryInput
    status: StatusInput
    objects: ObjectsInput

    @property
    def stamp_s(self) -> float:
        """Simulation time [s]."""
        return self.stamp_ns * 1e-9

    def ego(self) -> EgoState:
        """Motion of the ego; the acceleration is turned from map axes to the body's x axis."""
        o, s = self.odometry, self.status
        forward = s.acceleration_x * math.cos(o.yaw) + s.acceleration_y * math.sin(o.yaw)
        return EgoState(o.x, o.y, o.yaw, o.speed, o.lateral_speed, o.yaw_rate, forward)


@dataclass
class PendingFrame:
    """A frame some part of which has arrived."""

    stamp_ns: int
    since_s: float  # monotonic clock when its first part arrived
    parts: dict[str, Part] = field(default_factory=dict)

    def missing(self) -> tuple[str, ...]:
        """Names of the parts that have not arrived, in the order of FRAME_PARTS."""
        return tuple(name for name in FRAME_PARTS if name not in self.parts)

    def whole(self, received_s: float) -> FrameInputs:
        """Return the frame; every part must be there."""
        odometry, objects, status = (self.parts[name] for name in FRAME_PARTS)
        assert isinstance(odometry, OdometryInput) and isinstance(status, StatusInput)
        assert isinstance(objects, ObjectsInput)
        return FrameInputs(self.stamp_ns, received_s, odometry, status, without_ego(objects, odometry.x, odometry.y))


class FrameAssembler:
    """Sorts parts into frames and gives each frame out once.

    Parts of up to `depth` frames may be interleaved. A frame is closed when it is given out, when a later
    one is, or when it is given up by `close`; parts of a closed frame are counted as late and dropped.

    A stamp far ahead may be a stray of another clock, or this one has jumped. So it is waited for only where nothing
    nearer is, and dropped when a frame becomes whole without it.

    A stamp far back is a stray too, or the clock has started again. It counts as late until another input has one
    near it: then that is the clock. So the input that strays is the one that is missing from its frames.
    """

    def __init__(self, depth: int = 4) -> None:
        self._depth = depth
        self._pending: dict[int, PendingFrame] = {}
        self._closed_ns: int | None = None
        self._far_back: deque[tuple[Part, float]] = deque(maxlen=depth * len(FRAME_PARTS))  # and when they came [s]
        self.waiting_since_s: float | None = None  # oldest part that still waits to belong to an answered frame
        self.received_s: dict[str, float] = {}
        self.took_s = 0.0  # newest whole frame's first part to its last
        self.late_parts = 0
        self.dropped_frames = 0
        self.clock_restarts = 0

    def add(self, part: Part, now_s: float) -> FrameInputs | None:
        """Take one part, received at `now_s` (monotonic); return the frame if that made it whole."""
        name, stamp_ns = _NAMES[type(part)], part.stamp_ns
        if self._closed_ns is not None and stamp_ns <= self._closed_ns:
            if self._closed_ns - stamp_ns < RESTART_NS or not self._restarts(part, now_s):
                self.late_parts += 1
            return None
        self.received_s[name] = now_s
        frame = self._pending.setdefault(stamp_ns, PendingFrame(stamp_ns, now_s))
        if self.waiting_since_s is None or all(each is frame for each in self._in_time()):
            self.waiting_since_s = frame.since_s
        frame.parts[name] = part
        if not frame.missing():
            self._drop_after(stamp_ns + RESTART_NS)
            self._far_back.clear()
            self.close(stamp_ns)
            self.took_s = now_s - frame.since_s
            return frame.whole(now_s)
        if len(self._pending) > self._depth:
            self._make_room()
        return None

    def oldest_pending(self) -> PendingFrame | None:
        """Return the incomplete frame with the earliest stamp, if any."""
        return min(self._pending.values(), key=lambda frame: frame.stamp_ns, default=None)

    def pending_ns(self) -> int:
        """Return the simulated time between the earliest and the latest incomplete frame, strays left out [ns]."""
        stamps = [frame.stamp_ns for frame in self._in_time()]
        return max(stamps, default=0) - min(stamps, default=0)

    def close(self, stamp_ns: int) -> None:
        """Mark the frame as answered; earlier incomplete frames are dropped."""
        self._pending.pop(stamp_ns, None)
        self._drop_through(stamp_ns)
        self.waiting_since_s = min((frame.since_s for frame in self._in_time()), default=None)

    def _in_time(self) -> list[PendingFrame]:
        """Return the incomplete frames, without those that are too far ahead of the earliest one to be of its clock."""
        last_ns = min(self._pending, default=0) + RESTART_NS
        return [frame for frame in self._pending.values() if frame.stamp_ns <= last_ns]

    def _make_room(self) -> None:
        """Drop the strays, or else the earliest frame."""
        first_ns, pending = min(self._pending), len(self._pending)
        self._drop_after(first_ns + RESTART_NS)
        if len(self._pending) == pending:
            self._drop_through(first_ns)

    def _drop_after(self, stamp_ns: int) -> None:
        for stray in [stamp for stamp in self._pending if stamp > stamp_ns]:
            del self._pending[stray]
            self.dropped_frames += 1

    def _drop_through(self, stamp_ns: int) -> None:
        for old in [stamp for stamp in self._pending if stamp <= stamp_ns]:
            del self._pending[old]
            self.dropped_frames += 1
        self._closed_ns = stamp_ns

    def _restarts(self, part: Part, now_s: float) -> bool:
        """Keep a part from far back; begin anew with what there is of its clock once that is of two inputs."""
        self._far_back.append((part, now_s))
        known = [each for each in self._far_back if abs(each[0].stamp_ns - part.stamp_ns) < RESTART_NS]
        if len({type(each) for each, _ in known}) < 2:
            return False
        self._pending.clear()
        self._far_back.clear()
        self._closed_ns = self.waiting_since_s = None
        self.clock_restarts += 1
        for each, came_s in known:
            self.add(each, came_s)
        return True
