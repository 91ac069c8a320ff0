"""Sensors and pseudo actors of the bridge: one tick of the world in, their topics out.

Each kind of actor has one class; `make_sensor` picks it by blueprint. Nothing is built for a volatile topic
that nobody subscribes to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from carla_msgs.msg import (
    CarlaActorList,
    CarlaCollisionEvent,
    CarlaLaneInvasionEvent,
    CarlaTrafficLightInfoList,
    CarlaTrafficLightStatusList,
)
from derived_object_msgs.msg import ObjectArray
from geometry_msgs.msg import Pose, TransformStamped, Twist
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Float32, String
from visualization_msgs.msg import MarkerArray

from adawm_planner.observation.drivable import box_corners
from adawm_planner.ros import bridge_messages as build
from adawm_planner.ros import qos
from adawm_planner.simulator import actors
from adawm_planner.simulator.actors import EGO_ID, Actor, ActorRegistry
from adawm_planner.simulator.lane_map import LaneMap, LaneWatch
from adawm_planner.simulator.lidar import scan
from adawm_planner.simulator.render import render
from adawm_planner.simulator.sensor_attributes import camera_config, lidar_config
from adawm_planner.simulator.sensors import GeoReference, collision_impulse
from adawm_planner.simulator.world import World, WorldFrame

ROAD_MARKER_SPACING_M = 4.0
_LOOKING_DOWN = (0.7071067811865476, -0.7071067811865476, 0.0, 0.0)
"""Optical frame (x right, y down, z into the picture) of a camera above the ego, vehicle forward up."""


@dataclass(frozen=True)
class Surroundings:
    """What sensors are made from."""

    node: Node
    world: World
    registry: ActorRegistry
    lanes: LaneMap | None
    teleport: Callable[[Pose], None]  # moves the ego
    push: Callable[[Twist], None]  # sets the ego's velocity
    objects: build.ObjectMessages

    @property
    def ego_size(self) -> tuple[float, float]:
        """Length and width of the ego [m]."""
        return self.world.vehicle.length, self.world.vehicle.width

    def publisher(self, kind: type[Any], path: str, profile: Any = qos.STREAM) -> Publisher:
        """A publisher on /carla/PATH."""
        return self.node.create_publisher(kind, f"/carla/{path}", profile)


class Sensor(Protocol):
    """One actor's topics."""

    @property
    def transform(self) -> TransformStamped | None:
        """Where the sensor sits, if it has a frame of its own."""

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        """Publish what this tick has for it."""

    def reset(self) -> None:
        """The ego was moved, or a new episode begins."""

    def destroy(self) -> None:
        """Take the topics away."""


class _Base:
    """What most sensors share: a path, one publisher, no frame of its own, nothing to forget."""

    def __init__(self, around: Surroundings, actor: Actor, kind: type[Any], profile: Any = qos.STREAM) -> None:
        self._around, self._actor = around, actor
        self.path = around.registry.path(actor)
        self._publisher = around.publisher(kind, self.path, profile)
        self._others: list[Any] = []
        self._transform: TransformStamped | None = None

    @property
    def transform(self) -> TransformStamped | None:
        """Where the sensor sits, if it has a frame of its own."""
        return self._transform

    @property
    def heard(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._publisher.get_subscription_count())

    def mounted(self) -> None:
        """Give the sensor the frame its spawn pose says."""
        mount = self._actor.mount
        self._transform = build.mount_transform(self._around.registry.role, self.path, mount.position, mount.rotation)

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        """Publish nothing."""

    def reset(self) -> None:
        """Nothing to forget."""

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in (self._publisher, *self._others):
            self._around.node.destroy_publisher(publisher)


class _Odometry(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, Odometry)

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            self._publisher.publish(build.odometry_message(tick, self._around.registry.role))


class _Speedometer(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, Float32)

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            self._publisher.publish(build.speedometer_message(tick.ego))


class _Objects(_Base):
    """All vehicles; attached to the ego it leaves the ego out."""

    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, ObjectArray)
        self._age = 0

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        self._age += 1
        if self.heard:
            ego = None if self._actor.parent == EGO_ID else self._around.ego_size
            self._publisher.publish(self._around.objects.array(tick, ego, self._age))


class _Markers(_Base):
    """Vehicles as cubes, and once the road surface."""

    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, MarkerArray)
        static = around.publisher(MarkerArray, f"{self.path}/static", qos.ROUTE)
        self._others.append(static)
        self._shown: set[int] = set()
        if around.lanes is not None:
            now = around.node.get_clock().now().to_msg()
            samples = around.lanes.samples(ROAD_MARKER_SPACING_M)
            static.publish(build.road_markers(samples, ROAD_MARKER_SPACING_M, now))

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            present = set(tick.objects.id.tolist())
            markers = build.marker_array(tick, self._around.ego_size, sorted(self._shown - present))
            self._publisher.publish(markers)
            self._shown = present


class _ActorList(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, CarlaActorList)

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            known = self._around.registry.actors.values()
            self._publisher.publish(build.actor_list_message(known, tick.objects.id.tolist()))


class _TrafficLights(_Base):
    """The maps have no lights, and for such a map the real bridge publishes nothing either."""

    def __init__(self, around: Surroundings, actor: Actor) -> None:
        path = around.registry.path(actor)
        super().__init__(around, replace(actor, role=f"{actor.role}/info"), CarlaTrafficLightInfoList, qos.SENT_ONCE)
        self._others.append(around.publisher(CarlaTrafficLightStatusList, f"{path}/status", qos.SENT_ONCE))


class _Map(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, String, qos.SENT_ONCE)
        self._publisher.publish(String(data=around.world.opendrive))


class _Imu(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, Imu)
        self.mounted()

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            self._publisher.publish(build.imu_message(tick, self.path, self._actor.mount))


class _Gnss(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, NavSatFix)
        self._reference = GeoReference.from_opendrive(around.world.opendrive)
        self.mounted()

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            mount = self._actor.mount
            at = mount.on(tick.ego)
            latitude, longitude = self._reference.locate(at.x, at.y)
            self._publisher.publish(build.gnss_message(tick, self.path, latitude, longitude, mount.position[2]))


class _Collision(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, CarlaCollisionEvent)
        self.mounted()

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if frame.collision_id is not None:
            mass = self._around.world.vehicle.mass
            impulse = collision_impulse(tick.ego, mass, tick.objects, frame.collision_id)
            self._publisher.publish(build.collision_message(tick, self.path, frame.collision_id, impulse))


class _LaneInvasion(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        super().__init__(around, actor, CarlaLaneInvasionEvent)
        self._watch = None if around.lanes is None else LaneWatch(around.lanes)
        self.mounted()

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self._watch is None or not self.heard:
            self.reset()
            return
        ego, size = tick.ego, self._around.ego_size
        (corners,) = box_corners(*(np.array([value]) for value in (ego.x, ego.y, ego.yaw, *size)))
        markings = self._watch.step(corners)
        if markings:
            self._publisher.publish(build.lane_invasion_message(tick, self.path, markings))

    def reset(self) -> None:
        """Forget where the corners were."""
        if self._watch is not None:
            self._watch.reset()


class _Lidar(_Base):
    def __init__(self, around: Surroundings, actor: Actor) -> None:
        self._config = lidar_config(actor.attributes, actor.mount.position[2])
        super().__init__(around, actor, PointCloud2)
        self.mounted()

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        if self.heard:
            points = scan(self._actor.mount.on(tick.ego), tick.objects, self._config)
            self._publisher.publish(build.cloud_message(tick.header(self.path), points))


class _Camera(_Base):
    """A rendered view from straight above; where the real bridge mounts the camera does not matter."""

    def __init__(self, around: Surroundings, actor: Actor) -> None:
        self._camera = camera_config(actor.attributes)
        image = replace(actor, role=f"{actor.role}/image")
        super().__init__(around, image, Image)
        self.path = around.registry.path(actor)
        self._info = around.publisher(CameraInfo, f"{self.path}/camera_info")
        self._others.append(self._info)
        self._place()

    def move(self, pose: Pose) -> None:
        """Hang the camera elsewhere; only the position counts, the picture always looks down."""
        at = pose.position
        try:
            self._camera = replace(self._camera, above=at.z, ahead=at.x, left=at.y)
        except ValueError as error:
            self._around.node.get_logger().warning(f"set_transform of {self.path} ignored: {error}")
            return
        self._place()

    def _place(self) -> None:
        camera = self._camera
        position = (camera.ahead, camera.left, camera.above)
        self._transform = build.mount_transform(self._around.registry.role, self.path, position, _LOOKING_DOWN)

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        header = tick.header(self.path)
        if self._info.get_subscription_count():
            self._info.publish(build.camera_info_message(header, self._camera))
        if self.heard:
            size, drivable = self._around.ego_size, self._around.world.drivable
            picture = render(self._camera, tick.ego, size, tick.objects, frame.route, drivable)
            self._publisher.publish(build.picture_message(header, picture))


class _Tf:
    """The transform map -> ego; the node sends it with the sensors' own."""

    transform: TransformStamped | None = None

    def __init__(self, around: Surroundings, actor: Actor) -> None:
        self._role = around.registry.role

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        self.transform = build.ego_transform(tick, self._role)

    def reset(self) -> None:
        """Nothing to forget."""

    def destroy(self) -> None:
        """It has no topic of its own."""


class _Control:
    """Moves its parent: set_transform for the ego or a camera, set_target_velocity for the ego."""

    transform: TransformStamped | None = None

    def __init__(self, around: Surroundings, actor: Actor, move: Callable[[Pose], None]) -> None:
        self._node = around.node
        prefix = f"/carla/{around.registry.path(actor)}"
        self._subscriptions = [around.node.create_subscription(Pose, f"{prefix}/set_transform", move, qos.STREAM)]
        if actor.parent == EGO_ID:
            self._subscriptions.append(
                around.node.create_subscription(Twist, f"{prefix}/set_target_velocity", around.push, qos.STREAM)
            )

    def update(self, tick: build.Tick, frame: WorldFrame) -> None:
        """Commands apply when they arrive."""

    def reset(self) -> None:
        """Nothing to forget."""

    def destroy(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


_KINDS: dict[str, Callable[[Surroundings, Actor], Sensor]] = {
    actors.ODOM: _Odometry,
    actors.SPEEDOMETER: _Speedometer,
    actors.OBJECTS: _Objects,
    actors.MARKERS: _Markers,
    actors.ACTOR_LIST: _ActorList,
    actors.TRAFFIC_LIGHTS: _TrafficLights,
    actors.OPENDRIVE_MAP: _Map,
    actors.IMU: _Imu,
    actors.GNSS: _Gnss,
    actors.COLLISION: _Collision,
    actors.LANE_INVASION: _LaneInvasion,
    actors.LIDAR: _Lidar,
    actors.CAMERA: _Camera,
    actors.TF: _Tf,
}


def make_sensor(around: Surroundings, actor: Actor, parent: Sensor | None) -> Sensor:
    """Open an actor's topics.

    Args:
        parent: the sensor it is attached to, None for the ego or nothing.
    """
    if actor.type == actors.CONTROL:
        return _Control(around, actor, parent.move if isinstance(parent, _Camera) else around.teleport)
    return _KINDS[actor.type](around, actor)
