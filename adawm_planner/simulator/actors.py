"""The actors and sensors the bridge shows, and the rules of spawning and destroying them.

Spawn requests in, ids out; what was asked for becomes active at the next tick, as in carla_ros_bridge.
Which topics an actor has is the ROS side's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from adawm_planner.angles import yaw_of
from adawm_planner.config.checks import NAME_RULE, is_name
from adawm_planner.data_types import EgoState
from adawm_planner.observation.route import MAX_COORDINATE_M
from adawm_planner.simulator.sensor_attributes import camera_config, lidar_config

EGO_ID = 20_000
"""Actor id of the ego; traffic counts from 1, sensors from EGO_ID + 1, pseudo actors from 10000."""

PSEUDO_IDS_FROM = 10_000
EGO_BLUEPRINT = "vehicle.tesla.model3"
CAMERA = "sensor.camera.rgb"
LIDAR = "sensor.lidar.ray_cast"
IMU = "sensor.other.imu"
GNSS = "sensor.other.gnss"
COLLISION = "sensor.other.collision"
LANE_INVASION = "sensor.other.lane_invasion"
TF = "sensor.pseudo.tf"
ODOM = "sensor.pseudo.odom"
SPEEDOMETER = "sensor.pseudo.speedometer"
OBJECTS = "sensor.pseudo.objects"
MARKERS = "sensor.pseudo.markers"
ACTOR_LIST = "sensor.pseudo.actor_list"
TRAFFIC_LIGHTS = "sensor.pseudo.traffic_lights"
OPENDRIVE_MAP = "sensor.pseudo.opendrive_map"
CONTROL = "actor.pseudo.control"

SENSORS = (CAMERA, LIDAR, IMU, GNSS, COLLISION, LANE_INVASION)
PSEUDO = (TF, ODOM, SPEEDOMETER, OBJECTS, MARKERS, ACTOR_LIST, TRAFFIC_LIGHTS, OPENDRIVE_MAP, CONTROL)
LEVEL = (LIDAR, IMU)
"""What is simulated on level mounts alone, because the world is flat."""

LEVEL_RAD = 1e-3
NEED_EGO = (*SENSORS, TF, ODOM, SPEEDOMETER)
BLUEPRINTS = tuple(sorted((EGO_BLUEPRINT, *SENSORS, *PSEUDO)))

OWN_TOPICS = {
    EGO_ID: (
        "vehicle_status",
        "vehicle_info",
        "vehicle_control_cmd",
        "vehicle_control_cmd_manual",
        "vehicle_control_manual_override",
        "enable_autopilot",
        "waypoints",
        "goal",
    ),
    0: ("status", "world_info", "control"),
}
"""Names below an actor (0 = none) that are topics already, so that no sensor can have them."""

TOPICS_BELOW = {
    CAMERA: ("image", "camera_info"),
    MARKERS: ("static",),
    TRAFFIC_LIGHTS: ("info", "status"),
    CONTROL: ("set_transform", "set_target_velocity"),
}
"""Names below an actor of such a blueprint that are its own topics."""


Vector = tuple[float, float, float]
Rotation = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mount:
    """Pose relative to the parent, or to the map without one."""

    position: Vector = (0.0, 0.0, 0.0)  # m, x forward, y left, z up
    rotation: Rotation = (0.0, 0.0, 0.0, 1.0)  # quaternion x, y, z, w

    @property
    def yaw(self) -> float:
        """Turn about the vertical [rad], left positive."""
        return yaw_of(*self.rotation)

    @property
    def tilt(self) -> float:
        """Angle [rad] between the sensor's z axis and the parent's, nan without a rotation."""
        x, y, z, w = self.rotation
        square = x * x + y * y + z * z + w * w
        return 2.0 * math.asin(min(math.sqrt((x * x + y * y) / square), 1.0)) if square > 0.0 else math.nan

    def on(self, ego: EgoState) -> EgoState:
        """The ego's state with the pose of the sensor on it, in the plane."""
        ahead, left, _ = self.position
        cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
        x, y = ego.x + ahead * cos - left * sin, ego.y + ahead * sin + left * cos
        return replace(ego, x=x, y=y, yaw=ego.yaw + self.yaw)


@dataclass(frozen=True)
class Actor:
    """One vehicle, sensor or pseudo actor."""

    id: int
    type: str  # blueprint
    role: str  # last part of its topics
    parent: int = 0  # actor id, 0 = none
    mount: Mount = Mount()
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def pseudo(self) -> bool:
        """Whether it exists in the bridge only, not in the world."""
        return self.type in PSEUDO


class ActorRegistry:
    """Everything but the traffic: the ego, its sensors, and the global pseudo sensors.

    Args:
        role: the ego's role name.
        all_sensors: whether the set of carla_spawn_objects' objects.json that exists here is there from the
            start; otherwise only the ego is.
    """

    def __init__(self, role: str, all_sensors: bool) -> None:
        self.role = role
        self.actors: dict[int, Actor] = {}
        self._known: dict[int, Actor] = {}
        self._through_bridge: set[int] = set()
        self._new: list[Actor] = []
        self._gone: list[int] = []
        self._next_pseudo, self._next_sensor = PSEUDO_IDS_FROM, EGO_ID + 1
        if all_sensors:
            for kind, name in _GLOBAL:
                self._create(kind, name, 0, Mount(), {})
        self._add(Actor(EGO_ID, EGO_BLUEPRINT, role))
        if all_sensors:
            for kind, name, position in _ON_EGO:
                made = self._create(kind, name, EGO_ID, Mount(position), {})
                if kind == CAMERA:
                    self._create(CONTROL, "control", made, Mount(), {})

    def spawn(self, kind: str, role: str, parent: int, mount: Mount, attributes: Mapping[str, str]) -> int:
        """Ask for an actor; returns its id. What is already there under this name is handed over instead.

        Raises:
            ValueError: the blueprint does not exist here, the parent is unknown or cannot carry it, or an
                attribute is not what the sensor takes; the name makes no topic, or another actor has it.
        """
        found = self._blueprint(kind)
        if found == EGO_BLUEPRINT:
            self._adopt_ego(role, parent)
            return EGO_ID
        if parent != 0 and parent not in self._known:
            raise ValueError(f"Parent actor {parent} not found")
        if found in NEED_EGO and parent != EGO_ID:
            raise ValueError(f"{found} must be attached to the ego vehicle (id {EGO_ID}), not to {parent}")
        for one in self._known.values():
            if (one.type, one.role, one.parent) == (found, role, parent):
                self._through_bridge.add(one.id)
                return one.id
        self._check_name(role, parent)
        made = self._create(found, role, parent, mount, attributes)
        self._through_bridge.add(made)
        return made

    def destroy(self, actor_id: int) -> list[int]:
        """Ask for the end of an actor and of what it carries; returns the ids, none if it was not spawned.

        The ego itself stays, because the task drives it; what was spawned on it goes.
        """
        if actor_id not in self._through_bridge:
            return []
        children = [one.id for one in self._known.values() if one.parent == actor_id]
        if actor_id != EGO_ID:
            self._through_bridge.update(children)
        gone = [actor_id, *(each for child in children for each in self.destroy(child))]
        self._through_bridge.discard(actor_id)
        if actor_id != EGO_ID:
            del self._known[actor_id]
            self._gone.append(actor_id)
        return gone

    def activate(self) -> tuple[list[Actor], list[int]]:
        """Begin a tick: what was asked for becomes real. Returns the new actors and the ids that ended."""
        new = [one for one in self._new if one.id in self._known]
        gone = [one for one in self._gone if one in self.actors]
        self._new, self._gone = [], []
        self.actors.update({one.id: one for one in new})
        for one in gone:
            del self.actors[one]
        return new, gone

    def withdraw(self, actor_id: int) -> None:
        """Take an actor that could not be opened, and what it carries, away at once."""
        for child in [one.id for one in self._known.values() if one.parent == actor_id]:
            self.withdraw(child)
        self._known.pop(actor_id, None)
        self.actors.pop(actor_id, None)
        self._through_bridge.discard(actor_id)

    def path(self, actor: Actor) -> str:
        """Topic path below /carla/, which is the frame name as well: parent's path / role."""
        above = self._known.get(actor.parent)
        return f"{self.path(above)}/{actor.role}" if above is not None else actor.role

    def _create(self, kind: str, role: str, parent: int, mount: Mount, attributes: Mapping[str, str]) -> int:
        if kind in PSEUDO:
            actor_id, self._next_pseudo = self._next_pseudo, self._next_pseudo + 1
        else:
            actor_id, self._next_sensor = self._next_sensor, self._next_sensor + 1
        _check_attributes(kind, mount, attributes)
        self._add(Actor(actor_id, kind, role or f"id_{actor_id}", parent, mount, dict(attributes)))
        return actor_id

    def _add(self, actor: Actor) -> None:
        self._known[actor.id] = actor
        self._new.append(actor)

    def _check_name(self, role: str, parent: int) -> None:
        if role and not is_name(role):
            raise ValueError(f"id is '{role}', {NAME_RULE}")
        taken = [one.type for one in self._known.values() if (one.role, one.parent) == (role, parent)]
        if role in OWN_TOPICS.get(parent, ()):
            taken.append("the bridge itself")
        above = self._known.get(parent)
        if above is not None and role in TOPICS_BELOW.get(above.type, ()):
            taken.append(f"a topic of {above.type}")
        if taken:
            raise ValueError(f"id '{role}' is taken by {taken[0]}")

    def _adopt_ego(self, role: str, parent: int) -> None:
        if role != self.role:
            raise ValueError(
                f"vehicle '{role}' cannot be spawned: the task brings its own traffic and one ego, '{self.role}'"
            )
        if parent != 0:
            raise ValueError(f"vehicle '{role}' cannot be attached to {parent}")
        self._through_bridge.add(EGO_ID)

    @staticmethod
    def _blueprint(kind: str) -> str:
        """The blueprint of a name or wildcard; every vehicle name stands for the one ego."""
        if kind.startswith("vehicle."):
            return EGO_BLUEPRINT
        matching = blueprints(kind)
        if not matching:
            raise ValueError(f"blueprint '{kind}' does not exist here; there are {', '.join(BLUEPRINTS)}")
        return matching[0]


def _check_attributes(kind: str, mount: Mount, attributes: Mapping[str, str]) -> None:
    if kind == CAMERA:
        camera_config(attributes)
    if kind == LIDAR:
        lidar_config(attributes, mount.position[2])
    if not all(abs(value) <= MAX_COORDINATE_M for value in mount.position):
        limit = f"must be finite and at most {MAX_COORDINATE_M:g} m from its parent in each axis"
        raise ValueError(f"{kind}: its position is {mount.position}, {limit}")
    if kind in LEVEL:
        _check_level(kind, mount)


def _check_level(kind: str, mount: Mount) -> None:
    if not mount.tilt <= LEVEL_RAD:
        raise ValueError(
            f"{kind}: its roll and pitch tilt it by {mount.tilt:.3f} rad, must be 0: only yaw is simulated"
        )


def blueprints(pattern: str) -> list[str]:
    """Blueprints whose names match a shell pattern, sorted; the empty pattern matches all."""
    return [name for name in BLUEPRINTS if fnmatchcase(name, pattern or "*")]


_GLOBAL = (
    (TRAFFIC_LIGHTS, "traffic_lights"),
    (OBJECTS, "objects"),
    (ACTOR_LIST, "actor_list"),
    (MARKERS, "markers"),
    (OPENDRIVE_MAP, "map"),
)
"""Global entries of objects.json, in its order."""

_ON_EGO: tuple[tuple[str, str, Vector], ...] = (
    (CAMERA, "rgb_view", (0.0, 0.0, 0.0)),
    (LIDAR, "lidar", (0.0, 0.0, 2.4)),
    (GNSS, "gnss", (1.0, 0.0, 2.0)),
    (IMU, "imu", (2.0, 0.0, 2.0)),
    (COLLISION, "collision", (0.0, 0.0, 0.0)),
    (LANE_INVASION, "lane_invasion", (0.0, 0.0, 0.0)),
    (TF, "tf", (0.0, 0.0, 0.0)),
    (OBJECTS, "objects", (0.0, 0.0, 0.0)),
    (ODOM, "odometry", (0.0, 0.0, 0.0)),
    (SPEEDOMETER, "speedometer", (0.0, 0.0, 0.0)),
    (CONTROL, "control", (0.0, 0.0, 0.0)),
)
"""Ego entries of objects.json that exist here, in its order."""
