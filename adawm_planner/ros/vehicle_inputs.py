"""What planner and gate both take from a vehicle's topics: each message is converted and handed on.

What cannot be used is said in the diagnostics, with the reason, and counts as missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from carla_msgs.msg import CarlaEgoVehicleInfo, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry, Path

from adawm_planner.data_types import Route, VehicleInfo
from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, State
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.frame_inputs import OBJECTS, ODOMETRY, ROUTE, STATUS, VEHICLE, Part
from adawm_planner.runtime.watchdog import WorldClock

Topic = tuple[type[Any], str, Any, Callable[[Any], None]]
"""Message type, name, quality of service, and who takes the messages."""

STAMP_END = 12
"""Bytes of a serialized message up to the end of its header's stamp: CDR's own four, seconds, nanoseconds."""

UNPACKED_HERE = (Path, ObjectArray)
"""Types that come as bytes, since rclpy takes too long to unpack them: see ros/cdr.py."""


class VehicleSink(Protocol):
    """Who takes what arrived; `now_s` is monotonic time."""

    def on_part(self, part: Part, now_s: float) -> None:
        """Take odometry, status or objects of a frame."""

    def on_world(self, world: WorldClock, now_s: float) -> None:
        """Take the world's frame and time."""

    def on_vehicle(self, vehicle: VehicleInfo) -> None:
        """Take the vehicle's description."""

    def on_route(self, route: Route | None) -> None:
        """Take a route; None: it was withdrawn or cannot be used."""


class VehicleInputs:
    """Subscribes and converts; keeps nothing but the ego's own id and the newest route."""

    def __init__(
        self,
        node: WatchedNode,
        values: dict[str, Any],
        sink: VehicleSink,
        before: Sequence[Topic] = (),
        after: Sequence[Topic] = (),
    ) -> None:
        """Open the inputs.

        Args:
            node: theirs; its diagnostics are told what was refused, its watch of topics that do not match.
            values: of the parameters.
            sink: gets what arrives.
            before: topics of the node's own that are to be taken before the vehicle's, of several that wait.
            after: and those after them.
        """
        self._node, self._sink = node, sink
        self._size = (values["vehicle.length_m"], values["vehicle.width_m"])
        self._ego_id: int | None = None
        self._objects_refused = False
        self._path = b""  # the newest route as it came, without its stamp
        self._route: Route | None = None
        prefix = f"/carla/{values['role_name']}"
        # What is sent once comes first: of several waiting messages the executor takes them in this order.
        table: list[Topic] = [
            *before,
            *self._world_topics(values["use_world_status"]),
            (CarlaEgoVehicleInfo, f"{prefix}/{VEHICLE}", qos.SENT_ONCE, self._on_vehicle),
            (Path, f"{prefix}/{ROUTE}", qos.ROUTE, self._on_route),
            (CarlaEgoVehicleStatus, f"{prefix}/{STATUS}", qos.STREAM, self._on_status),
            (Odometry, f"{prefix}/{ODOMETRY}", qos.STREAM, self._on_odometry),
            (ObjectArray, f"{prefix}/{OBJECTS}", qos.STREAM, self._on_objects),
            *after,
        ]
        self._open = [
            node.create_subscription(
                kind, name, call, profile, raw=kind in UNPACKED_HERE, event_callbacks=node.watch.subscription(name)
            )
            for kind, name, profile, call in table
        ]

    def destroy(self) -> None:
        """Close the inputs."""
        for subscription in self._open:
            self._node.destroy_subscription(subscription)

    def _world_topics(self, believed: bool) -> list[Topic]:
        """Where the world says that it is paused or stepped; a vehicle's is neither, whoever says so."""
        return [(CarlaStatus, "/carla/status", qos.STREAM, self._on_world)] if believed else []

    def _on_odometry(self, message: Odometry) -> None:
        self._sink.on_part(convert.odometry_input(message), time.monotonic())

    def _on_status(self, message: CarlaEgoVehicleStatus) -> None:
        self._sink.on_part(convert.status_input(message), time.monotonic())

    def _on_objects(self, raw: bytes) -> None:
        """Hand on the objects; a message that cannot be read counts as missing."""
        try:
            part = convert.objects_input(raw, self._ego_id)
        except ValueError as error:
            self._node.note("objects", State(ERROR, f"objects refused: {error}; the vehicle is braked"))
            self._objects_refused = True
            return
        if self._objects_refused:
            self._node.note("objects", State(OK, "can be read again"))
            self._objects_refused = False
        self._sink.on_part(part, time.monotonic())

    def _on_world(self, message: CarlaStatus) -> None:
        self._sink.on_world(convert.world_clock(message), time.monotonic())

    def _on_vehicle(self, message: CarlaEgoVehicleInfo) -> None:
        self._ego_id = int(message.id) or None  # 0: not said, and then no object may be taken for the ego
        try:
            vehicle = convert.vehicle_info(message, *self._size)
        except ValueError as error:
            self._node.note("vehicle", State(ERROR, f"vehicle_info refused: {error}; fix the vehicle's description"))
            return
        text = f"{message.type}: {vehicle.mass:.0f} kg, wheelbase {vehicle.wheelbase:.2f} m"
        self._node.note("vehicle", State(OK, text))
        self._sink.on_vehicle(vehicle)

    def _on_route(self, raw: bytes) -> None:
        """Hand on a route; the same one again is not unpacked, so that a publisher may repeat it at every frame."""
        if raw[STAMP_END:] != self._path:
            self._path, self._route = raw[STAMP_END:], self._unpacked(raw)
        self._sink.on_route(self._route)

    def _unpacked(self, raw: bytes) -> Route | None:
        """The route of a serialized Path; None where it cannot be used, or was withdrawn."""
        try:
            route = convert.route_from_path(raw)
            state = State(OK, f"{route.length:.0f} m") if route else State(WARN, "withdrawn: the path is empty")
        except ValueError as error:
            route, state = None, State(ERROR, f"waypoints refused: {error}; publish another path")
        self._node.note("route", state)
        return route
