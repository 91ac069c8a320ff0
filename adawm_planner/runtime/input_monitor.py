"""Whole frames and their arrival times in, faults out: what is stale, missing, not finite or contradictory.

Pure: times are handed in. Any fault means a braking command; the next stage (planner_core) gives it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from adawm_planner.data_types import Objects, Route, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import distance_to
from adawm_planner.runtime.frame_inputs import (
    FRAME_PARTS,
    OBJECTS,
    ODOMETRY,
    ROUTE,
    STATUS,
    VEHICLE,
    FrameInputs,
    Part,
    PendingFrame,
)

QUATERNION_LIMIT = 0.01
"""Most that the norm of a rotation may differ from 1."""

MAX_OBJECT_M, MAX_OBJECT_MPS = 200.0, 150.0
"""Largest size [m] and speed [m/s] of an object that is believed: a tram, a racing car."""

MAX_OBJECTS = 1000
"""Most objects of a frame: on a slow computer the gate takes 8 ms to read as many and 11 ms to judge them, 20 ms where
all are within 25 m, of a frame's 50 ms."""

PERIOD_FRAMES = 20
"""Frames over which the frame period is averaged: a second."""


@dataclass(frozen=True)
class InputLimits:
    """What the planner accepts from its inputs."""

    stale_s: float = 0.25  # s without any input of a frame before the watchdog brakes
    incomplete_s: float = 0.1  # s an incomplete frame is waited for before the vehicle is braked
    stepped_stale_s: float = 2.0  # s of wall time, the same where a stepped world stands still
    stepped_incomplete_s: float = 0.5  # s of wall time; below the bridge's own limit of 1 s
    repeat_s: float = 0.2  # s between two braking commands of the watchdog
    gap_s: float = 0.3  # s of simulated time between two frames before the motion counts as unknown
    period_error: float = 0.3  # relative to dims.FRAME_S, mean over a second
    route_distance_m: float = 10.0  # m between ego and route before they contradict each other
    jump_m: float = 2.0  # m between two frames, more than it drove by its speed, before it is another episode
    speed_mismatch_mps: float = 2.0  # m/s between odometry and vehicle status
    speed_mps: float = 70.0  # m/s, more is not a road vehicle
    map_frame: str = "map"  # the frame every pose must be given in

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name != "map_frame" and not value > 0.0:
                raise ValueError(f"limits.{entry.name} is {value}, must be greater than 0")


@dataclass(frozen=True)
class FaultRow:
    """One kind of fault."""

    wrong: str
    found: str  # when
    action: str  # what whoever reads the line can do


FAULTS = {
    "input_missing": FaultRow(
        "a part of a frame has not come, or there is no route or vehicle_info",
        "`limits.incomplete_s` after the frame's first part (`limits.stepped_incomplete_s` in a stepped world that "
        "waits); for route and vehicle_info at the frame",
        "see that its publisher runs and is on this domain; a route that was refused is told in the state `route`",
    ),
    "input_stale": FaultRow(
        "no part of any new frame comes, or the same stamps are repeated",
        "`limits.stale_s`; see below for a stepped world",
        "see that the bridge runs and is on this domain",
    ),
    "not_finite": FaultRow(
        "NaN or infinity in odometry, status or an object (named by id), an object without size, longer than "
        f"{MAX_OBJECT_M:g} m or faster than {MAX_OBJECT_MPS:g} m/s, one whose quaternion is no rotation, more than "
        f"{MAX_OBJECTS:,} objects",
        "at the frame",
        "see who publishes the value",
    ),
    "wrong_frame": FaultRow("a frame_id other than `map`", "at the frame", "publish poses in that frame"),
    "contradictory": FaultRow(
        "ego off the route, odometry and status disagree on the speed, a quaternion that is no rotation, an impossible "
        "speed",
        "at the frame",
        "see that odometry, vehicle_status and route are of one vehicle; its limit is a parameter `limits.*`",
    ),
    "frame_gap": FaultRow(
        "more than `limits.gap_s` of simulated time between two frames without a jump",
        "at the frame",
        "see whether the network loses frames, or this computer is too slow for them",
    ),
    "frame_period": FaultRow(
        f"frames are not {FRAME_S:g} s of simulated time apart, averaged over {PERIOD_FRAMES} frames: the policy's "
        "clock counts frames",
        "within a second",
        "set the bridge's fixed_delta_seconds",
    ),
    "internal_error": FaultRow(
        "an exception in the planner itself; it is logged with its traceback, and the next frame is tried again",
        "at the frame",
        "see the planner's log",
    ),
}
"""Rules by which the planner brakes, by the name in messages; the table in docs/planner_node.md is made from it."""


def fault_table() -> str:
    """FAULTS as a Markdown table, for docs/planner_node.md."""
    rows = ["| rule | what is wrong | found after | what to do |", "|---|---|---|---|"]
    rows += [f"| `{name}` | {row.wrong} | {row.found} | {row.action} |" for name, row in FAULTS.items()]
    return "\n".join(rows)


@dataclass(frozen=True)
class Fault:
    """One reason not to trust the inputs."""

    rule: str  # of FAULTS
    topic: str
    age_s: float  # of the topic's newest message, inf if none ever came
    limit_s: float  # the age at which the topic counts as stale
    text: str  # measured value and its limit

    @property
    def action(self) -> str:
        """What whoever reads it can do."""
        return FAULTS[self.rule].action

    def line(self) -> str:
        """Return the fault as one line for people."""
        age = "never received" if math.isinf(self.age_s) else f"age {self.age_s:.3f} s"
        return f"{self.rule}: {self.topic} ({age}, limit {self.limit_s:.3f} s): {self.text}; {self.action}"


class InputMonitor:
    """Judges frames against limits; keeps only the arrival times it is told."""

    def __init__(self, limits: InputLimits, topics: Mapping[str, str]) -> None:
        """Take the limits and the full topic name of each input."""
        self.limits = limits
        self._topics = dict(topics)

    def check_frame(
        self, frame: FrameInputs, route: Route | None, vehicle: VehicleInfo | None, previous: FrameInputs | None
    ) -> tuple[Fault, ...]:
        """Return every fault of a whole frame; an empty tuple means it may be driven on."""
        faults = [*self._frame_ids(frame), *self._not_finite(frame)]
        if not faults:  # values that can be compared
            faults = [*self._contradictions(frame, route), *self._gap(frame, previous)]
        if vehicle is None:
            faults.append(self._never(VEHICLE, "the vehicle's steering limit is unknown until its ego is spawned"))
        if route is None:
            faults.append(self._never(ROUTE, "no route to follow: a path of two or more points"))
        return tuple(faults)

    def incomplete(
        self, frame: PendingFrame, waited_s: float, limit_s: float, received_s: Mapping[str, float], now_s: float
    ) -> tuple[Fault, ...]:
        """Return a fault per missing part of a frame that has waited longer than the limit."""
        text = f"missing from the frame at {frame.stamp_ns * 1e-9:.3f} s for {waited_s:.3f} s"
        return tuple(
            Fault("input_missing", self._topics[name], _age(received_s, name, now_s), limit_s, text)
            for name in frame.missing()
        )

    def stale(self, limit_s: float, received_s: Mapping[str, float], now_s: float) -> tuple[Fault, ...]:
        """Return a fault per frame input whose newest message is older than the limit.

        In a world that ran on unheard all may be young by the wall clock; then all are named.
        """
        ages = {name: _age(received_s, name, now_s) for name in FRAME_PARTS}
        old = [name for name, age in ages.items() if age > limit_s] or FRAME_PARTS
        text = "no new message"
        return tuple(Fault("input_stale", self._topics[name], ages[name], limit_s, text) for name in old)

    def check_period(self, stamps_ns: Sequence[int]) -> tuple[Fault, ...]:
        """Return a fault if frames (their stamps, in order) are not one frame period apart on average.

        The policy's clock counts frames: at another period it would see the world too fast or too slow.
        """
        if len(stamps_ns) < PERIOD_FRAMES:
            return ()
        period = (stamps_ns[-1] - stamps_ns[0]) * 1e-9 / (len(stamps_ns) - 1)
        if abs(period / FRAME_S - 1.0) <= self.limits.period_error:
            return ()
        text = f"frames are {period:.3f} s of simulated time apart, the model needs {FRAME_S} s"
        return (self._fault("frame_period", ODOMETRY, text),)

    def is_new_episode(self, frame: FrameInputs, previous: FrameInputs | None) -> bool:
        """Tell whether the ego jumped, or the clock went back, since the previous frame.

        The way that it drove meanwhile by its speed is no jump, so that the limit stops no fast vehicle. A place that
        is none is no jump either: it is a fault of its own, and must be answered at once.
        """
        if previous is None or frame.stamp_ns <= previous.stamp_ns:
            return True
        dx, dy = frame.odometry.x - previous.odometry.x, frame.odometry.y - previous.odometry.y
        if not has_place(frame):
            return False
        elapsed_s = (frame.stamp_ns - previous.stamp_ns) * 1e-9
        speed = abs(previous.odometry.speed)
        driven = speed * elapsed_s if speed <= self.limits.speed_mps else 0.0
        return math.hypot(dx, dy) > self.limits.jump_m + driven

    def jump(self, frame: FrameInputs, previous: FrameInputs) -> str:
        """How far a vehicle or its clock jumped, for people; `is_new_episode` said that it did."""
        elapsed_s = (frame.stamp_ns - previous.stamp_ns) * 1e-9
        if elapsed_s <= 0.0:
            return f"the clock jumped {-elapsed_s:.3f} s back; see who restarted it"
        o, before = frame.odometry, previous.odometry
        way = math.hypot(o.x - before.x, o.y - before.y)
        return (
            f"the vehicle jumped {way:.1f} m in {elapsed_s:.3f} s at {before.speed:.1f} m/s, "
            f"limit {self.limits.jump_m:g} m beyond what it drove; see who placed it there"
        )

    def _fault(self, rule: str, name: str, text: str) -> Fault:
        return Fault(rule, self._topics[name], 0.0, self.limits.stale_s, text)

    def _never(self, name: str, text: str) -> Fault:
        return Fault("input_missing", self._topics[name], math.inf, self.limits.stale_s, text)

    def _frame_ids(self, frame: FrameInputs) -> list[Fault]:
        parts: dict[str, Part] = {ODOMETRY: frame.odometry, OBJECTS: frame.objects, STATUS: frame.status}
        wanted = self.limits.map_frame
        return [
            self._fault("wrong_frame", name, f"frame_id is '{part.frame_id}', must be '{wanted}'")
            for name, part in parts.items()
            if part.frame_id != wanted
        ]

    def _not_finite(self, frame: FrameInputs) -> list[Fault]:
        faults = []
        for name, part in ((ODOMETRY, frame.odometry), (STATUS, frame.status)):
            for entry in fields(part):
                value = getattr(part, entry.name)
                if isinstance(value, float) and not math.isfinite(value):
                    faults.append(self._fault("not_finite", name, f"{entry.name} is {value}, must be finite"))
        bad = frame.objects.problem or _bad_object(frame.objects.objects)
        return faults + ([self._fault("not_finite", OBJECTS, bad)] if bad else [])

    def _contradictions(self, frame: FrameInputs, route: Route | None) -> list[Fault]:
        o, limits = frame.odometry, self.limits
        speed = math.hypot(o.speed, o.lateral_speed, o.vertical_speed)
        distance = 0.0 if route is None else distance_to(route, o.x, o.y)
        mismatch = abs(speed - frame.status.speed)
        checks = (
            (ODOMETRY, "quaternion's norm is off 1 by", abs(o.quaternion_norm - 1.0), QUATERNION_LIMIT),
            (ODOMETRY, "speed in m/s is", speed, limits.speed_mps),
            (STATUS, "velocity differs from odometry in m/s by", mismatch, limits.speed_mismatch_mps),
            (ROUTE, "ego is off the route in m by", distance, limits.route_distance_m),
        )
        return [
            self._fault("contradictory", name, f"{what} {value:.3f}, limit {limit:g}")
            for name, what, value, limit in checks
            if value > limit
        ]

    def _gap(self, frame: FrameInputs, previous: FrameInputs | None) -> list[Fault]:
        if previous is None or self.is_new_episode(frame, previous):
            return []
        gap = (frame.stamp_ns - previous.stamp_ns) * 1e-9
        if gap <= self.limits.gap_s + 1e-6:  # stamps are truncated to nanoseconds
            return []
        text = f"{gap:.3f} s of simulated time since the previous frame, limit {self.limits.gap_s:g} s"
        return [self._fault("frame_gap", ODOMETRY, text)]


def has_place(frame: FrameInputs) -> bool:
    """Whether odometry says where the ego is; what comes after a frame that does not is compared with one before it."""
    return math.isfinite(frame.odometry.x + frame.odometry.y)


def _age(received_s: Mapping[str, float], name: str, now_s: float) -> float:
    return now_s - received_s[name] if name in received_s else math.inf


def _bad_object(objects: Objects) -> str | None:
    """Say what is wrong with the first object that has a value no road user can have."""
    o = objects
    values = np.stack([o.x, o.y, o.yaw, o.vx, o.vy, o.length, o.width, o.yaw_rate])
    finite = np.isfinite(values).all(axis=0)
    if not finite.all():
        return f"object {objects.id[int(np.argmin(finite))]} has a value that is not finite"
    sized = ((values[5:7] > 0.0) & (values[5:7] <= MAX_OBJECT_M)).all(axis=0)
    if not sized.all():
        i = int(np.argmin(sized))
        size = f"{values[5, i]:g} m by {values[6, i]:g} m"
        return f"object {objects.id[i]} is {size}, must be larger than 0 and at most {MAX_OBJECT_M:g} m"
    speed = np.hypot(values[3], values[4])
    if (speed > MAX_OBJECT_MPS).any():
        i = int(np.argmax(speed))
        return f"object {objects.id[i]} moves at {speed[i]:g} m/s, at most {MAX_OBJECT_MPS:g} m/s are believed"
    return None
