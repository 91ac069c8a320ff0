"""Messages in, typed values out, and back; nothing here decides anything.

Signs, units and frames are carla_ros_bridge's. Values are taken as they come (NaN included): judging them
is the input monitor's work.
"""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleStatus, CarlaStatus
from geometry_msgs.msg import PoseStamped, Quaternion
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Image
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header

from adawm_planner.angles import yaw_of
from adawm_planner.data_types import (
    LEAST_WHEELBASE_M,
    MOST_STEER_RAD,
    MOST_WHEELBASE_M,
    Command,
    Float32,
    Float64,
    Objects,
    Route,
    UInt8,
    VehicleInfo,
)
from adawm_planner.observation.route import check_count, route_from_points
from adawm_planner.ros.cdr import CdrReader, RawObject
from adawm_planner.runtime.frame_inputs import ObjectsInput, OdometryInput, StatusInput
from adawm_planner.runtime.input_monitor import MAX_OBJECTS, QUATERNION_LIMIT
from adawm_planner.runtime.watchdog import WorldClock

UNKNOWN_SIZE_M = 0.5
"""Edge given to an object whose bounding box is 0 [m]; CARLA has two-wheelers like that."""


OFF_CENTRE = 0.25
"""Most by which the axles' middle may be off the point whose place is told, in wheelbases; a rear axle is 0.5 off."""


def stamp_to_ns(stamp: Time) -> int:
    """Return a message stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a message stamp."""
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def expiry_stamp(unix_s: int | None) -> Time:
    """Return when a bundle expires, 0 for never; a manifest may say later than the message can."""
    return Time(sec=min(unix_s or 0, 2**31 - 1))


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def yaw_from_quaternion(q: Quaternion) -> float:
    """Return the heading [rad] of an orientation given as fixed-axis XYZ (Rz Ry Rx)."""
    return yaw_of(q.x, q.y, q.z, q.w)


def quaternion_from_yaw(yaw: float) -> Quaternion:
    """Return the orientation of a level body heading `yaw` [rad]."""
    return Quaternion(x=0.0, y=0.0, z=math.sin(0.5 * yaw), w=math.cos(0.5 * yaw))


def quaternion_from_rpy(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Return the orientation of fixed-axis roll, pitch, yaw [rad] (Rz Ry Rx)."""
    cr, sr = math.cos(0.5 * roll), math.sin(0.5 * roll)
    cp, sp = math.cos(0.5 * pitch), math.sin(0.5 * pitch)
    cy, sy = math.cos(0.5 * yaw), math.sin(0.5 * yaw)
    return Quaternion(
        x=sr * cp * cy - cr * sp * sy,
        y=cr * sp * cy + sr * cp * sy,
        z=cr * cp * sy - sr * sp * cy,
        w=cr * cp * cy + sr * sp * sy,
    )


def odometry_input(message: Odometry) -> OdometryInput:
    """Take the ego's motion: pose in the map frame, twist in the body frame."""
    pose, twist = message.pose.pose, message.twist.twist
    q = pose.orientation
    return OdometryInput(
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame_id=message.header.frame_id,
        x=pose.position.x,
        y=pose.position.y,
        yaw=yaw_from_quaternion(q),
        quaternion_norm=math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w),
        speed=twist.linear.x,
        lateral_speed=twist.linear.y,
        vertical_speed=twist.linear.z,
        yaw_rate=twist.angular.z,
    )


def status_input(message: CarlaEgoVehicleStatus) -> StatusInput:
    """Take the unsigned speed and the acceleration in map axes."""
    linear = message.acceleration.linear
    return StatusInput(
        stamp_to_ns(message.header.stamp), message.header.frame_id, float(message.velocity), linear.x, linear.y
    )


def objects_input(raw: bytes, ego_id: int | None = None) -> ObjectsInput:
    """Take the road users of a serialized derived_object_msgs/ObjectArray, 8 us each.

    More than MAX_OBJECTS are none, and a problem; so is an orientation that is no rotation.

    Raises:
        ValueError: the message is damaged.
    """
    reader = CdrReader(raw)
    stamp_ns, frame_id = reader.header()
    count = reader.count()
    if count > MAX_OBJECTS:
        problem = f"{count} objects, at most {MAX_OBJECTS} are taken; leave out those that are far away"
        return ObjectsInput(stamp_ns, frame_id, _columns([]), problem)
    found = reader.objects(count)
    reader.end(empty=sum(not o.dimensions for o in found))
    return ObjectsInput(stamp_ns, frame_id, _columns(found), _turned_wrongly(found), ego_id)


def _turned_wrongly(found: list[RawObject]) -> str:
    """Say which object's orientation is no rotation, so that its heading means nothing; empty: none."""
    for o in found:
        norm = math.hypot(*o.orientation)
        if abs(norm - 1.0) > QUATERNION_LIMIT:
            return f"object {o.id} has a quaternion of norm {norm:.3g}, must be within {QUATERNION_LIMIT:g} of 1"
    return ""


def _columns(found: list[RawObject]) -> Objects:
    rows: Float64 = np.array([_object_row(o) for o in found], dtype=np.float64)
    return Objects(np.array([o.id for o in found], dtype=np.int64), *rows.reshape(len(found), 8).T)


def _object_row(o: RawObject) -> tuple[float, ...]:
    """Return x, y, yaw, vx, vy, yaw_rate, length, width."""
    yaw = yaw_of(*o.orientation)
    return (*o.position[:2], yaw, *o.velocity[:2], o.yaw_rate, *_footprint(o.shape, o.dimensions))


def _footprint(shape: int, d: tuple[float, ...]) -> tuple[float, float]:
    """Length and width [m] of a shape; NaN when the message does not hold what its type needs."""
    if shape == SolidPrimitive.BOX and len(d) == 3:
        return d[0] or UNKNOWN_SIZE_M, d[1] or UNKNOWN_SIZE_M
    if shape == SolidPrimitive.CYLINDER and len(d) == 2:
        return 2.0 * d[1], 2.0 * d[1]
    if shape == SolidPrimitive.SPHERE and len(d) == 1:
        return 2.0 * d[0], 2.0 * d[0]
    return math.nan, math.nan


def route_from_path(raw: bytes) -> Route | None:
    """Take the route of a serialized nav_msgs/Path; None when it is empty, which is how a publisher withdraws it.

    MAX_POINTS take 4 ms, up to 13 ms where they are as dense as points that are dropped; a longer path is refused by
    its count alone.

    Raises:
        ValueError: the path has one distinct point only, too many, a value that is not finite, or another frame than
            map, or is damaged.
    """
    reader = CdrReader(raw)
    _, frame_id = reader.header()
    count = reader.count()
    if count == 0:
        return None
    if frame_id not in ("map", ""):
        raise ValueError(f"route is in frame {frame_id!r}, must be 'map'")
    check_count(count)
    points = reader.poses(count)
    reader.end()
    return route_from_points(points[:, 0], points[:, 1])


def vehicle_info(message: CarlaEgoVehicleInfo, length: float, width: float) -> VehicleInfo:
    """Take what the planner needs to know of its vehicle; the message does not tell `length` and `width` [m].

    Raises:
        ValueError: not four wheels, a value that is not positive, a max_steer above MOST_STEER_RAD, a wheelbase that
            no vehicle has, or none of this length, or an origin that is not the body's centre.
    """
    if len(message.wheels) != 4:
        raise ValueError(f"vehicle has {len(message.wheels)} wheels, needs 4 (FL, FR, RL, RR)")
    front = 0.5 * (message.wheels[0].position.x + message.wheels[1].position.x)
    rear = 0.5 * (message.wheels[2].position.x + message.wheels[3].position.x)
    values = {
        "max_steer": _decimal(message.wheels[0].max_steer_angle),
        "wheelbase": front - rear,
        "length": length,
        "width": width,
        "mass": _decimal(message.mass),
    }
    for name, value in values.items():
        if not (value > 0.0 and math.isfinite(value)):
            raise ValueError(f"vehicle's {name} is {value}, must be greater than 0")
    if values["max_steer"] > MOST_STEER_RAD:
        raise ValueError(
            f"vehicle's max_steer is {values['max_steer']} rad, must be at most {MOST_STEER_RAD}; in degrees?"
        )
    _check_wheelbase(values["wheelbase"], length)
    middle = 0.5 * (front + rear)
    if abs(middle) > OFF_CENTRE * values["wheelbase"]:
        raise ValueError(
            f"vehicle's axles have their middle {middle:g} m ahead of its origin, must be within "
            f"{OFF_CENTRE * values['wheelbase']:.2g} m: odometry has to tell the place of the body's centre; is it the "
            "rear axle's?"
        )
    return VehicleInfo(**values)


def _check_wheelbase(wheelbase: float, length: float) -> None:
    if not LEAST_WHEELBASE_M <= wheelbase <= MOST_WHEELBASE_M:
        raise ValueError(
            f"vehicle's wheelbase is {wheelbase:g} m, must be {LEAST_WHEELBASE_M:g} to {MOST_WHEELBASE_M:g}; are the "
            "wheels' places in centimetres?"
        )
    if wheelbase > length:
        raise ValueError(
            f"vehicle's wheelbase is {wheelbase:g} m, must be at most its length, vehicle.length_m, {length:g} m"
        )


def _decimal(value: float) -> float:
    """Return the shortest decimal a float32 field stands for: 0.61, not 0.6100000143051147."""
    return float(str(np.float32(value)))


def world_clock(message: CarlaStatus) -> WorldClock:
    """Take what the world says of its stepping."""
    return WorldClock(int(message.frame), bool(message.synchronous_mode), bool(message.synchronous_mode_running))


def control_message(command: Command, stamp_ns: int) -> CarlaEgoVehicleControl:
    """Return a command as the bridge takes it."""
    return CarlaEgoVehicleControl(
        header=make_header(stamp_ns, "map"),
        throttle=float(command.throttle),
        steer=float(command.steer),
        brake=float(command.brake),
        hand_brake=command.hand_brake,
        reverse=command.reverse,
    )


def command_from_control(message: CarlaEgoVehicleControl) -> Command:
    """Return the command a control message holds."""
    return Command(message.throttle, message.steer, message.brake, message.hand_brake, message.reverse)


def path_message(x: Float64, y: Float64, yaw: Float64, stamps_ns: list[int], frame_id: str = "map") -> Path:
    """Return poses (K,) [m, rad] with a stamp each; the path carries the first one's."""
    path = Path(header=make_header(stamps_ns[0], frame_id))
    for px, py, heading, stamp_ns in zip(x, y, yaw, stamps_ns, strict=True):
        pose = PoseStamped(header=make_header(stamp_ns, frame_id))
        pose.pose.position.x, pose.pose.position.y = float(px), float(py)
        pose.pose.orientation = quaternion_from_yaw(float(heading))
        path.poses.append(pose)
    return path


def image_message(picture: UInt8, stamp_ns: int, frame_id: str) -> Image:
    """Return a picture (H, W, 3), blue green red, as an Image."""
    height, width, channels = picture.shape
    if channels != 3 or picture.dtype != np.uint8:
        raise ValueError(f"picture is {picture.shape} {picture.dtype}, must be (H, W, 3) uint8")
    return Image(
        header=make_header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=3 * width,
        data=byte_array(picture.tobytes()),
    )


def byte_array(data: bytes) -> Any:
    """Return bytes as the array type message fields take without checking every element."""
    return array.array("B", data)


def float_array(values: Float32) -> Any:
    """Return numbers (N,) as the array type float32 fields take without checking every element."""
    return array.array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())
