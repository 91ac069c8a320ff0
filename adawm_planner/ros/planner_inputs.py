"""The planner's subscriptions: what arrives is handed to planner_loop, and what follows from it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from carla_msgs.msg import CarlaCollisionEvent, CarlaWorldInfo

from adawm_planner.data_types import Route, VehicleInfo
from adawm_planner.observation.drivable import drivable_from_opendrive
from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import OK, WARN, State
from adawm_planner.ros.vehicle_inputs import Topic, VehicleInputs
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.frame_inputs import Part
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.watchdog import WorldClock

Send = Callable[[Outgoing | None], None]

_CORRIDOR = "the corridor along the route is used instead"


class PlannerInputs:
    """A VehicleSink in front of the loop; keeps nothing but what recognises a repeated map."""

    def __init__(self, node: WatchedNode, values: dict[str, Any], loop: PlannerLoop, send: Send) -> None:
        """Open the inputs.

        Args:
            node: theirs.
            values: of the parameters.
            loop: takes what arrives.
            send: publishes what follows from an input.
        """
        self._node, self._loop, self._send = node, loop, send
        self._map_text: str | None = None
        collision = f"/carla/{values['role_name']}/collision"
        topics: list[Topic] = [(CarlaCollisionEvent, collision, qos.STREAM, self._on_collision)]
        if values["use_map"]:
            topics.insert(0, (CarlaWorldInfo, "/carla/world_info", qos.SENT_ONCE, self._on_map))
        self._vehicle = VehicleInputs(node, values, self, before=topics)

    def destroy(self) -> None:
        """Close the inputs."""
        self._vehicle.destroy()

    def on_part(self, part: Part, now_s: float) -> None:
        """Take a part of a frame; the last one is answered."""
        self._send(self._loop.on_part(part, now_s))

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take the world's frame and time."""
        self._loop.on_world(world, now_s)

    def on_vehicle(self, vehicle: VehicleInfo) -> None:
        """Take the vehicle's description, which a frame may have waited for."""
        self._send(self._loop.on_vehicle(vehicle))

    def on_route(self, route: Route | None) -> None:
        """Take a route, which a frame may have waited for."""
        self._send(self._loop.on_route(route))

    def _on_collision(self, message: CarlaCollisionEvent) -> None:
        self._loop.core.note_collision()

    def _on_map(self, message: CarlaWorldInfo) -> None:
        if message.opendrive == self._map_text:
            return
        self._map_text = message.opendrive
        try:
            drivable = drivable_from_opendrive(message.opendrive)
            state = State(WARN, f"no carla wheel to read OpenDRIVE with; {_CORRIDOR}")
        except ValueError as error:
            drivable, state = None, State(WARN, f"{error}; {_CORRIDOR}")
        self._node.note("map", state if drivable is None else State(OK, str(message.map_name)))
        self._send(self._loop.on_map(drivable))
