"""World values in, carla_ros_bridge's messages out; nothing here publishes or decides.

Frames, signs and units are the real bridge's: poses in `map`, odometry twist in the body frame, objects in
map axes, steering positive to the right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from carla_msgs.msg import (
    CarlaActorInfo,
    CarlaActorList,
    CarlaCollisionEvent,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
    CarlaWorldInfo,
)
from derived_object_msgs.msg import Object, ObjectArray
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped, Vector3
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2, PointField
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Float32, Header
from visualization_msgs.msg import Marker, MarkerArray

from adawm_planner.data_types import Command, EgoState, Float64, Objects, Route, UInt8
from adawm_planner.data_types import Float32 as FloatArray
from adawm_planner.ros.convert import byte_array, quaternion_from_yaw
from adawm_planner.simulator.actors import EGO_BLUEPRINT, EGO_ID, Actor, Mount
from adawm_planner.simulator.lidar import OBJECT_HEIGHT_M
from adawm_planner.simulator.render import TopDownCamera
from adawm_planner.simulator.sensors import ObjectMotion, imu_acceleration, map_acceleration
from adawm_planner.simulator.vehicle import VehiclePreset

MAP = "map"
TRAFFIC_TYPE = "vehicle.sumo.passenger"
TRAFFIC_ROLE = "traffic"
WHEEL_RADIUS_M = 0.35
ROAD_COLOUR = (128.0 / 255.0, 64.0 / 255.0, 128.0 / 255.0, 0.8)
"""CityScapes' road, as in the real bridge's static markers."""


@dataclass(frozen=True)
class Tick:
    """What every message of one tick shares."""

    stamp: Time
    ego: EgoState
    objects: Objects
    motion: ObjectMotion
    yaw_acceleration: float  # rad/s2, of the ego

    def header(self, frame_id: str) -> Header:
        """A header with the tick's one stamp."""
        return Header(stamp=self.stamp, frame_id=frame_id)


def stamp_of(seconds: float) -> Time:
    """Simulated time as a stamp; cut to nanoseconds like the real bridge's, so 3.15 s may end in 149999999."""
    whole = int(seconds)
    return Time(sec=whole, nanosec=int((seconds - whole) * 1e9))


def status_message(frame: int, synchronous: bool, running: bool, period: float) -> CarlaStatus:
    """What the world says of its stepping; `period` in seconds."""
    return CarlaStatus(
        frame=frame, fixed_delta_seconds=period, synchronous_mode=synchronous, synchronous_mode_running=running
    )


def world_info_message(map_name: str, opendrive: str) -> CarlaWorldInfo:
    """Name and OpenDRIVE text of the map."""
    return CarlaWorldInfo(map_name=map_name, opendrive=opendrive)


def vehicle_info_message(preset: VehiclePreset, role: str) -> CarlaEgoVehicleInfo:
    """The ego's physics; wheels front left, front right, rear left, rear right, radius in centimetres.

    What the vehicle model does not have (engine, gear box, inertia) is zero.
    """
    info = CarlaEgoVehicleInfo(id=EGO_ID, type=EGO_BLUEPRINT, rolename=role, use_gear_autobox=True)
    info.mass, info.drag_coefficient = preset.mass, preset.drag
    torque = 0.25 * preset.brake_force * WHEEL_RADIUS_M
    for front, left in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
        info.wheels.append(
            CarlaEgoVehicleInfoWheel(
                tire_friction=preset.friction,
                max_steer_angle=preset.max_steer if front > 0.0 else 0.0,
                radius=100.0 * WHEEL_RADIUS_M,
                max_brake_torque=torque,
                max_handbrake_torque=0.0 if front > 0.0 else 2.0 * torque,
                position=Vector3(x=0.5 * front * preset.wheelbase, y=0.45 * left * preset.width, z=WHEEL_RADIUS_M),
            )
        )
    return info


def vehicle_status_message(tick: Tick, applied: Command) -> CarlaEgoVehicleStatus:
    """Unsigned speed, acceleration in map axes, orientation, and the control that reached the actuators."""
    ego = tick.ego
    status = CarlaEgoVehicleStatus(header=tick.header(MAP), velocity=abs(ego.speed))
    status.acceleration.linear.x, status.acceleration.linear.y = map_acceleration(ego)
    status.orientation = quaternion_from_yaw(ego.yaw)
    status.control = CarlaEgoVehicleControl(
        throttle=float(applied.throttle),
        steer=float(applied.steer),
        brake=float(applied.brake),
        hand_brake=applied.hand_brake,
        reverse=applied.reverse,
        gear=-1 if applied.reverse else 1,
    )
    return status


def odometry_message(tick: Tick, role: str) -> Odometry:
    """Pose in the map, twist in the body frame; covariances are zero."""
    ego = tick.ego
    odometry = Odometry(header=tick.header(MAP), child_frame_id=role)
    _set_pose(odometry.pose.pose, ego.x, ego.y, 0.0, ego.yaw)
    linear = odometry.twist.twist.linear
    linear.x, linear.y = ego.speed, ego.lateral_speed
    odometry.twist.twist.angular.z = ego.yaw_rate
    return odometry


def speedometer_message(ego: EgoState) -> Float32:
    """Signed speed along the body's x axis [m/s]."""
    return Float32(data=ego.speed)


class ObjectMessages:
    """Makes object lists; messages of objects seen before are reused, because making them anew is slow."""

    def __init__(self) -> None:
        self._made: dict[int, Object] = {}

    def array(self, tick: Tick, ego_size: tuple[float, float] | None = None, ego_age: int = 0) -> ObjectArray:
        """All other vehicles in map axes; with `ego_size` (length, width [m]) the ego as well, last."""
        header, o, m = tick.header(MAP), tick.objects, tick.motion
        columns = (o.id, o.x, o.y, o.yaw, o.vx, o.vy, o.yaw_rate, m.ax, m.ay, o.length, o.width, m.age)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        found = [self._update(header, *row) for row in rows]
        self._made = {one.id: one for one in found}
        if ego_size is not None:
            found.append(self._ego(tick, header, ego_size, ego_age))
        return ObjectArray(header=header, objects=found)

    def _ego(self, tick: Tick, header: Header, size: tuple[float, float], age: int) -> Object:
        ego = tick.ego
        cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
        vx, vy = ego.speed * cos - ego.lateral_speed * sin, ego.speed * sin + ego.lateral_speed * cos
        motion = (ego.x, ego.y, ego.yaw, vx, vy, ego.yaw_rate, *map_acceleration(ego))
        return self._update(header, EGO_ID, *motion, *size, age)

    def _update(
        self,
        header: Header,
        number: int,
        x: float,
        y: float,
        yaw: float,
        vx: float,
        vy: float,
        yaw_rate: float,
        ax: float,
        ay: float,
        length: float,
        width: float,
        age: int,
    ) -> Object:
        one = self._made.get(number) or _new_object(number, length, width)
        one.header = header
        _set_pose(one.pose, x, y, 0.0, yaw)
        one.twist.linear.x, one.twist.linear.y, one.twist.angular.z = vx, vy, yaw_rate
        one.accel.linear.x, one.accel.linear.y = ax, ay
        one.classification_age = age
        return one


def _new_object(number: int, length: float, width: float) -> Object:
    shape = SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[length, width, OBJECT_HEIGHT_M])
    return Object(
        id=number,
        object_classified=True,
        classification=Object.CLASSIFICATION_CAR,
        classification_certainty=255,
        shape=shape,
    )


def path_message(route: Route, stamp: Time) -> Path:
    """The route as lane-centre poses about every metre; each pose has an empty header, as in the original."""
    path = Path(header=Header(stamp=stamp, frame_id=MAP))
    for x, y, yaw in zip(route.x.tolist(), route.y.tolist(), route.yaw.tolist(), strict=True):
        pose = PoseStamped()
        _set_pose(pose.pose, x, y, 0.0, yaw)
        path.poses.append(pose)
    return path


def actor_list_message(actors: Iterable[Actor], traffic: Sequence[int]) -> CarlaActorList:
    """The ego, its sensors (pseudo ones are left out) and the traffic, by actor id."""
    found = [
        CarlaActorInfo(id=one.id, parent_id=one.parent, type=one.type, rolename=one.role)
        for one in actors
        if not one.pseudo
    ]
    found += [CarlaActorInfo(id=number, type=TRAFFIC_TYPE, rolename=TRAFFIC_ROLE) for number in traffic]
    return CarlaActorList(actors=found)


def marker_array(tick: Tick, ego_size: tuple[float, float], vanished: Iterable[int]) -> MarkerArray:
    """One cube per vehicle, ego green, others red; vehicles that left are deleted (the real bridge keeps them)."""
    o = tick.objects
    columns = (o.id, o.x, o.y, o.yaw, o.length, o.width)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    header, height = tick.header(MAP), OBJECT_HEIGHT_M
    red, green = (255.0, 0.0, 0.0, 0.3), (0.0, 255.0, 0.0, 0.3)
    markers = [_cube(header, i, x, y, yaw, length, width, height, red) for i, x, y, yaw, length, width in rows]
    ego = tick.ego
    markers.append(_cube(header, EGO_ID, ego.x, ego.y, ego.yaw, *ego_size, height, green))
    markers += [Marker(header=header, id=number, action=Marker.DELETE) for number in vanished]
    return MarkerArray(markers=markers)


def road_markers(samples: Float64, spacing: float, stamp: Time) -> MarkerArray:
    """Road surface as flat cubes: rows of x, y, z [m, map], yaw [rad], width [m], `spacing` [m] apart."""
    header = Header(stamp=stamp, frame_id=MAP)
    markers = []
    for number, (x, y, z, yaw, width) in enumerate(samples.tolist(), start=1):
        marker = _cube(header, number, x, y, yaw, spacing, width, height=0.1, colour=ROAD_COLOUR)
        marker.ns, marker.pose.position.z = "Roads", z - 0.05
        markers.append(marker)
    return MarkerArray(markers=markers)


def _cube(
    header: Header,
    number: int,
    x: float,
    y: float,
    yaw: float,
    length: float,
    width: float,
    height: float,
    colour: tuple[float, float, float, float],
) -> Marker:
    marker = Marker(header=header, id=number, type=Marker.CUBE)
    _set_pose(marker.pose, x, y, 0.5 * height, yaw)
    marker.scale.x, marker.scale.y, marker.scale.z = length, width, height
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = colour
    return marker


def imu_message(tick: Tick, frame_id: str, mount: Mount) -> Imu:
    """Angular rate and specific force (with gravity) in the sensor's frame, and how that lies in the map."""
    imu = Imu(header=tick.header(frame_id), orientation=quaternion_from_yaw(mount.on(tick.ego).yaw))
    imu.angular_velocity.z = tick.ego.yaw_rate
    ahead, left, _ = mount.position
    force = imu_acceleration(tick.ego, ahead, left, mount.yaw, tick.yaw_acceleration)
    imu.linear_acceleration = Vector3(x=force[0], y=force[1], z=force[2])
    return imu


def gnss_message(tick: Tick, frame_id: str, latitude: float, longitude: float, altitude: float) -> NavSatFix:
    """Degrees and metres; status and covariance stay at their defaults."""
    return NavSatFix(header=tick.header(frame_id), latitude=latitude, longitude=longitude, altitude=altitude)


def collision_message(tick: Tick, frame_id: str, other_id: int, impulse: tuple[float, float]) -> CarlaCollisionEvent:
    """`impulse` [N s, map axes] is sent with CARLA's sign of y, which the real bridge does not flip."""
    return CarlaCollisionEvent(
        header=tick.header(frame_id),
        other_actor_id=other_id,
        normal_impulse=Vector3(x=impulse[0], y=-impulse[1], z=0.0),
    )


def lane_invasion_message(tick: Tick, frame_id: str, markings: list[int]) -> CarlaLaneInvasionEvent:
    """The crossed markings as CARLA's raw enum."""
    return CarlaLaneInvasionEvent(header=tick.header(frame_id), crossed_lane_markings=markings)


_XYZI = [
    PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, name in enumerate(("x", "y", "z", "intensity"))
]


def cloud_message(header: Header, points: FloatArray) -> PointCloud2:
    """Points (P, 4) as x, y, z, intensity."""
    step = 4 * points.itemsize
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=_XYZI,
        is_bigendian=False,
        point_step=step,
        row_step=step * len(points),
        data=byte_array(points.tobytes()),
        is_dense=False,
    )


def picture_message(header: Header, picture: UInt8) -> Image:
    """A picture (H, W, 4), blue green red alpha, as the camera topic's bgra8."""
    height, width, channels = picture.shape
    return Image(
        header=header,
        height=height,
        width=width,
        encoding="bgra8",
        is_bigendian=0,
        step=channels * width,
        data=byte_array(picture.tobytes()),
    )


def camera_info_message(header: Header, camera: TopDownCamera) -> CameraInfo:
    """The pinhole model of a camera without distortion."""
    f, cx, cy = camera.focal, 0.5 * camera.width, 0.5 * camera.height
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def ego_transform(tick: Tick, role: str) -> TransformStamped:
    """The transform map -> ego."""
    transform = TransformStamped(header=tick.header(MAP), child_frame_id=role)
    transform.transform.translation.x, transform.transform.translation.y = tick.ego.x, tick.ego.y
    transform.transform.rotation = quaternion_from_yaw(tick.ego.yaw)
    return transform


def mount_transform(
    parent: str, child: str, position: tuple[float, float, float], rotation: tuple[float, float, float, float]
) -> TransformStamped:
    """The transform parent -> child of a sensor; the stamp is set at every tick."""
    transform = TransformStamped(header=Header(frame_id=parent), child_frame_id=child)
    t, q = transform.transform.translation, transform.transform.rotation
    t.x, t.y, t.z = position
    q.x, q.y, q.z, q.w = rotation
    return transform


def _set_pose(pose: Pose, x: float, y: float, z: float, yaw: float) -> None:
    position, orientation = pose.position, pose.orientation
    position.x, position.y, position.z = x, y, z
    orientation.z, orientation.w = math.sin(0.5 * yaw), math.cos(0.5 * yaw)
