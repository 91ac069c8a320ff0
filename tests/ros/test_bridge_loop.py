"""The bridge's loop in this process: what a teleport does to the task, and where a mounted sensor measures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from carla_msgs.srv import SpawnObject
from geometry_msgs.msg import Point, Pose, PoseStamped
from rclpy.node import Node

from adawm_planner.data_types import Objects
from adawm_planner.ros.bridge_loop import BridgeLoop
from adawm_planner.ros.bridge_parameters import PARAMETERS, BridgeSettings
from adawm_planner.ros.bridge_services import mount_from_pose
from adawm_planner.ros.convert import quaternion_from_yaw, yaw_from_quaternion
from adawm_planner.simulator.actors import EGO_ID, GNSS, IMU, LIDAR, OBJECTS
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World

pytestmark = pytest.mark.ros


@pytest.fixture
def loop(context: Any) -> Iterator[BridgeLoop]:
    values = {one.name: one.default for one in PARAMETERS} | {"seed": 5000}
    world, node = World(load_task("right_turn_moderate"), load_vehicle("nominal")), Node("loop", context=context)
    yield BridgeLoop(node, world, BridgeSettings(**values))
    node.destroy_node()
    world.close()


def along_route(world: World, metres: float) -> Pose:
    """The pose so far along the route."""
    route = world.route
    x, y, yaw = (float(np.interp(metres, route.s, values)) for values in (route.x, route.y, route.yaw))
    return Pose(position=Point(x=x, y=y), orientation=quaternion_from_yaw(yaw))


def test_a_teleport_leaves_the_task_s_goal_where_it_is(loop: BridgeLoop) -> None:
    loop.begin()
    world = loop._world
    before, route = world.goal, world.route
    for _ in range(3):
        loop.teleport(along_route(world, 3.5))
        loop.tick()
    assert world.route is not route, "it was planned anew"
    assert np.hypot(*np.subtract(world.goal, before)) < 0.5


def test_a_teleport_leaves_a_client_s_goal_where_it_is(loop: BridgeLoop) -> None:
    loop.begin()
    world = loop._world
    wanted = along_route(world, 60.0)
    loop._on_goal(PoseStamped(pose=wanted))
    loop.teleport(along_route(world, 3.5))
    loop.tick()
    assert np.hypot(*np.subtract(world.goal, (wanted.position.x, wanted.position.y))) < 0.5


def test_points_and_forces_are_of_where_the_sensor_is_mounted(loop: BridgeLoop) -> None:
    """What a spawned sensor sends, moved by its own transforms, is where the world has it."""
    mount = Pose(position=Point(x=1.0, y=-0.6, z=2.4), orientation=quaternion_from_yaw(0.7))
    for kind in (LIDAR, IMU):
        loop._registry.spawn(kind, "mine_" + kind[-3:], EGO_ID, mount_from_pose(mount), {})
    loop.begin()
    heard: list[Any] = []
    for sensor in loop._sensors.values():
        if getattr(sensor, "path", "").startswith("ego_vehicle/mine"):
            sensor._publisher = SimpleNamespace(publish=heard.append, get_subscription_count=lambda: 1)  # type: ignore[attr-defined]
    loop.tick()
    frame = loop._frame
    assert frame is not None
    cloud, imu = heard
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, 4).astype(float)
    hits = (points[:, 0] + 1j * points[:, 1])[points[:, 2] > 0.01 - mount.position.z]
    in_ego = complex(mount.position.x, mount.position.y) + hits * np.exp(0.7j)
    in_map = complex(frame.ego.x, frame.ego.y) + in_ego * np.exp(1j * frame.ego.yaw)
    assert len(hits) > 20
    assert outside(frame.objects, in_map).max() < 0.01
    assert yaw_from_quaternion(imu.orientation) == pytest.approx(math.remainder(frame.ego.yaw + 0.7, math.tau))


def test_an_actor_whose_topic_cannot_be_opened_is_dropped_with_what_it_carries(
    loop: BridgeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = loop._registry
    monkeypatch.setattr(registry, "_check_name", lambda role, parent: None)
    wrong = registry.spawn(IMU, "vehicle_status", EGO_ID, mount_from_pose(Pose()), {})
    child = registry.spawn(OBJECTS, "child", wrong, mount_from_pose(Pose()), {})
    right = registry.spawn(IMU, "mine", EGO_ID, mount_from_pose(Pose()), {})
    loop.begin()
    loop.tick()
    assert not {wrong, child} & (registry.actors.keys() | loop._sensors.keys())
    assert right in loop._sensors


def spawn_ego(loop: BridgeLoop, pose: Pose, random_pose: bool = False) -> SpawnObject.Response:
    """What spawn_object answers to somebody who wants the ego at a pose."""
    request = SpawnObject.Request(type="vehicle.tesla.model3", id="ego_vehicle", transform=pose)
    request.random_pose = random_pose
    return loop._services[0]._spawn(request, SpawnObject.Response())


def warnings(loop: BridgeLoop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the loop warns of from now on."""
    said: list[str] = []
    monkeypatch.setattr(loop._node, "get_logger", lambda: SimpleNamespace(warning=said.append))
    return said


@pytest.mark.parametrize("at", [(0.0, 1e10), (-1.1e7, 0.0)])
def test_a_pose_off_the_map_is_refused_and_the_world_goes_on(
    loop: BridgeLoop, monkeypatch: pytest.MonkeyPatch, at: tuple[float, float]
) -> None:
    loop.begin()
    said = warnings(loop, monkeypatch)
    heard: list[Any] = []
    gnss = next(loop._sensors[one.id] for one in loop._registry.actors.values() if one.type == GNSS)
    gnss._publisher = SimpleNamespace(publish=heard.append, get_subscription_count=lambda: 1)  # type: ignore[attr-defined]
    pose = Pose(position=Point(x=at[0], y=at[1]))
    loop.teleport(pose)
    assert len(said) == 1 and "set_transform ignored" in said[0] and "at most 1e+07 m" in said[0]
    answer = spawn_ego(loop, pose)
    assert answer.id == -1 and "at most 1e+07 m" in answer.error_string
    loop.tick()
    assert len(heard) == 1
    frame = loop._frame
    assert frame is not None and abs(frame.ego.x) < 1e4 and abs(frame.ego.y) < 1e4


def test_goals_and_poses_before_the_first_frame_move_nothing_and_are_told(
    loop: BridgeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = warnings(loop, monkeypatch)
    loop._on_goal(PoseStamped())
    assert said == ["goal ignored: no episode has begun, give it after the first frame"]
    loop.teleport(Pose())
    assert "the ego stays: no episode has begun" in said[1]
    answer = spawn_ego(loop, Pose())
    assert answer.id == EGO_ID and "the ego stays: no episode has begun" in said[-1]
    assert spawn_ego(loop, Pose(), random_pose=True).id == EGO_ID
    loop.begin()
    assert spawn_ego(loop, along_route(loop._world, 3.5)).id == EGO_ID


def outside(objects: Objects, points: np.ndarray) -> np.ndarray:
    """Distance [m] by which points lie outside the nearest box."""
    off = (points[:, None] - (objects.x + 1j * objects.y)) * np.exp(-1j * objects.yaw)
    beyond = np.maximum(np.abs(off.real) - 0.5 * objects.length, np.abs(off.imag) - 0.5 * objects.width)
    return np.asarray(np.maximum(beyond, 0.0).min(axis=1))
