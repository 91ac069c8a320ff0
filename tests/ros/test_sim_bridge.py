"""The bridge as its clients see it: one process in lock-step, one command per frame, every topic and service."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import yaml

from tests.patience import HANG_S

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from carla_msgs.msg import CarlaActorList, CarlaControl, CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaWorldInfo
from carla_msgs.srv import DestroyObject, GetBlueprints, SpawnObject
from carla_waypoint_types.srv import GetActorWaypoint, GetWaypoint
from derived_object_msgs.msg import ObjectArray
from geometry_msgs.msg import Point, Pose, PoseStamped, Twist, Vector3
from nav_msgs.msg import Path
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Bool, Float32, String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from adawm_planner.paths import launch_dir
from adawm_planner.ros import qos
from adawm_planner.ros.bridge_parameters import PARAMETERS
from adawm_planner.ros.convert import stamp_to_ns, yaw_from_quaternion
from adawm_planner.ros.node_table import SIM_BRIDGE
from adawm_planner.ros.parameters import markdown
from adawm_planner.simulator.actors import EGO_ID
from tests.ros.bridge_client import EGO, BridgeClient, start_bridge

pytestmark = pytest.mark.ros
COMMAND_TIMEOUT_FRAMES = 2


@pytest.fixture(scope="module")
def client() -> Iterator[BridgeClient]:
    bridge = start_bridge(
        "task:=right_turn_moderate",
        "seed:=5000",
        "reset_at_end:=false",
        "synchronous_mode_wait_for_vehicle_control_command:=true",
        f"command_timeout:={0.05 * COMMAND_TIMEOUT_FRAMES}",
        "start_timeout:=60.0",
    )
    client = BridgeClient()
    try:
        assert client.spin_until(lambda: client.connected() and len(client.odometry) > 0), bridge.poll()
        yield client
    finally:
        client.close()
        bridge.terminate()
        output, _ = bridge.communicate(timeout=HANG_S)
    assert "Traceback" not in output, output
    assert bridge.returncode == 0, output


def heading(odometry: Any) -> float:
    return yaw_from_quaternion(odometry.pose.pose.orientation)


def last_pose(route: Path) -> tuple[float, float]:
    at = route.poses[-1].pose.position
    return at.x, at.y


def test_status_then_clock_then_data_with_one_stamp(client: BridgeClient) -> None:
    clock = client.listen(Clock, "/clock")
    data = [
        client.listen(ObjectArray, f"{EGO}/objects"),
        client.listen(ObjectArray, "/carla/objects"),
        client.listen(Imu, f"{EGO}/imu"),
        client.listen(NavSatFix, f"{EGO}/gnss"),
        client.vehicle_status,
        client.odometry,
    ]
    client.step()
    assert client.spin_until(lambda: min(map(len, [clock, *data])) > 0 or client.step() is None)
    odometry, _ = client.step()
    stamp = stamp_to_ns(odometry.header.stamp)
    assert client.spin_until(lambda: all(log.at(stamp) is not None for log in data))
    stamps = [stamp_to_ns(message.clock) for message in clock.messages]
    clock_sent = clock.sent[stamps.index(stamp)]
    assert client.status.sent[-1] <= clock_sent
    for log in data:
        index = log.at(stamp)
        assert index is not None and clock_sent <= log.sent[index]
    assert np.all(np.diff(stamps) > 0)


def test_late_subscribers_get_what_is_sent_once(client: BridgeClient) -> None:
    client.step()
    world_info = client.listen(CarlaWorldInfo, "/carla/world_info", qos.SENT_ONCE)
    vehicle_info = client.listen(CarlaEgoVehicleInfo, f"{EGO}/vehicle_info", qos.SENT_ONCE)
    opendrive = client.listen(String, "/carla/map", qos.SENT_ONCE)
    waypoints = client.listen(Path, f"{EGO}/waypoints", qos.ROUTE)
    static = client.listen(MarkerArray, "/carla/markers/static", qos.ROUTE)
    logs = (world_info, vehicle_info, opendrive, waypoints, static)
    assert client.spin_until(lambda: all(len(log) == 1 for log in logs))
    assert world_info.messages[0].opendrive == opendrive.messages[0].data
    assert "<OpenDRIVE" in opendrive.messages[0].data
    info = vehicle_info.messages[0]
    assert info.id == EGO_ID and info.rolename == "ego_vehicle" and len(info.wheels) == 4
    assert 0.3 < info.wheels[0].max_steer_angle < 1.3 and info.wheels[0].position.y > 0.0 > info.wheels[1].position.y
    steps = np.diff([(p.pose.position.x, p.pose.position.y) for p in waypoints.messages[0].poses], axis=0)
    assert np.all(np.abs(np.hypot(*steps.T) - 1.0) < 0.1)
    assert waypoints.messages[0].header.frame_id == "map"


@pytest.mark.parametrize(
    ("topic", "latched"),
    [
        ("/clock", False),
        ("/carla/status", False),
        ("/carla/world_info", True),
        ("/carla/map", True),
        ("/carla/objects", False),
        ("/carla/markers", False),
        ("/carla/traffic_lights/info", True),
        (f"{EGO}/odometry", False),
        (f"{EGO}/vehicle_status", False),
        (f"{EGO}/vehicle_info", True),
        (f"{EGO}/waypoints", True),
    ],
)
def test_offered_quality_of_service(client: BridgeClient, topic: str, latched: bool) -> None:
    (offered,) = [info.qos_profile for info in client.node.get_publishers_info_by_topic(topic)]
    assert offered.reliability is ReliabilityPolicy.RELIABLE
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    assert offered.durability is durability


def test_exactly_one_frame_per_command(client: BridgeClient) -> None:
    client.step()
    before = client.frame
    for _ in range(20):
        client.step(throttle=0.1)
    assert client.frame == before + 20
    client.spin_for(0.2)
    assert client.frame == before + 20


def test_without_command_the_last_one_is_held_and_then_the_brake_comes(client: BridgeClient) -> None:
    _, status = client.step(throttle=0.25, steer=0.125)
    assert (status.control.throttle, status.control.steer, status.control.brake) == (0.25, 0.125, 0.0)
    for _ in range(COMMAND_TIMEOUT_FRAMES - 1):
        _, status = client.next_frame()
        assert (status.control.throttle, status.control.steer, status.control.brake) == (0.25, 0.125, 0.0)
    _, status = client.next_frame()
    assert (status.control.throttle, status.control.brake) == (0.0, 1.0)
    _, status = client.step(throttle=0.5)
    assert (status.control.throttle, status.control.brake) == (0.5, 0.0)


def test_pause_step_and_play(client: BridgeClient) -> None:
    client.step()
    client.run_state.publish(CarlaControl(command=CarlaControl.PAUSE))
    assert client.spin_until(lambda: not client.status.messages[-1].synchronous_mode_running)
    paused_at = client.frame
    client.spin_for(0.3)
    assert client.frame == paused_at
    assert client.call(GetWaypoint, "/carla_waypoint_publisher/ego_vehicle/get_waypoint") is not None
    client.run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
    assert client.spin_until(lambda: client.frame == paused_at + 1)
    client.command.publish(CarlaEgoVehicleControl())
    assert client.spin_until(lambda: not client.status.messages[-1].synchronous_mode_running)
    assert client.frame == paused_at + 1
    client.run_state.publish(CarlaControl(command=CarlaControl.PLAY))
    assert client.spin_until(lambda: client.frame == paused_at + 2)
    assert client.status.messages[-1].synchronous_mode_running


def test_override_selects_the_manual_channel(client: BridgeClient) -> None:
    _, status = client.step(throttle=0.2)
    client.override.publish(Bool(data=True))
    client.spin_for(0.2)
    try:
        frame = client.frame
        client.command.publish(CarlaEgoVehicleControl(throttle=0.9))
        client.spin_for(0.2)
        _, status = client.step(manual=True, throttle=0.3)
        assert status.control.throttle == pytest.approx(0.3)
        assert client.frame == frame + 1
        there = client.frame_parts()[0].pose.pose
        there.position.x += 0.5
        client.set_velocity.publish(Twist(linear=Vector3(x=15.0)))
        client.set_transform.publish(there)
        client.spin_for(0.2)
        odometry, _ = client.step(manual=True)
        assert odometry.twist.twist.linear.x < 14.0  # ignored in override, unlike the pose
        assert abs(odometry.pose.pose.position.x - there.position.x) < 0.3
    finally:
        client.override.publish(Bool(data=False))
        client.spin_for(0.2)
    client.manual.publish(CarlaEgoVehicleControl(throttle=0.9))
    client.spin_for(0.2)
    _, status = client.step(throttle=0.4)
    assert status.control.throttle == pytest.approx(0.4)


def test_signs_and_frames_of_the_motion(client: BridgeClient) -> None:
    back_to_start(client)
    for _ in range(15):
        before, _ = client.step(throttle=0.6)
    after, _ = client.step(throttle=0.6)
    dx = after.pose.pose.position.x - before.pose.pose.position.x
    dy = after.pose.pose.position.y - before.pose.pose.position.y
    yaw, twist = heading(after), after.twist.twist.linear
    along, across = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
    assert abs(math.sin(yaw)) > 0.5  # else body and map axes could not be told apart
    assert (along / 0.05, across / 0.05) == (pytest.approx(twist.x, abs=0.3), pytest.approx(twist.y, abs=0.3))
    assert after.child_frame_id == "ego_vehicle" and after.header.frame_id == "map"
    for _ in range(10):
        turned, status = client.step(throttle=0.3, steer=0.4)
    assert turned.twist.twist.angular.z < -0.05
    assert math.remainder(heading(turned) - yaw, 2.0 * math.pi) < -0.02  # positive steer turns right
    assert status.control.steer == pytest.approx(0.4)


def test_the_status_tells_the_speed_that_is_driven_also_where_the_car_slips(client: BridgeClient) -> None:
    back_to_start(client)
    for _ in range(15):
        client.step(throttle=0.6)
    for _ in range(15):
        before, _ = client.step(throttle=0.05, steer=1.0)
    after, status = client.step(throttle=0.05, steer=1.0)
    assert abs(after.twist.twist.linear.y) > 0.3, "the body's x axis is not the way"
    was, now = before.pose.pose.position, after.pose.pose.position
    assert status.velocity == pytest.approx(math.hypot(now.x - was.x, now.y - was.y) / 0.05, rel=0.01)


def test_objects_with_and_without_the_ego(client: BridgeClient) -> None:
    others, everybody = client.listen(ObjectArray, f"{EGO}/objects"), client.listen(ObjectArray, "/carla/objects")
    speed = client.listen(Float32, f"{EGO}/speedometer")
    assert client.spin_until(lambda: min(len(others), len(everybody), len(speed)) > 0 or client.step() is None)
    odometry, _ = client.step(throttle=0.3)
    stamp = stamp_to_ns(odometry.header.stamp)
    assert client.spin_until(lambda: others.at(stamp) is not None and everybody.at(stamp) is not None)
    around = {one.id: one for one in others.messages[others.at(stamp)].objects}
    found = {one.id: one for one in everybody.messages[everybody.at(stamp)].objects}
    assert around and EGO_ID not in around and set(found) == {*around, EGO_ID}
    moving = [one for one in around.values() if math.hypot(one.twist.linear.x, one.twist.linear.y) > 2.0]
    assert moving
    for one in moving:  # map axes: the velocity points where the car heads
        course = math.atan2(one.twist.linear.y, one.twist.linear.x)
        assert abs(math.remainder(course - yaw_from_quaternion(one.pose.orientation), 2.0 * math.pi)) < 0.1
        assert one.shape.dimensions[0] > one.shape.dimensions[1] > 1.0 and one.classification == one.CLASSIFICATION_CAR
    ego = found[EGO_ID]
    assert ego.pose == odometry.pose.pose
    body = odometry.twist.twist.linear
    assert math.hypot(ego.twist.linear.x, ego.twist.linear.y) == pytest.approx(math.hypot(body.x, body.y))
    assert client.spin_until(lambda: abs(speed.messages[-1].data - body.x) < 1e-5)


def test_sensors_measure(client: BridgeClient) -> None:
    back_to_start(client)
    image = client.listen(Image, f"{EGO}/rgb_view/image")
    camera = client.listen(CameraInfo, f"{EGO}/rgb_view/camera_info")
    lidar = client.listen(PointCloud2, f"{EGO}/lidar")
    imu, gnss = client.listen(Imu, f"{EGO}/imu"), client.listen(NavSatFix, f"{EGO}/gnss")
    markers = client.listen(MarkerArray, "/carla/markers")
    transforms = client.listen(TFMessage, "/tf")
    actors = client.listen(CarlaActorList, "/carla/actor_list")
    logs = (image, camera, lidar, imu, gnss, markers, transforms, actors)
    assert client.spin_until(lambda: all(len(log) > 0 for log in logs) or client.step(brake=1.0) is None)
    picture = image.messages[-1]
    assert (picture.width, picture.height, picture.encoding, picture.step) == (800, 600, "bgra8", 3200)
    pixels = np.frombuffer(picture.data, dtype=np.uint8).reshape(600, 800, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 4 and np.all(pixels[..., 3] == 255)
    assert (
        camera.messages[-1].k[0] == pytest.approx(400.0)
        and camera.messages[-1].header.frame_id == picture.header.frame_id
    )
    cloud = lidar.messages[-1]
    points = np.frombuffer(cloud.data, dtype=np.float32).reshape(-1, 4)
    assert len(points) == cloud.width > 1000 and cloud.point_step == 16
    assert np.all(np.hypot(points[:, 0], points[:, 1]) <= 50.1) and points[:, 2].min() == pytest.approx(-2.4, abs=1e-3)
    assert imu.messages[-1].linear_acceleration.z == pytest.approx(9.81)
    assert imu.messages[-1].header.frame_id == "ego_vehicle/imu"
    assert abs(gnss.messages[-1].latitude) <= 90.0 and gnss.messages[-1].altitude == pytest.approx(2.0)
    children = {one.child_frame_id: one.header.frame_id for one in transforms.messages[-1].transforms}
    assert children["ego_vehicle"] == "map" and children["ego_vehicle/lidar"] == "ego_vehicle"
    assert {marker.id for marker in markers.messages[-1].markers} >= {EGO_ID}
    assert ("ego_vehicle", EGO_ID) in {(one.rolename, one.id) for one in actors.messages[-1].actors}


def test_goal_gives_a_new_route(client: BridgeClient) -> None:
    back_to_start(client)
    x, y = last_pose(client.waypoints.messages[-1])
    before = client.waypoints.messages[-1].poses
    target = before[len(before) // 2].pose.position
    goal = PoseStamped()
    goal.pose.position.x, goal.pose.position.y = target.x, target.y
    count = len(client.waypoints)
    client.goal.publish(goal)
    assert client.spin_until(lambda: len(client.waypoints) > count)
    points = [(p.pose.position.x, p.pose.position.y) for p in client.waypoints.messages[-1].poses]
    assert min(math.hypot(px - target.x, py - target.y) for px, py in points) < 1.5
    assert last_pose(client.waypoints.messages[-1]) != (x, y)
    odometry, _ = client.frame_parts()
    at = odometry.pose.pose.position
    assert math.hypot(points[0][0] - at.x, points[0][1] - at.y) < 2.0


@pytest.mark.parametrize("place", [(1e6, 1e6), (math.nan, 0.0)])
def test_goal_nobody_can_reach_leaves_the_route(client: BridgeClient, place: tuple[float, float]) -> None:
    client.step()
    count = len(client.waypoints)
    goal = PoseStamped()
    goal.pose.position.x, goal.pose.position.y = place
    client.goal.publish(goal)
    client.spin_for(0.2)
    client.step()
    client.step()
    assert len(client.waypoints) == count


def test_set_transform_moves_the_ego_and_plans_anew(client: BridgeClient) -> None:
    back_to_start(client)
    there = client.waypoints.messages[-1].poses[12].pose
    count = len(client.waypoints)
    client.set_transform.publish(there)
    assert client.spin_until(lambda: len(client.waypoints) > count)
    odometry, _ = client.step(brake=1.0)
    at = odometry.pose.pose.position
    assert math.hypot(at.x - there.position.x, at.y - there.position.y) < 1.0
    first = client.waypoints.messages[-1].poses[0].pose.position
    assert math.hypot(at.x - first.x, at.y - first.y) < 2.0


def test_values_that_are_no_numbers_do_not_reach_the_vehicle(client: BridgeClient) -> None:
    client.step()
    client.set_transform.publish(Pose(position=Point(x=math.nan)))
    velocity = Twist()
    velocity.linear.x = math.inf
    client.set_velocity.publish(velocity)
    client.spin_for(0.2)
    client.step(throttle=math.nan, steer=math.nan, brake=math.nan)
    odometry, _ = client.step(brake=1.0)
    at, twist = odometry.pose.pose.position, odometry.twist.twist.linear
    assert all(map(math.isfinite, (at.x, at.y, heading(odometry), twist.x, twist.y)))


def test_waypoints_of_places_and_actors(client: BridgeClient) -> None:
    odometry, _ = client.step(brake=1.0)
    at = odometry.pose.pose.position
    prefix = "/carla_waypoint_publisher/ego_vehicle"
    here = client.call(GetWaypoint, f"{prefix}/get_waypoint", location=at).waypoint
    own = client.call(GetActorWaypoint, f"{prefix}/get_actor_waypoint", id=EGO_ID).waypoint
    assert here.lane_id != 0
    for found in (here, own):
        assert math.hypot(found.pose.position.x - at.x, found.pose.position.y - at.y) < 2.0
        turned = yaw_from_quaternion(found.pose.orientation) - heading(odometry)
        assert abs(math.remainder(turned, 2.0 * math.pi)) < 0.3
    unknown = client.call(GetActorWaypoint, f"{prefix}/get_actor_waypoint", id=987_654).waypoint
    assert (unknown.road_id, unknown.lane_id, unknown.pose.position.x) == (0, 0, 0.0)
    nowhere = client.call(GetWaypoint, f"{prefix}/get_waypoint", location=Point(x=math.nan)).waypoint
    assert (nowhere.road_id, nowhere.lane_id) == (0, 0)


def spawn(client: BridgeClient, kind: str, name: str, parent: int = EGO_ID) -> Any:
    return client.call(SpawnObject, "/carla/spawn_object", type=kind, id=name, attach_to=parent)


def test_spawned_sensor_comes_and_goes(client: BridgeClient) -> None:
    answer = spawn(client, "sensor.other.imu", "second_imu")
    assert answer.id > 0 and answer.error_string == ""
    log = client.listen(Imu, f"{EGO}/second_imu")
    assert client.spin_until(lambda: len(log) > 0 or client.step() is None)
    assert log.messages[0].header.frame_id == "ego_vehicle/second_imu"
    assert client.call(DestroyObject, "/carla/destroy_object", id=answer.id).success
    client.step()
    client.step()
    assert client.spin_until(lambda: client.node.count_publishers(f"{EGO}/second_imu") == 0)
    assert not client.call(DestroyObject, "/carla/destroy_object", id=answer.id).success


@pytest.mark.parametrize(
    ("kind", "name", "parent", "reason"),
    [
        ("sensor.camera.depth", "depth_front", EGO_ID, "sensor.camera.depth"),
        ("sensor.other.imu", "imu_2", 77, "77"),
        ("sensor.other.imu", "imu_2", 0, "ego"),
        ("vehicle.audi.tt", "somebody", 0, "somebody"),
        ("sensor.other.imu", "no name", EGO_ID, "no name"),
        ("sensor.other.gnss", "imu", EGO_ID, "imu"),
    ],
)
def test_what_cannot_be_spawned_is_refused_with_the_reason(
    client: BridgeClient, kind: str, name: str, parent: int, reason: str
) -> None:
    answer = spawn(client, kind, name, parent)
    assert answer.id == -1 and reason in answer.error_string and "\n" not in answer.error_string
    client.step()


def test_blueprints(client: BridgeClient) -> None:
    every = client.call(GetBlueprints, "/carla/get_blueprints").blueprints
    assert every == sorted(every) and "vehicle.tesla.model3" in every and "sensor.pseudo.odom" in every
    chosen = client.call(GetBlueprints, "/carla/get_blueprints", filter="sensor.lidar.*").blueprints
    assert chosen == ["sensor.lidar.ray_cast"]


def back_to_start(client: BridgeClient) -> None:
    """Put the ego at rest on the approach and give it a route across the junction again."""
    if not hasattr(client, "start"):
        route = client.waypoints.messages[0]
        client.start = (route.poses[0].pose, route.poses[-2].pose)  # type: ignore[attr-defined]
    start, end = client.start  # type: ignore[attr-defined]
    client.set_velocity.publish(Twist())
    client.set_transform.publish(start)
    client.spin_for(0.1)
    client.step(brake=1.0)
    count = len(client.waypoints)
    client.goal.publish(PoseStamped(pose=end))
    assert client.spin_until(lambda: len(client.waypoints) > count)
    odometry, _ = client.step(brake=1.0)
    assert (
        math.hypot(odometry.pose.pose.position.x - start.position.x, odometry.pose.pose.position.y - start.position.y)
        < 1
    )


def test_documentation_holds_the_current_parameters() -> None:
    page = FilePath(__file__).resolve().parents[2] / "docs" / "sim_bridge.md"
    assert markdown(PARAMETERS) in page.read_text()


def test_documentation_tells_what_the_shipped_file_sets_otherwise() -> None:
    page = (FilePath(__file__).resolve().parents[2] / "docs" / "sim_bridge.md").read_text()
    file = launch_dir() / "params" / SIM_BRIDGE.parameter_file
    shipped = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    others = {row.name: shipped[row.name] for row in PARAMETERS if shipped.get(row.name, row.default) != row.default}
    assert len(others) == 3
    for name, value in others.items():
        assert f"`{name}: {str(value).lower()}`" in page


def test_every_parameter_says_what_it_is() -> None:
    for row in PARAMETERS:
        assert row.description and row.problem(row.default) is None
        assert row.type is not float or (row.unit and row.low is not None and row.high is not None), row.name
