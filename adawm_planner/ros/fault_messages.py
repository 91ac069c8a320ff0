"""The vehicle's motion in, the bridge's messages of one frame out, sound or with a value that cannot be right.

A straight road along x; another vehicle drives ahead at a constant speed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from carla_msgs.msg import CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import Object, ObjectArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from shape_msgs.msg import SolidPrimitive

from adawm_planner.data_types import EgoState, VehicleInfo
from adawm_planner.dims import FRAME_S
from adawm_planner.faults.table import CLOCK, PROPOSALS, STREAMS, WORLD, Fault, Kind
from adawm_planner.ros import convert
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE

ROUTE_M = 2000.0
AHEAD_M = 60.0
"""Distance of the vehicle ahead at the fault [m]."""

JUMP_M, NEAR_M, JUMP_MPS = 50.0, 8.0, 10.0
"""Jumps: of the ego and the route to the left, of the vehicle ahead to this distance, of the status's speed."""

AXLES_M = 100.0
"""Added to the distance of the axles: no vehicle is that long [m]."""

Edit = Callable[[Any], Any]


def frame_messages(number: int, stamp_ns: int, ego: EgoState, ahead_x: float, ahead_mps: float) -> dict[str, Any]:
    """Return one frame's message of each topic in STREAMS."""
    header = convert.make_header(stamp_ns, "map")
    odometry = Odometry(header=header, child_frame_id="ego_vehicle")
    odometry.pose.pose.position.x, odometry.pose.pose.position.y = ego.x, ego.y
    odometry.pose.pose.orientation = convert.quaternion_from_yaw(ego.yaw)
    odometry.twist.twist.linear.x, odometry.twist.twist.linear.y = ego.speed, ego.lateral_speed
    odometry.twist.twist.angular.z = ego.yaw_rate
    status = CarlaEgoVehicleStatus(header=header, velocity=abs(ego.speed))
    status.acceleration.linear.x = ego.acceleration * math.cos(ego.yaw)
    status.acceleration.linear.y = ego.acceleration * math.sin(ego.yaw)
    other = Object(header=header, id=7, shape=SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[4.5, 1.8, 1.5]))
    other.pose.position.x, other.twist.linear.x = ahead_x, ahead_mps
    other.pose.orientation = convert.quaternion_from_yaw(0.0)
    found = {
        CLOCK: Clock(clock=convert.ns_to_stamp(stamp_ns)),
        WORLD: CarlaStatus(frame=number, fixed_delta_seconds=FRAME_S, synchronous_mode=False),
        STATUS: status,
        ODOMETRY: odometry,
        OBJECTS: ObjectArray(header=header, objects=[other]),
    }
    return {topic: found[topic] for topic in STREAMS}


def route_message() -> Path:
    """Return the road's middle as a path."""
    path = Path(header=convert.make_header(0, "map"))
    for x in range(0, int(ROUTE_M) + 1, 2):
        pose = PoseStamped()
        pose.pose.position.x = float(x)
        path.poses.append(pose)
    return path


def vehicle_message(vehicle: VehicleInfo) -> CarlaEgoVehicleInfo:
    """Describe the ego."""
    half = 0.5 * vehicle.wheelbase
    places = ((half, vehicle.max_steer), (half, vehicle.max_steer), (-half, 0.0), (-half, 0.0))
    wheels = [CarlaEgoVehicleInfoWheel(max_steer_angle=angle) for _, angle in places]
    for wheel, (x, _) in zip(wheels, places, strict=True):
        wheel.position.x = x
    return CarlaEgoVehicleInfo(id=1, type="fault campaign", wheels=wheels, mass=vehicle.mass)


def edit_of(fault: Fault, topic: str) -> Edit:
    """Return what the fault changes in each of a topic's messages; the original is left as it is."""
    kept: list[Any] = []

    def edited(message: Any) -> Any:
        changed = copy.deepcopy(message)
        if fault.kind in (Kind.TIME_FORWARD, Kind.TIME_BACKWARD):
            _shift(changed, fault.amount if fault.kind is Kind.TIME_FORWARD else -fault.amount)
        elif fault.kind is Kind.WRONG_FRAME:
            changed.header.frame_id = "base_link"
        elif fault.kind is Kind.STUCK:
            kept.append(changed.pose.pose.position)
            changed.pose.pose.position = kept[0]
        elif fault.kind is Kind.PAUSED:
            changed.synchronous_mode, changed.synchronous_mode_running = True, False
        else:
            _spoil(topic, changed, fault.kind)
        return changed

    return edited


def _shift(message: Any, seconds: float) -> None:
    """Move a message's stamp; the world's status has none."""
    shift_ns = round(seconds * 1e9)
    if isinstance(message, Clock):
        message.clock = convert.ns_to_stamp(convert.stamp_to_ns(message.clock) + shift_ns)
    elif not isinstance(message, CarlaStatus):
        message.header.stamp = convert.ns_to_stamp(convert.stamp_to_ns(message.header.stamp) + shift_ns)


def _spoil(topic: str, message: Any, kind: Kind) -> None:
    """Write a wrong place or speed, or no number, into a message."""
    wrong = kind is Kind.NAN
    if topic == ODOMETRY:
        message.pose.pose.position.y = math.nan if wrong else message.pose.pose.position.y + JUMP_M
    elif topic == STATUS:
        message.velocity = math.nan if wrong else message.velocity + JUMP_MPS
    elif topic == OBJECTS:
        position = message.objects[0].pose.position
        position.x = math.nan if wrong else position.x - AHEAD_M + NEAR_M
    elif topic == ROUTE:
        for pose in message.poses:
            pose.pose.position.y = math.nan if wrong else JUMP_M
    elif topic == VEHICLE:
        message.wheels[0].position.x = math.nan if wrong else message.wheels[0].position.x + 2.0 * AXLES_M
    elif topic == PROPOSALS and wrong:
        message.throttle = math.nan
    else:
        raise ValueError(f"{topic} has no value to spoil with {kind.value}")
