"""The node, driving a world over DDS, sends bit for bit the commands that drive_step gives in process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from carla_msgs.msg import CarlaWorldInfo
from nav_msgs.msg import Path
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn

from adawm_planner.data_types import Carry, Command, Observation, PolicyOutput
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.ros import bridge_messages, convert, qos
from adawm_planner.ros.planner_node import PlannerNode
from adawm_planner.runtime.drive_step import DriveConfig, DriveState, drive_step
from adawm_planner.simulator.sensors import MotionTracker
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame
from tests.ros.stub_bridge import Bench, StubBridge
from tests.runtime.fake_engine import FakeEngine

pytestmark = pytest.mark.ros
FRAMES = 120
SEEDS = (5000, 5001)


class CrcEngine(FakeEngine):
    """Takes an action that changes with every bit of what it sees and of what it saw before."""

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        seen = np.frombuffer(observation.bev.tobytes() + observation.state.tobytes(), dtype=np.uint8)
        before = 0.0 if first else float(carry.h[0, 0])
        total = (int(seen.astype(np.int64) @ (np.arange(len(seen)) % 251 + 1)) + int(before)) % 65536
        # Mostly drive on, or the world would never be more than a standing car.
        self.action = ACTION_COUNT - 1 if total % 3 else total % ACTION_COUNT
        carry, output = super().step(carry, observation, first)
        return replace(carry, h=np.full_like(carry.h, float(total))), output


class WorldBridge(StubBridge):
    """The part of a bridge the planner needs, on a real world."""

    def __init__(self, world: World, context: Context) -> None:
        super().__init__("ego_vehicle", context)
        self._world, self._motion, self._made = world, MotionTracker(), bridge_messages.ObjectMessages()
        self._world_info = self.create_publisher(CarlaWorldInfo, "/carla/world_info", qos.SENT_ONCE)

    def publish_start(self) -> None:
        """Send what is sent once."""
        self._world_info.publish(bridge_messages.world_info_message(self._world.map_name, self._world.opendrive))
        self.vehicle_info.publish(bridge_messages.vehicle_info_message(self._world.vehicle, "ego_vehicle"))

    def publish_world_frame(self, frame: WorldFrame, new_episode: bool) -> None:
        """Send a frame, with its route where an episode begins."""
        stamp = bridge_messages.stamp_of(frame.time)
        route: Path = bridge_messages.path_message(frame.route, stamp)
        if new_episode:
            self.waypoints.publish(route)
        motion = self._motion.step(frame.objects, 0.05)
        tick = bridge_messages.Tick(stamp, frame.ego, frame.objects, motion, 0.0)
        self.vehicle_status.publish(bridge_messages.vehicle_status_message(tick, frame.applied))
        self.odometry.publish(bridge_messages.odometry_message(tick, "ego_vehicle"))
        self.objects.publish(self._made.array(tick))


def drive_over_topics(world: World, context: Context) -> list[Command]:
    planner, bridge = PlannerNode(lambda values: CrcEngine(), context=context), WorldBridge(world, context)
    bench = Bench(context, planner, bridge)
    success = TransitionCallbackReturn.SUCCESS
    assert planner.trigger_configure() == success and planner.trigger_activate() == success
    bench.connect()
    bridge.publish_world(1)
    bridge.publish_start()
    for seed in SEEDS:
        frame = world.reset(seed)
        for k in range(FRAMES):
            count = len(bridge.commands)
            bridge.publish_world_frame(frame, new_episode=k == 0)
            assert bench.spin_until(lambda count=count: len(bridge.commands) > count)
            frame = world.tick(convert.command_from_control(bridge.commands[-1]))
    bench.spin_for(0.1)
    commands = [convert.command_from_control(message) for message in bridge.commands]
    bench.close()
    return commands


def drive_in_process(world: World) -> list[Command]:
    commands, engine = [], CrcEngine()
    for seed in SEEDS:
        frame, state = world.reset(seed), DriveState.initial(engine)
        for _ in range(FRAMES):
            command, state, _ = drive_step(world.scene(frame), state, engine, DriveConfig())
            commands.append(command)
            frame = world.tick(command)
    return commands


def test_commands_over_topics_equal_those_in_process(context: Context) -> None:
    world = World(load_task("left_turn_moderate"), load_vehicle("heavy"))
    over_topics = drive_over_topics(world, context)
    world.close()
    fresh = World(load_task("left_turn_moderate"), load_vehicle("heavy"))
    in_process = drive_in_process(fresh)
    fresh.close()
    assert len(over_topics) == len(in_process) == FRAMES * len(SEEDS)
    assert over_topics == in_process
    assert len({command.throttle for command in in_process}) > 20
