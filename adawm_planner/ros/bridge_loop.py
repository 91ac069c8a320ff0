"""One tick after another, in carla_ros_bridge's order: everything the bridge publishes leaves from here.

status, clock, world_info once, then every actor in the order of its creation, all with one stamp. Who may
tick, and when, is sim_bridge_node's business.
"""

from __future__ import annotations

import json
import math
from typing import Any

from carla_msgs.msg import CarlaStatus, CarlaWorldInfo
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped, Twist
from nav_msgs.msg import Path
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from adawm_planner.dims import FRAME_S
from adawm_planner.observation.route import MAX_COORDINATE_M
from adawm_planner.ros import bridge_messages as build
from adawm_planner.ros import qos
from adawm_planner.ros.bridge_ego import EgoTopics
from adawm_planner.ros.bridge_parameters import BridgeSettings
from adawm_planner.ros.bridge_sensors import Sensor, Surroundings, make_sensor
from adawm_planner.ros.bridge_services import Position, SpawnServices, WaypointServices
from adawm_planner.ros.convert import yaw_from_quaternion
from adawm_planner.simulator.actors import EGO_ID, Actor, ActorRegistry
from adawm_planner.simulator.episodes import Episodes
from adawm_planner.simulator.handshake import FrameWait
from adawm_planner.simulator.lane_map import LaneMap
from adawm_planner.simulator.sensors import MotionTracker
from adawm_planner.simulator.world import World, WorldFrame

NO_EPISODE = "no episode has begun"


class BridgeLoop:
    """The world, its actors and all their topics."""

    def __init__(self, node: Node, world: World, settings: BridgeSettings) -> None:
        """Open the topics and services; the world does not move yet."""
        self._node, self._world, self._settings = node, world, settings
        role = settings.role_name
        self.wait = FrameWait()
        self.ego = EgoTopics(node, role, world, settings.command_timeout, self.wait if settings.waits else None)
        self.episodes = Episodes(world, settings.seed, settings.episodes)
        self._registry = ActorRegistry(role, settings.register_all_sensors)
        self._motion = MotionTracker()
        self._sensors: dict[int, Sensor] = {}
        self._frame: WorldFrame | None = None
        self._goal: Position | None = None
        self._yaw_rate = 0.0
        lanes = LaneMap.open(world.opendrive)
        objects = build.ObjectMessages()
        self._around = Surroundings(node, world, self._registry, lanes, self.teleport, self._push, objects)
        self._open_topics(role)
        self._services = (
            SpawnServices(node, self._registry, self.place),
            WaypointServices(node, role, lanes, self._locate),
        )

    def _open_topics(self, role: str) -> None:
        create, depth = self._node.create_publisher, qos.EPISODES
        self._status = create(CarlaStatus, "/carla/status", qos.STREAM)
        self._clock = create(Clock, "/clock", qos.STREAM)
        self._world_info: Any = create(CarlaWorldInfo, "/carla/world_info", qos.SENT_ONCE)
        self._tf = create(TFMessage, "/tf", qos.TRANSFORMS)
        self._waypoints = create(Path, f"/carla/{role}/waypoints", qos.ROUTE)
        self._scores = create(String, qos.EPISODE_TOPIC, depth)
        self._node.create_subscription(PoseStamped, f"/carla/{role}/goal", self._on_goal, qos.STREAM)
        self._introduced = False

    def begin(self) -> None:
        """Start the next episode: its route first, then its first frame."""
        self._frame = self.episodes.begin()
        self._goal = None
        self._motion.reset()
        self.ego.restart(self._frame.time)
        self._forget_motion(self._frame.ego.yaw_rate)
        self._publish_route()
        self._publish(self._frame)

    def tick(self) -> None:
        """Apply what was commanded, advance one frame, and publish it."""
        assert self._frame is not None
        in_time = self.ego.control.in_time
        command = self.ego.next_command(self._frame)
        self._frame = self.episodes.tick(command, in_time)
        self._publish(self._frame)

    def finish(self) -> bool:
        """Publish the score of an episode that has just ended; tells whether one has."""
        score = self.episodes.score()
        if score is None:
            return False
        self._scores.publish(String(data=json.dumps(score)))
        return True

    def publish_done(self) -> None:
        """Say that no further episode will come."""
        self._scores.publish(String(data=json.dumps({"done": True})))

    def publish_status(self, running: bool) -> None:
        """Publish the state of the stepping."""
        number = 0 if self._frame is None else self._frame.frame
        synchronous = self._settings.synchronous_mode
        self._status.publish(build.status_message(number, synchronous, running, FRAME_S))

    def has_client(self) -> bool:
        """Whether somebody reads the odometry and somebody sends commands."""
        prefix, node = f"/carla/{self._settings.role_name}", self._node
        reads, sends = (
            node.count_subscribers(f"{prefix}/odometry"),
            node.count_publishers(f"{prefix}/vehicle_control_cmd"),
        )
        return bool(reads and sends)

    def activate_actors(self) -> None:
        """Open and close the topics of actors that were spawned or destroyed since the last tick."""
        new, gone = self._registry.activate()
        for number in gone:
            sensor = self._sensors.pop(number, None)
            if sensor is not None:
                sensor.destroy()
        for actor in new:
            if actor.id != EGO_ID and actor.id in self._registry.actors:
                self._open_sensor(actor)

    def _open_sensor(self, actor: Actor) -> None:
        """Open an actor's topics; where that fails it is gone, since one wrong request must not end the world."""
        path = self._registry.path(actor)
        try:
            self._sensors[actor.id] = make_sensor(self._around, actor, self._sensors.get(actor.parent))
        except rclpy_implementation.RCLError as error:
            self._registry.withdraw(actor.id)
            self._node.get_logger().warning(f"{actor.type} is not spawned, /carla/{path} cannot be opened: {error}")

    def teleport(self, pose: Pose) -> None:
        """Move the ego as `place` does; why it is not moved is a warning."""
        if problem := self.place(pose):
            self._node.get_logger().warning(f"set_transform ignored: {problem}")

    def place(self, pose: Pose) -> str:
        """Move the ego; returns what is wrong with the pose, or nothing.

        A move of more than 2 m plans the route anew, as carla_waypoint_publisher does.
        """
        if self._frame is None:
            # carla_spawn_objects gives every ego a pose, mostly before anything moves, and gives up where that fails.
            self._node.get_logger().warning(f"the ego stays: {NO_EPISODE}, place it after its first frame")
            return ""
        ego, at, yaw = self._frame.ego, pose.position, yaw_from_quaternion(pose.orientation)
        if not all(map(math.isfinite, (at.x, at.y, yaw))):
            return f"pose ({at.x}, {at.y}), yaw {yaw} is not finite"
        if max(abs(at.x), abs(at.y)) > MAX_COORDINATE_M:
            return f"position ({at.x:g}, {at.y:g}) m is off the map, at most {MAX_COORDINATE_M:g} m are taken"
        self._world.set_ego_pose(at.x, at.y, yaw)
        self._forget_motion(ego.yaw_rate)
        if (at.x - ego.x) ** 2 + (at.y - ego.y) ** 2 > 4.0:
            self._plan(self._goal or self._world.goal)
        return ""

    def _forget_motion(self, yaw_rate: float) -> None:
        """The ego was placed: what sensors derive from two frames begins anew, at this yaw rate [rad/s]."""
        self._yaw_rate = yaw_rate
        for sensor in self._sensors.values():
            sensor.reset()

    def _push(self, twist: Twist) -> None:
        if self._frame is None or self.ego.control.override:
            return
        if not math.isfinite(twist.linear.x):
            self._node.get_logger().warning(f"set_target_velocity ignored: {twist.linear.x} m/s is not finite")
            return
        self._world.set_ego_speed(twist.linear.x)

    def _on_goal(self, message: PoseStamped) -> None:
        self._plan((message.pose.position.x, message.pose.position.y))

    def _plan(self, goal: Position) -> None:
        if self._frame is None:
            self._node.get_logger().warning(f"goal ignored: {NO_EPISODE}, give it after the first frame")
            return
        try:
            self._world.set_goal(*goal)
        except ValueError as error:
            self._node.get_logger().warning(f"goal ignored, the route stays: {error}")
            return
        self._goal = goal
        self._publish_route()

    def _publish_route(self) -> None:
        assert self._frame is not None
        self._waypoints.publish(build.path_message(self._world.route, build.stamp_of(self._frame.time)))

    def _locate(self, number: int) -> Position | None:
        if self._frame is None:
            return None
        if number == EGO_ID:
            return self._frame.ego.x, self._frame.ego.y
        (found,) = (self._frame.objects.id == number).nonzero()
        if len(found) == 0:
            return None
        return float(self._frame.objects.x[found[0]]), float(self._frame.objects.y[found[0]])

    def _publish(self, frame: WorldFrame) -> None:
        """All topics of one tick."""
        self.activate_actors()
        stamp = build.stamp_of(frame.time)
        turning = (frame.ego.yaw_rate - self._yaw_rate) / FRAME_S
        self._yaw_rate = frame.ego.yaw_rate
        motion = self._motion.step(frame.objects, FRAME_S)
        tick = build.Tick(stamp, frame.ego, frame.objects, motion, turning)
        self.publish_status(running=True)
        self._clock.publish(Clock(clock=stamp))
        self._introduce()
        for actor in self._registry.actors:
            if actor == EGO_ID:
                self.ego.publish(tick, frame)
            else:
                self._sensors[actor].update(tick, frame)
        self._publish_transforms(tick)

    def _introduce(self) -> None:
        """Publish what is said once, in the first tick."""
        if not self._introduced:
            self._introduced = True
            self._world_info.publish(build.world_info_message(self._world.map_name, self._world.opendrive))
            self.ego.introduce()

    def _publish_transforms(self, tick: build.Tick) -> None:
        if not self._tf.get_subscription_count():
            return
        transforms: list[TransformStamped] = []
        for sensor in self._sensors.values():
            if sensor.transform is not None:
                sensor.transform.header.stamp = tick.stamp
                transforms.append(sensor.transform)
        self._tf.publish(TFMessage(transforms=transforms))
