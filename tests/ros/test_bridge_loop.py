"""The bridge's loop in this process: what a teleport does to the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from geometry_msgs.msg import Point, Pose, PoseStamped
from rclpy.node import Node

from adawm_planner.ros.bridge_loop import BridgeLoop
from adawm_planner.ros.bridge_parameters import PARAMETERS, BridgeSettings
from adawm_planner.ros.convert import quaternion_from_yaw
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
