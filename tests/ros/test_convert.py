"""Messages become typed values with the bridge's signs, units and frames, and back without loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from carla_msgs.msg import CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import Object, ObjectArray
from geometry_msgs.msg import PoseStamped, Quaternion
from nav_msgs.msg import Odometry, Path
from rclpy.serialization import serialize_message
from shape_msgs.msg import SolidPrimitive

from adawm_planner.data_types import Command
from adawm_planner.ros import convert
from adawm_planner.simulator.vehicle import LIMITS

pytestmark = pytest.mark.ros


def make_object(
    number: int, shape_type: int = SolidPrimitive.BOX, dimensions: tuple[float, ...] = (4.5, 1.8, 1.5)
) -> Any:
    one = Object(id=number)
    one.pose.position.x, one.pose.position.y = 10.0 + number, -3.0
    one.pose.orientation = convert.quaternion_from_yaw(2.5)
    one.twist.linear.x, one.twist.linear.y, one.twist.angular.z = -4.0, 3.0, 0.2
    one.shape = SolidPrimitive(type=shape_type, dimensions=list(dimensions))
    return one


def make_wheels(steer: float = 0.61, front: float = 1.4, rear: float = -1.4) -> list[Any]:
    wheels = [CarlaEgoVehicleInfoWheel(max_steer_angle=angle) for angle in (steer, steer, 0.0, 0.0)]
    for wheel, x in zip(wheels, (front, front, rear, rear), strict=True):
        wheel.position.x = x
    return wheels


@pytest.mark.parametrize("nanoseconds", [0, 3_149_999_999, 86_400_000_000_123])
def test_stamps_survive(nanoseconds: int) -> None:
    assert convert.stamp_to_ns(convert.ns_to_stamp(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("yaw", [-3.1415, -1.0, 0.0, 0.3, 1.5707963, 3.1])
def test_yaw_survives(yaw: float) -> None:
    assert convert.yaw_from_quaternion(convert.quaternion_from_yaw(yaw)) == pytest.approx(yaw, abs=1e-12)


def test_yaw_is_about_the_vertical_also_when_pitched() -> None:
    pitch, yaw = 0.2, 0.7
    cp, sp, cy, sy = math.cos(pitch / 2), math.sin(pitch / 2), math.cos(yaw / 2), math.sin(yaw / 2)
    q = Quaternion(x=-sp * sy, y=sp * cy, z=cp * sy, w=cp * cy)
    assert convert.yaw_from_quaternion(q) == pytest.approx(yaw, abs=1e-12)


def test_odometry_takes_pose_from_map_and_twist_from_body() -> None:
    message = Odometry(header=convert.make_header(2_050_000_000, "map"))
    message.pose.pose.position.x, message.pose.pose.position.y = 12.5, -7.25
    message.pose.pose.orientation = convert.quaternion_from_yaw(-2.0)
    message.twist.twist.linear.x, message.twist.twist.linear.y = 8.0, -0.1
    message.twist.twist.angular.z = 0.25
    part = convert.odometry_input(message)
    assert (part.stamp_ns, part.frame_id, part.x, part.y) == (2_050_000_000, "map", 12.5, -7.25)
    assert (part.speed, part.lateral_speed, part.yaw_rate) == (8.0, -0.1, 0.25)
    assert part.yaw == pytest.approx(-2.0) and part.quaternion_norm == pytest.approx(1.0)


def test_empty_odometry_has_no_rotation() -> None:
    message = Odometry()
    message.pose.pose.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
    assert convert.odometry_input(message).quaternion_norm == 0.0


def test_status_keeps_map_axes() -> None:
    message = CarlaEgoVehicleStatus(header=convert.make_header(1, "map"), velocity=3.5)
    message.acceleration.linear.x, message.acceleration.linear.y = 0.5, -1.5
    part = convert.status_input(message)
    assert (part.speed, part.acceleration_x, part.acceleration_y) == (3.5, 0.5, -1.5)


def test_objects_are_taken_with_the_id_of_the_ego() -> None:
    message = ObjectArray(header=convert.make_header(1, "map"), objects=[make_object(3), make_object(7)])
    part = convert.objects_input(serialize_message(message), ego_id=3)
    assert part.ego_id == 3 and part.objects.id.tolist() == [3, 7], "whether it is the ego its place tells"
    both = convert.objects_input(serialize_message(message)).objects
    assert both.id.tolist() == [3, 7] and both.x.tolist() == [13.0, 17.0]
    np.testing.assert_allclose(both.yaw, 2.5, atol=1e-12)
    assert both.vx.tolist() == [-4.0, -4.0] and both.yaw_rate.tolist() == [0.2, 0.2]
    assert both.length.tolist() == [4.5, 4.5] and both.width.tolist() == [1.8, 1.8]


@pytest.mark.parametrize(
    ("orientation", "problem"),
    [
        ((0.0, 0.0, 0.0, 0.0), "object 7 has a quaternion of norm 0, must be within 0.01 of 1"),
        ((0.0, 0.0, 0.5, 0.5), "object 7 has a quaternion of norm 0.707, must be within 0.01 of 1"),
        ((0.0, 0.0, 1e200, 0.0), "object 7 has a quaternion of norm 1e+200, must"),
        ((0.0, 0.0, 0.708, 0.707), ""),
        ((math.nan, 0.0, 0.0, 1.0), ""),  # which the input monitor finds in the heading
    ],
)
def test_an_object_whose_orientation_is_no_rotation_is_a_problem(orientation: tuple[float, ...], problem: str) -> None:
    message = ObjectArray(objects=[make_object(3), make_object(7)])
    q = message.objects[1].pose.orientation
    q.x, q.y, q.z, q.w = orientation
    found = convert.objects_input(serialize_message(message)).problem
    assert found.startswith(problem) and bool(found) == bool(problem)


def test_no_objects_are_empty_arrays() -> None:
    none = convert.objects_input(serialize_message(ObjectArray())).objects
    assert len(none) == 0 and none.x.shape == (0,) and none.width.dtype == np.float64


@pytest.mark.parametrize(
    ("shape_type", "dimensions", "expected"),
    [
        (SolidPrimitive.BOX, (4.5, 1.8, 1.5), (4.5, 1.8)),
        (SolidPrimitive.BOX, (1.9, 0.0, 1.5), (1.9, convert.UNKNOWN_SIZE_M)),
        (SolidPrimitive.CYLINDER, (1.8, 0.3), (0.6, 0.6)),
        (SolidPrimitive.SPHERE, (0.4,), (0.8, 0.8)),
    ],
)
def test_footprint_of_each_shape(shape_type: int, dimensions: tuple[float, ...], expected: tuple[float, ...]) -> None:
    message = ObjectArray(objects=[make_object(1, shape_type, dimensions)])
    got = convert.objects_input(serialize_message(message)).objects
    assert (got.length[0], got.width[0]) == expected


def test_shape_without_dimensions_is_nan_so_that_the_monitor_brakes() -> None:
    got = convert.objects_input(
        serialize_message(ObjectArray(objects=[make_object(1, SolidPrimitive.BOX, ())]))
    ).objects
    assert math.isnan(got.length[0]) and math.isnan(got.width[0])


def make_path(points: list[tuple[float, float]], frame_id: str = "map") -> Any:
    path = Path(header=convert.make_header(0, frame_id))
    for x, y in points:
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y = x, y
        path.poses.append(pose)
    return path


def test_route_from_path() -> None:
    route = convert.route_from_path(serialize_message(make_path([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])))
    assert route is not None and route.length == 2.0 and route.x.tolist() == [0.0, 1.0, 1.0]


def test_empty_path_withdraws_the_route() -> None:
    assert convert.route_from_path(serialize_message(make_path([]))) is None


@pytest.mark.parametrize(
    ("points", "frame_id", "reason"),
    [
        ([(0.0, 0.0)], "map", "at least 2"),
        ([(0.0, 0.0), (math.nan, 1.0)], "map", "finite"),
        ([(0.0, 0.0), (1.0, 0.0)], "odom", "odom"),
    ],
)
def test_bad_path_is_refused_with_the_reason(points: list[tuple[float, float]], frame_id: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert.route_from_path(serialize_message(make_path(points, frame_id)))


def test_vehicle_info_sheds_single_precision_noise() -> None:
    message = CarlaEgoVehicleInfo(wheels=make_wheels(), mass=1600.1)
    info = convert.vehicle_info(message, 4.7, 1.85)
    assert (info.max_steer, info.wheelbase, info.mass, info.length, info.width) == (0.61, 2.8, 1600.1, 4.7, 1.85)


@pytest.mark.parametrize(
    ("wheels", "mass", "name"),
    [
        (make_wheels()[:2], 1600.0, "wheels"),
        (make_wheels(steer=0.0), 1600.0, "max_steer"),
        (make_wheels(steer=math.nan), 1600.0, "max_steer"),
        (make_wheels(steer=70.0), 1600.0, "max_steer is 70.0 rad, must be at most 1.5"),
        (make_wheels(front=-2.0), 1600.0, "wheelbase"),
        (make_wheels(front=140.0, rear=-140.0), 1600.0, "wheelbase is 280 m, must be 0.2 to 20; .* in centimetres"),
        (make_wheels(front=0.05, rear=-0.05), 1600.0, "wheelbase is 0.1 m, must be 0.2 to 20"),
        (make_wheels(front=2.5, rear=-2.5), 1600.0, "wheelbase is 5 m, must be at most its length, .*length_m, 4.7 m"),
        (
            make_wheels(front=2.8, rear=0.0),
            1600.0,
            "middle 1.4 m ahead of its origin, must be within 0.7 m: .* rear axle",
        ),
        (make_wheels(front=0.0, rear=-2.8), 1600.0, "middle -1.4 m ahead of its origin"),
        (make_wheels(), 0.0, "mass"),
    ],
)
def test_impossible_vehicle_is_refused_by_name(wheels: list[Any], mass: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        convert.vehicle_info(CarlaEgoVehicleInfo(wheels=wheels, mass=mass), 4.7, 1.85)


def test_the_axles_need_not_lie_evenly_around_the_bodys_centre() -> None:
    info = CarlaEgoVehicleInfo(wheels=make_wheels(front=1.9, rear=-1.1), mass=1600.0)
    assert convert.vehicle_info(info, 4.7, 1.85).wheelbase == 3.0


@pytest.mark.parametrize("wheelbase", LIMITS["wheelbase"])
def test_any_wheelbase_of_a_preset_is_one_that_the_planner_takes(wheelbase: float) -> None:
    info = CarlaEgoVehicleInfo(wheels=make_wheels(front=0.5 * wheelbase, rear=-0.5 * wheelbase), mass=1600.0)
    assert convert.vehicle_info(info, 20.0, 1.85).wheelbase == wheelbase


def test_the_largest_steering_angle_of_a_preset_is_one_that_the_planner_takes() -> None:
    info = CarlaEgoVehicleInfo(wheels=make_wheels(steer=LIMITS["max_steer"][1]), mass=1600.0)
    assert convert.vehicle_info(info, 4.7, 1.85).max_steer == LIMITS["max_steer"][1]


def test_world_clock_knows_a_pause() -> None:
    playing = CarlaStatus(frame=9, synchronous_mode=True, synchronous_mode_running=True)
    paused = CarlaStatus(frame=9, synchronous_mode=True, synchronous_mode_running=False)
    free = CarlaStatus(frame=9, synchronous_mode=False, synchronous_mode_running=False)
    assert [convert.world_clock(message).paused for message in (playing, paused, free)] == [False, True, False]


def test_command_survives() -> None:
    command = Command(throttle=0.25, steer=-0.5, brake=0.75, hand_brake=True, reverse=True)
    message = convert.control_message(command, 1_500_000_000)
    assert convert.command_from_control(message) == command
    assert message.header.frame_id == "map" and message.header.stamp.nanosec == 500_000_000
    assert not message.manual_gear_shift


def test_path_message_has_a_stamp_per_pose() -> None:
    message = convert.path_message(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.0, 0.5]), [10, 20])
    assert [convert.stamp_to_ns(pose.header.stamp) for pose in message.poses] == [10, 20]
    assert message.poses[1].pose.position.y == 4.0 and message.header.frame_id == "map"
    assert convert.yaw_from_quaternion(message.poses[1].pose.orientation) == pytest.approx(0.5)


def test_image_message_holds_the_picture() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    message = convert.image_message(picture, 5, "ego_vehicle")
    assert (message.height, message.width, message.step, message.encoding) == (2, 3, 9, "bgr8")
    assert message.header.frame_id == "ego_vehicle" and message.header.stamp.nanosec == 5
    assert bytes(message.data) == picture.tobytes()
    with pytest.raises(ValueError, match="must be"):
        convert.image_message(picture[..., :2], 5, "ego_vehicle")


def test_an_expiry_beyond_what_a_stamp_holds_is_the_latest_one() -> None:
    assert [convert.expiry_stamp(each).sec for each in (None, 1_800_000_000, 2**62)] == [0, 1_800_000_000, 2**31 - 1]
