"""Whatever a message holds, it becomes a fault or an observation of finite values: never an exception, never NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from carla_msgs.msg import CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel, CarlaEgoVehicleStatus
from derived_object_msgs.msg import Object, ObjectArray
from geometry_msgs.msg import PoseStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry, Path
from rclpy.serialization import serialize_message

from adawm_planner.config.observation import ObservationConfig
from adawm_planner.data_types import Scene
from adawm_planner.observation.assemble import observe
from adawm_planner.ros import convert
from adawm_planner.runtime.frame_inputs import FrameInputs
from adawm_planner.runtime.input_monitor import InputLimits, InputMonitor
from tests.runtime.inputs import TOPICS, VEHICLE, straight_route

NASTY = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 1e9, -1.0, 0.0)
NUMBER = st.sampled_from(NASTY) | st.floats(-100.0, 100.0)
FRAME = st.sampled_from(["map", "map", "map", "", "odom", "/map", "x" * 300])
MONITOR = InputMonitor(InputLimits(), TOPICS)
SPEED = 5.0


def whole() -> tuple[Odometry, CarlaEgoVehicleStatus, ObjectArray]:
    """A frame without a fault, with one car ahead."""
    header = convert.make_header(50_000_000, "map")
    odometry = Odometry(header=header, child_frame_id="ego_vehicle")
    odometry.pose.pose.position.x = 10.0
    odometry.twist.twist.linear.x = SPEED
    car = Object(id=7)
    car.pose.position.x, car.shape.type, car.shape.dimensions = 30.0, 1, [4.5, 1.8, 1.5]
    return odometry, CarlaEgoVehicleStatus(header=header, velocity=SPEED), ObjectArray(header=header, objects=[car])


def fields(message: Any, path: str = "") -> list[str]:
    """Dotted names of all floating-point fields of a message, arrays and covariances left out."""
    found = []
    for name, kind in message.get_fields_and_field_types().items():
        if kind in ("double", "float"):
            found.append(f"{path}{name}")
        elif "/" in kind and "[" not in kind and "sequence" not in kind:
            found += fields(getattr(message, name), f"{path}{name}.")
    return found


def spoil(message: Any, name: str, value: float) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        message = getattr(message, parent)
    kind = message.get_fields_and_field_types()[last]
    setattr(message, last, single(value) if kind == "float" else value)


def single(value: float) -> float:
    """The nearest value that a float32 field takes."""
    limit = float(np.finfo(np.float32).max)
    return max(-limit, min(limit, value)) if math.isfinite(value) else value


def judge(odometry: Odometry, status: CarlaEgoVehicleStatus, objects: ObjectArray) -> int:
    """Number of faults; a frame without one must give an observation of finite values."""
    others = convert.objects_input(serialize_message(objects))
    parts = convert.odometry_input(odometry), convert.status_input(status), others
    frame = FrameInputs(parts[0].stamp_ns, 0.0, *parts)
    faults = MONITOR.check_frame(frame, straight_route(), VEHICLE, None)
    for fault in faults:
        assert fault.topic in TOPICS.values() and "\n" not in fault.line()
    if not faults:
        scene = Scene(frame.stamp_s, frame.ego(), frame.objects.objects, straight_route(), None, VEHICLE)
        assert np.isfinite(observe(scene, 0.0, ObservationConfig()).state).all()
    return len(faults)


def test_a_whole_frame_has_no_fault() -> None:
    assert judge(*whole()) == 0


MESSAGES = dict(zip(("odometry", "status", "object"), (Odometry(), CarlaEgoVehicleStatus(), Object()), strict=True))
SPOT = st.sampled_from([(part, name) for part, message in MESSAGES.items() for name in fields(message)])


@settings(max_examples=250)
@given(SPOT, NUMBER)
def test_any_number_in_any_field_is_a_fault_or_harmless(spot: tuple[str, str], value: float) -> None:
    odometry, status, objects = whole()
    part, name = spot
    spoil({"odometry": odometry, "status": status, "object": objects.objects[0]}[part], name, value)
    judge(odometry, status, objects)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "spot",
    [
        ("odometry", "pose.pose.position.x"),
        ("odometry", "pose.pose.orientation.w"),
        ("odometry", "twist.twist.linear.x"),
        ("odometry", "twist.twist.angular.z"),
        ("status", "velocity"),
        ("status", "acceleration.linear.x"),
        ("object", "pose.position.y"),
        ("object", "twist.linear.x"),
    ],
    ids=lambda spot: ".".join(spot) if isinstance(spot, tuple) else "",
)
def test_a_value_that_is_used_and_not_finite_is_always_a_fault(spot: tuple[str, str], value: float) -> None:
    odometry, status, objects = whole()
    spoil({"odometry": odometry, "status": status, "object": objects.objects[0]}[spot[0]], spot[1], value)
    assert judge(odometry, status, objects) > 0


@settings(max_examples=60)
@given(FRAME, FRAME, FRAME)
def test_any_frame_but_map_is_a_fault(a: str, b: str, c: str) -> None:
    odometry, status, objects = whole()
    for message, frame in ((odometry, a), (status, b), (objects, c)):
        message.header = convert.make_header(50_000_000, frame)
    assert judge(odometry, status, objects) == sum(frame != "map" for frame in (a, b, c))


@settings(max_examples=60)
@given(st.integers(0, 5), st.lists(NUMBER, max_size=5))
def test_any_shape_is_a_fault_or_has_a_size(kind: int, dimensions: list[float]) -> None:
    odometry, status, objects = whole()
    objects.objects[0].shape.type, objects.objects[0].shape.dimensions = kind, dimensions[:3]
    judge(odometry, status, objects)


def test_a_crowd_is_seen_and_a_route_without_end_is_refused() -> None:
    odometry, status, objects = whole()
    objects.objects = objects.objects * 1000
    assert judge(odometry, status, objects) == 0
    objects.objects = [*objects.objects, objects.objects[0]]
    assert judge(odometry, status, objects) == 1
    path = Path(header=convert.make_header(0, "map"), poses=[PoseStamped()] * 20_001)
    with pytest.raises(ValueError, match="20001 points, at most 20000"):
        convert.route_from_path(serialize_message(path))


@settings(max_examples=80)
@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=6), FRAME)
def test_any_path_is_a_route_or_refused(points: list[tuple[float, float]], frame: str) -> None:
    path = Path(header=convert.make_header(0, frame))
    for x, y in points:
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y = x, y
        path.poses.append(pose)
    try:
        route = convert.route_from_path(serialize_message(path))
    except ValueError as error:
        assert "route" in str(error) and "\n" not in str(error)
    else:
        assert route is None or all(np.isfinite(values).all() for values in (route.x, route.y, route.yaw, route.s))


@settings(max_examples=80)
@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=6), NUMBER)
def test_any_vehicle_is_described_or_refused(wheels: list[tuple[float, float]], mass: float) -> None:
    message = CarlaEgoVehicleInfo(mass=single(mass))
    for angle, x in wheels:
        wheel = CarlaEgoVehicleInfoWheel(max_steer_angle=single(angle))
        wheel.position.x = x
        message.wheels.append(wheel)
    try:
        vehicle = convert.vehicle_info(message, 4.7, 1.85)
    except ValueError as error:
        assert "vehicle" in str(error)
    else:
        assert min(vehicle.max_steer, vehicle.wheelbase, vehicle.mass) > 0.0 and math.isfinite(vehicle.wheelbase)
