"""Poses, rates and header frames as they were heard in, findings out: wrong frames and mirrored axes.

Conventions are carla_ros_bridge's: `map` is right-handed, yaw and yaw rate are positive to the left (rad, rad/s),
odometry's linear twist is in the body frame, steer is positive to the right. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from adawm_planner.angles import wrap_angle
from adawm_planner.diagnosis.check import Check, fine, wrong

LEAST_RATE = 0.05
"""Yaw rate [rad/s] and steer [of full lock] below which a sample says nothing of a sign."""

LEAST_SAMPLES = 10
"""Samples that must speak before a sign is judged."""

LEAST_SPEED_MPS = 1.0
"""Speed below which a direction of travel is not judged [m/s]."""

LEAST_WAY_M = 2.0
"""Distance from the first place without which a pose that trembles is no motion [m]."""

LARGEST_STEP_S = 0.5
"""Time between two samples that may be compared [s]."""

POSE_M, HEADING = 0.5, 0.1
"""Difference of two sources' positions [m] and headings [rad] that is borne."""

TWIST_SHARE, TWIST_MPS = 0.2, 0.3
"""Difference of the velocity told and the one driven that is borne: share of the speed, plus m/s."""

DEGREES_RATIO = 10.0
"""Ratio of two yaw rates above which one must be in degrees; the exact one is 57.3."""


@dataclass(frozen=True)
class Header:
    """Frames that one topic's messages named."""

    topic: str
    frame: str
    child: str = ""  # odometry's child_frame_id


@dataclass(frozen=True)
class Motion:
    """One odometry message."""

    stamp_s: float
    x: float  # m, map
    y: float  # m, map
    yaw: float  # rad
    vx: float  # m/s, twist.linear.x as it came
    vy: float  # m/s
    yaw_rate: float  # rad/s, twist.angular.z as it came


@dataclass(frozen=True)
class Status:
    """One vehicle_status message."""

    stamp_s: float
    yaw: float  # rad
    steer: float  # -1..1 as applied, positive right
    speed: float  # m/s, unsigned
    reverse: bool = False


@dataclass(frozen=True)
class Transform:
    """One transform of /tf or /tf_static."""

    parent: str
    child: str
    stamp_s: float
    x: float  # m
    y: float  # m
    yaw: float  # rad


@dataclass(frozen=True)
class Heard:
    """All that was heard of the ego's motion and frames; stamps in simulated seconds."""

    role: str
    headers: Sequence[Header] = ()
    odometry: Sequence[Motion] = ()
    status: Sequence[Status] = ()
    imu: Sequence[tuple[float, float]] = ()  # stamp [s], angular_velocity.z [rad/s]
    transforms: Sequence[Transform] = ()


def judge_frames(heard: Heard) -> list[Check]:
    """Frames, agreement of the sources, and handedness; nothing where nothing was heard."""
    # Without a twist no sign can be judged, whatever curve is driven.
    return _headers(heard) + _tree(heard) + _agreement(heard) + (_unfilled(heard.odometry) or _handedness(heard))


def wanted_frame(topic: str, role: str) -> str:
    """The header frame that the interface asks for on a topic of the ego."""
    name = topic.removeprefix(f"/carla/{role}/")
    return f"{role}/{name}" if name in ("imu", "gnss", "collision", "lane_invasion") else "map"


def _headers(heard: Heard) -> list[Check]:
    found = []
    for one in dict.fromkeys(heard.headers):
        wanted = wanted_frame(one.topic, heard.role)
        if one.frame != wanted:
            found.append(wrong("frame_differs", one.topic, f"frame_id '{one.frame}'", f"frame_id '{wanted}'"))
        if one.child and one.child != heard.role:
            text = f"child_frame_id '{one.child}'"
            found.append(wrong("frame_differs", one.topic, text, f"child_frame_id '{heard.role}'"))
    return found


def _tree(heard: Heard) -> list[Check]:
    """Frames that no transform leads to."""
    known = {frame for one in heard.transforms for frame in (one.parent, one.child)}
    used = {frame: one.topic for one in heard.headers for frame in (one.frame, one.child) if frame}
    seen = f"tf has {', '.join(sorted(known)) or 'no frames'}"
    return [
        wrong("frame_not_in_tf", frame, seen, f"a transform, since {topic} uses it")
        for frame, topic in sorted(used.items())
        if frame not in known
    ]


def _agreement(heard: Heard) -> list[Check]:
    """Poses of different sources at equal stamps, and the twist against the way that was driven."""
    places = {round(one.stamp_s, 4): one for one in heard.odometry}
    found = []
    pairs = [
        (places[round(one.stamp_s, 4)], one)
        for one in heard.transforms
        if (one.parent, one.child) == ("map", heard.role) and round(one.stamp_s, 4) in places
    ]
    if pairs:
        apart = median(math.hypot(a.x - b.x, a.y - b.y) for a, b in pairs)
        turned = median(abs(turn(a.yaw, b.yaw)) for a, b in pairs)
        if apart > POSE_M or turned > HEADING:
            text = f"{apart:.2f} m and {turned:.2f} rad apart (median of {len(pairs)})"
            found.append(wrong("pose_differs", "/tf, odometry", text, f"at most {POSE_M} m and {HEADING} rad"))
    turns = [
        abs(turn(places[round(one.stamp_s, 4)].yaw, one.yaw)) for one in heard.status if round(one.stamp_s, 4) in places
    ]
    if turns and median(turns) > HEADING:
        text = f"{median(turns):.2f} rad apart (median of {len(turns)})"
        found.append(wrong("heading_differs", "vehicle_status, odometry", text, f"at most {HEADING} rad"))
    return found + _twist(heard.odometry)


def _unfilled(odometry: Sequence[Motion]) -> list[Check]:
    """Parts of the twist that are exactly 0 in every message though the pose is driven, or turned while driven."""
    steps = [(a, b) for a, b in _steps(odometry) if _driven_mps(a, b) >= LEAST_SPEED_MPS]
    if len(steps) < LEAST_SAMPLES or _way_m(odometry) < LEAST_WAY_M:
        return []
    found = []
    if not any(one.vx or one.vy for one in odometry):
        speed = median(_driven_mps(a, b) for a, b in steps)
        found.append(wrong("twist_not_filled", "odometry", f"linear twist is 0 at {speed:.1f} m/s", "the speed driven"))
    rates = [abs(turn(a.yaw, b.yaw)) / (b.stamp_s - a.stamp_s) for a, b in steps]
    turning = [rate for rate in rates if rate >= LEAST_RATE]
    if len(turning) >= LEAST_SAMPLES and not any(one.yaw_rate for one in odometry):
        text = f"angular twist is 0 while the heading turns by {median(turning):.2f} rad/s"
        found.append(wrong("twist_not_filled", "odometry", text, "the yaw rate driven"))
    return found


def _twist(odometry: Sequence[Motion]) -> list[Check]:
    """Whether the pose moves as the twist says, read in the body's axes; one that is not filled says nothing."""
    in_body, in_map, speeds = [], [], []
    moves = _way_m(odometry) >= LEAST_WAY_M and any(one.vx or one.vy for one in odometry)
    for a, b in _steps(odometry):
        dt, speed = b.stamp_s - a.stamp_s, math.hypot(b.vx, b.vy)
        if max(speed, _driven_mps(a, b) if moves else 0.0) < LEAST_SPEED_MPS:
            continue
        x, y = (b.x - a.x) / dt, (b.y - a.y) / dt
        yaw = a.yaw + 0.5 * turn(a.yaw, b.yaw)
        vx, vy = 0.5 * (a.vx + b.vx), 0.5 * (a.vy + b.vy)
        cos, sin = math.cos(yaw), math.sin(yaw)
        in_body.append(math.hypot(x - (vx * cos - vy * sin), y - (vx * sin + vy * cos)))
        in_map.append(math.hypot(x - vx, y - vy))
        speeds.append(speed)
    if len(speeds) < LEAST_SAMPLES:
        return []
    error, limit = median(in_body), TWIST_SHARE * median(speeds) + TWIST_MPS
    if error <= limit:
        return []
    hint = ", 0 when read in map axes" if median(in_map) < 0.5 * error else ""
    text = f"{error:.1f} m/s off the way that is driven at {median(speeds):.1f} m/s{hint}"
    return [wrong("twist_in_map_axes", "odometry", text, f"at most {limit:.1f} m/s")]


def _handedness(heard: Heard) -> list[Check]:
    """Signs of everything that turns, against each other."""
    if not heard.odometry:
        return []
    told = {round(one.stamp_s, 4): one.yaw_rate for one in heard.odometry}
    # The heading's own rate lies between two stamps, so it is compared with the mean of the two told there.
    driven = [
        (0.5 * (a.yaw_rate + b.yaw_rate), turn(a.yaw, b.yaw) / (b.stamp_s - a.stamp_s))
        for a, b in _steps(heard.odometry)
    ]
    imu = [(rate, told[round(stamp, 4)]) for stamp, rate in heard.imu if round(stamp, 4) in told]
    steer = [
        (-one.steer, told[round(one.stamp_s, 4)])
        for one in heard.status
        if one.speed >= LEAST_SPEED_MPS and not one.reverse and round(one.stamp_s, 4) in told
    ]
    found = _signs("yaw_mirrored", "odometry", driven, "yaw turns", "told yaw rate", True)
    found += _signs("imu_mirrored", "imu, odometry", imu, "odometry turns", "the IMU's yaw rate", True)
    found += _signs("steer_mirrored", "vehicle_status, odometry", steer, "odometry turns", "the steering", False)
    return found


def _signs(
    rule: str, subject: str, pairs: Sequence[tuple[float, float]], turning: str, cause: str, rates: bool
) -> list[Check]:
    """Judge the sign of pairs (cause, turning), both left positive; `rates`: both in rad/s."""
    loud = [(a, b) for a, b in pairs if abs(a) >= LEAST_RATE and abs(b) >= LEAST_RATE]
    if len(loud) < LEAST_SAMPLES:
        name = rule.removesuffix("_mirrored")
        return [fine(subject, f"sign of {name} not judged: {len(loud)} of {LEAST_SAMPLES} samples turn; drive a curve")]
    agreement = sum(a * b for a, b in loud) / sum(abs(a * b) for a, b in loud)
    if agreement < -0.5:
        text = f"{turning} against {cause} in {len(loud)} samples (agreement {agreement:+.2f})"
        return [wrong(rule, subject, text, "the same sign, +1")]
    ratio = median(max(abs(a / b), abs(b / a)) for a, b in loud)
    if rates and ratio > DEGREES_RATIO:
        return [wrong("yaw_rate_unit", subject, f"rates {ratio:.1f} times apart", "equal, in rad/s")]
    return [fine(subject, f"{turning} with {cause} (agreement {agreement:+.2f})")]


def _steps(odometry: Sequence[Motion]) -> list[tuple[Motion, Motion]]:
    """Neighbours in time that may be compared; a jump in time is not a motion."""
    pairs = zip(odometry, odometry[1:], strict=False)
    return [(a, b) for a, b in pairs if 1e-6 < b.stamp_s - a.stamp_s <= LARGEST_STEP_S]


def _driven_mps(a: Motion, b: Motion) -> float:
    """Speed of the pose between two messages [m/s]."""
    return math.hypot(b.x - a.x, b.y - a.y) / (b.stamp_s - a.stamp_s)


def _way_m(odometry: Sequence[Motion]) -> float:
    """The farthest that the pose came from where it began [m]."""
    return max((math.hypot(one.x - odometry[0].x, one.y - odometry[0].y) for one in odometry), default=0.0)


def turn(a: float, b: float) -> float:
    """The turn [rad] from heading `a` to `b`, in [-pi, pi)."""
    return wrap_angle(b - a)
