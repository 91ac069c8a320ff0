"""What the planner sees through messages equals, to the last bit, what the simulator sees directly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")
pytest.importorskip("libsumo")

from rclpy.serialization import deserialize_message, serialize_message

from adawm_planner.config.control import ControlConfig
from adawm_planner.config.observation import ObservationConfig
from adawm_planner.control.tracking import track
from adawm_planner.data_types import DrivableMap, Route, Scene, VehicleInfo
from adawm_planner.dims import FRAMES_PER_DECISION
from adawm_planner.observation.assemble import canonical, observe
from adawm_planner.observation.drivable import drivable_from_opendrive, drivable_from_route
from adawm_planner.ros import bridge_messages, convert
from adawm_planner.runtime.frame_inputs import FrameAssembler
from adawm_planner.simulator.sensors import MotionTracker
from adawm_planner.simulator.tasks import BUILT_IN_TASKS, BUILT_IN_VEHICLES, load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame

pytestmark = pytest.mark.ros
DECISIONS = 60


def over_the_wire(message: Any) -> Any:
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


class Receiver:
    """Builds scenes from messages alone, as the planner node does."""

    def __init__(self, world: World, use_map: bool) -> None:
        info = over_the_wire(bridge_messages.vehicle_info_message(world.vehicle, "ego_vehicle"))
        self.vehicle: VehicleInfo = convert.vehicle_info(info, world.vehicle.length, world.vehicle.width)
        self._map: DrivableMap | None = None
        if use_map:
            sent = over_the_wire(bridge_messages.world_info_message(world.map_name, world.opendrive))
            self._map = drivable_from_opendrive(sent.opendrive)
        self._motion, self._objects = MotionTracker(), bridge_messages.ObjectMessages()
        self._assembler = FrameAssembler()
        self._route: Route | None = None

    def scene(self, frame: WorldFrame, new_episode: bool) -> Scene:
        stamp = bridge_messages.stamp_of(frame.time)
        if new_episode:
            self._route = convert.route_from_path(serialize_message(bridge_messages.path_message(frame.route, stamp)))
        motion = self._motion.step(frame.objects, 0.05)
        tick = bridge_messages.Tick(stamp, frame.ego, frame.objects, motion, 0.0)
        status = over_the_wire(bridge_messages.vehicle_status_message(tick, frame.applied))
        odometry = over_the_wire(bridge_messages.odometry_message(tick, "ego_vehicle"))
        objects = serialize_message(self._objects.array(tick))
        for part in (convert.status_input(status), convert.odometry_input(odometry)):
            assert self._assembler.add(part, 0.0) is None
        whole = self._assembler.add(convert.objects_input(objects), 0.0)
        assert whole is not None and self._route is not None
        drivable = self._map or drivable_from_route(self._route, ObservationConfig().lane_width_m)
        return Scene(whole.stamp_s, whole.ego(), whole.objects.objects, self._route, drivable, self.vehicle)


def assert_same(received: Scene, known: Scene) -> None:
    theirs, ours = (observe(scene, 1.2, ObservationConfig()) for scene in (received, known))
    np.testing.assert_array_equal(theirs.bev, ours.bev)
    assert theirs.state.tobytes() == ours.state.tobytes()
    assert track(received, 1.2, ControlConfig()) == track(known, 1.2, ControlConfig())


@pytest.mark.parametrize("task", BUILT_IN_TASKS)
def test_same_observation_and_command_over_two_episodes(task: str) -> None:
    world = World(load_task(task), load_vehicle("nominal"))
    receiver = Receiver(world, use_map=True)
    assert receiver.vehicle == world.vehicle_info
    compared = 0
    for seed in (5000, 5001):
        frame = world.reset(seed)
        for k in range(DECISIONS * FRAMES_PER_DECISION):
            received = receiver.scene(frame, new_episode=k == 0)
            assert_same(received, world.scene(frame))
            compared += 1
            if frame.outcome is not None:
                break
            frame = world.tick(track(world.scene(frame), math.copysign(1.2, math.sin(0.05 * k)), ControlConfig()))
    world.close()
    assert compared > 50 and len(frame.objects) > 0


@pytest.mark.parametrize("vehicle", BUILT_IN_VEHICLES)
def test_same_description_of_every_vehicle(vehicle: str) -> None:
    preset = load_vehicle(vehicle)
    info = over_the_wire(bridge_messages.vehicle_info_message(preset, "ego_vehicle"))
    assert convert.vehicle_info(info, preset.length, preset.width) == preset.info


def test_without_a_map_the_corridor_is_the_rasters_own() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    receiver = Receiver(world, use_map=False)
    frame = world.reset(7)
    known = world.scene(frame)
    assert_same(
        receiver.scene(frame, new_episode=True),
        Scene(known.stamp, known.ego, known.objects, known.route, None, known.vehicle),
    )
    world.close()


def test_scene_differs_before_rounding_so_the_test_above_means_something() -> None:
    world = World(load_task("right_turn_moderate"), load_vehicle("nominal"))
    receiver, frame = Receiver(world, use_map=True), world.reset(7)
    received = [receiver.scene(frame, new_episode=True)]
    known = [world.scene(frame)]
    for _ in range(40):
        frame = world.tick(track(known[-1], 2.5, ControlConfig()))
        received.append(receiver.scene(frame, new_episode=False))
        known.append(world.scene(frame))
    world.close()
    assert any(a.ego.yaw != b.ego.yaw for a, b in zip(received, known, strict=True))
    assert all(canonical(a).ego == canonical(b).ego for a, b in zip(received, known, strict=True))
