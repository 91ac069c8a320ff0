"""The bridge's services: spawning, and the waypoints of carla_waypoint_publisher."""

from __future__ import annotations

from collections.abc import Callable

from carla_msgs.srv import DestroyObject, GetBlueprints, SpawnObject
from carla_waypoint_types.msg import CarlaWaypoint
from carla_waypoint_types.srv import GetActorWaypoint, GetWaypoint
from geometry_msgs.msg import Pose
from rclpy.node import Node

from adawm_planner.ros.convert import quaternion_from_rpy
from adawm_planner.simulator.actors import EGO_ID, ActorRegistry, Mount, blueprints
from adawm_planner.simulator.lane_map import LaneMap

Position = tuple[float, float]


class SpawnServices:
    """/carla/spawn_object, /carla/destroy_object, /carla/get_blueprints.

    Args:
        place: moves the ego and returns why not, or nothing; called when it is spawned at a given pose.
    """

    def __init__(self, node: Node, registry: ActorRegistry, place: Callable[[Pose], str]) -> None:
        self._node, self._registry, self._place = node, registry, place
        node.create_service(SpawnObject, "/carla/spawn_object", self._spawn)
        node.create_service(DestroyObject, "/carla/destroy_object", self._destroy)
        node.create_service(GetBlueprints, "/carla/get_blueprints", self._blueprints)

    def _spawn(self, request: SpawnObject.Request, response: SpawnObject.Response) -> SpawnObject.Response:
        attributes = {pair.key: pair.value for pair in request.attributes}
        mount = mount_from_pose(request.transform)
        try:
            response.id = self._registry.spawn(request.type, request.id, request.attach_to, mount, attributes)
            self._place_ego(request, response.id)
        except ValueError as error:
            self._node.get_logger().warning(f"Error spawning object '{request.type}': {error}")
            response.id, response.error_string = -1, str(error)
            return response
        return response

    def _place_ego(self, request: SpawnObject.Request, spawned: int) -> None:
        if spawned == EGO_ID and not request.random_pose and (problem := self._place(request.transform)):
            raise ValueError(problem)

    def _destroy(self, request: DestroyObject.Request, response: DestroyObject.Response) -> DestroyObject.Response:
        response.success = bool(self._registry.destroy(request.id))
        return response

    def _blueprints(self, request: GetBlueprints.Request, response: GetBlueprints.Response) -> GetBlueprints.Response:
        response.blueprints = blueprints(request.filter)
        return response


class WaypointServices:
    """/carla_waypoint_publisher/ROLE/get_waypoint and get_actor_waypoint.

    Args:
        lanes: None without the carla wheel; every answer is then an all-zero waypoint and a log line.
        locate: position (x, y) [m, map] of an actor by id, None for an unknown one.
    """

    def __init__(self, node: Node, role: str, lanes: LaneMap | None, locate: Callable[[int], Position | None]) -> None:
        self._node, self._lanes, self._locate = node, lanes, locate
        prefix = f"/carla_waypoint_publisher/{role}"
        node.create_service(GetWaypoint, f"{prefix}/get_waypoint", self._by_location)
        node.create_service(GetActorWaypoint, f"{prefix}/get_actor_waypoint", self._by_actor)

    def _by_location(self, request: GetWaypoint.Request, response: GetWaypoint.Response) -> GetWaypoint.Response:
        at = request.location
        response.waypoint = self._waypoint(at.x, at.y, at.z)
        return response

    def _by_actor(
        self, request: GetActorWaypoint.Request, response: GetActorWaypoint.Response
    ) -> GetActorWaypoint.Response:
        position = self._locate(request.id)
        if position is None:
            self._node.get_logger().warning(f"get_actor_waypoint(): Actor {request.id} not valid.")
        else:
            response.waypoint = self._waypoint(*position, 0.0)
        return response

    def _waypoint(self, x: float, y: float, z: float) -> CarlaWaypoint:
        if self._lanes is None:
            self._node.get_logger().warning("waypoints need the carla wheel, which is not installed", once=True)
            return CarlaWaypoint()
        try:
            at = self._lanes.nearest(x, y, z)
        except ValueError as error:
            self._node.get_logger().warning(str(error))
            return CarlaWaypoint()
        found = CarlaWaypoint(
            road_id=at.road_id, section_id=at.section_id, lane_id=at.lane_id, is_junction=at.is_junction
        )
        position = found.pose.position
        position.x, position.y, position.z = at.x, at.y, at.z
        found.pose.orientation = quaternion_from_rpy(at.roll, at.pitch, at.yaw)
        return found


def mount_from_pose(pose: Pose) -> Mount:
    """Take a spawn pose."""
    p, q = pose.position, pose.orientation
    return Mount((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
