"""The planner's subscriptions: each message is converted and handed to planner_loop.

What cannot be used is said in the diagnostics, with the reason, and counts as missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaStatus,
    CarlaWorldInfo,
)
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode

from adawm_planner.observation.drivable import drivable_from_opendrive
from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, State
from adawm_planner.ros.qos_watch import QosWatch
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE, Part
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop

Send = Callable[[Outgoing | None], None]
Note = Callable[[str, State], object]

_CORRIDOR = "the corridor along the route is used instead"


class PlannerInputs:
    """Subscribes and converts; keeps nothing but what recognises a repeated map and the ego's own id."""

    def __init__(
        self, node: LifecycleNode, values: dict[str, Any], loop: PlannerLoop, send: Send, note: Note, watch: QosWatch
    ) -> None:
        """Open the inputs.

        Args:
            values: of the parameters.
            send: publishes what follows from an input.
            note: keeps a state for the diagnostics.
            watch: told of topics that do not match.
        """
        self._node, self._loop, self._send, self._note = node, loop, send, note
        self._size = (values["vehicle.length_m"], values["vehicle.width_m"])
        self._ego_id: int | None = None
        self._map_text: str | None = None
        prefix = f"/carla/{values['role_name']}"
        # What is sent once comes first: of several waiting messages the executor takes them in this order.
        table: list[tuple[type[Any], str, Any, Callable[[Any], None]]] = [
            (CarlaStatus, "/carla/status", qos.STREAM, self._on_world),
            (CarlaEgoVehicleInfo, f"{prefix}/{VEHICLE}", qos.SENT_ONCE, self._on_vehicle),
            (Path, f"{prefix}/{ROUTE}", qos.ROUTE, self._on_route),
            (CarlaCollisionEvent, f"{prefix}/collision", qos.STREAM, self._on_collision),
            (CarlaEgoVehicleStatus, f"{prefix}/{STATUS}", qos.STREAM, self._on_status),
            (Odometry, f"{prefix}/{ODOMETRY}", qos.STREAM, self._on_odometry),
            (ObjectArray, f"{prefix}/{OBJECTS}", qos.STREAM, self._on_objects),
        ]
        if values["use_map"]:
            table.insert(0, (CarlaWorldInfo, "/carla/world_info", qos.SENT_ONCE, self._on_map))
        self._open = [
            node.create_subscription(kind, name, call, profile, event_callbacks=watch.subscription(name))
            for kind, name, profile, call in table
        ]

    def destroy(self) -> None:
        """Close the inputs."""
        for subscription in self._open:
            self._node.destroy_subscription(subscription)

    def _on_odometry(self, message: Odometry) -> None:
        self._on_part(convert.odometry_input(message))

    def _on_status(self, message: CarlaEgoVehicleStatus) -> None:
        self._on_part(convert.status_input(message))

    def _on_objects(self, message: ObjectArray) -> None:
        self._on_part(convert.objects_input(message, self._ego_id))

    def _on_part(self, part: Part) -> None:
        self._send(self._loop.on_part(part, time.monotonic()))

    def _on_world(self, message: CarlaStatus) -> None:
        self._loop.on_world(convert.world_clock(message), time.monotonic())

    def _on_collision(self, message: CarlaCollisionEvent) -> None:
        self._loop.core.note_collision()

    def _on_vehicle(self, message: CarlaEgoVehicleInfo) -> None:
        self._ego_id = int(message.id)
        try:
            vehicle = convert.vehicle_info(message, *self._size)
        except ValueError as error:
            self._note("vehicle", State(ERROR, f"vehicle_info refused: {error}; fix the vehicle's description"))
            return
        self._note("vehicle", State(OK, f"{message.type}: {vehicle.mass:.0f} kg, wheelbase {vehicle.wheelbase:.2f} m"))
        self._send(self._loop.on_vehicle(vehicle))

    def _on_route(self, message: Path) -> None:
        try:
            route = convert.route_from_path(message)
            state = State(OK, f"{route.length:.0f} m") if route else State(WARN, "withdrawn: the path is empty")
        except ValueError as error:
            route, state = None, State(ERROR, f"waypoints refused: {error}; publish another path")
        self._note("route", state)
        self._send(self._loop.on_route(route))

    def _on_map(self, message: CarlaWorldInfo) -> None:
        if message.opendrive == self._map_text:
            return
        self._map_text = message.opendrive
        try:
            drivable = drivable_from_opendrive(message.opendrive)
            state = State(WARN, f"no carla wheel to read OpenDRIVE with; {_CORRIDOR}")
        except ValueError as error:
            drivable, state = None, State(WARN, f"{error}; {_CORRIDOR}")
        self._note("map", state if drivable is None else State(OK, str(message.map_name)))
        self._send(self._loop.on_map(drivable))
