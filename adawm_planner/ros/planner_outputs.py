"""Answers in, the planner's topics out: the command first, everything for people and learning after it.

Pictures and the imagined path are made only while somebody subscribes to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from adawm_msgs.msg import Experience as ExperienceMessage
from adawm_msgs.msg import PlannerStatus
from carla_msgs.msg import CarlaEgoVehicleControl
from nav_msgs.msg import Path
from rclpy.duration import Duration
from sensor_msgs.msg import Image

from adawm_planner.angles import wrap_angle
from adawm_planner.data_types import Command, Experience, Float64, Scene
from adawm_planner.dims import DECISION_S
from adawm_planner.observation.picture import bev_picture, imagined_picture
from adawm_planner.observation.route import project
from adawm_planner.ros import qos
from adawm_planner.ros.convert import (
    byte_array,
    control_message,
    float_array,
    image_message,
    make_header,
    path_message,
)
from adawm_planner.ros.planner_adapters import active_infos
from adawm_planner.ros.timing import TimingTopic
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.engine import Engine
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap.messages import Report

LAST_COMMAND_S = 0.5
"""Longest wait for the last command's acknowledgement [s]."""


class PlannerOutputs:
    """The planner's publishers; lifecycle publishers, so that nothing leaves an inactive planner."""

    def __init__(self, node: WatchedNode, control_topic: str, ego_frame: str) -> None:
        """Create the publishers on a node; its watch is told when commands or experience do not get there."""
        self._node, self._ego_frame = node, ego_frame
        make = node.create_lifecycle_publisher
        commands, experience = node.watch.publisher(control_topic), node.watch.publisher("~/experience")
        self._control = make(CarlaEgoVehicleControl, control_topic, qos.STREAM, event_callbacks=commands)
        self._plan = make(Path, "~/plan", qos.STREAM)
        self._bev = make(Image, "~/bev", qos.STREAM)
        self._imagined = make(Image, "~/imagined", qos.STREAM)
        self._experience = make(ExperienceMessage, "~/experience", qos.EXPERIENCE, event_callbacks=experience)
        self._status = node.create_publisher(PlannerStatus, "~/status", qos.STATUS)
        self.timing = TimingTopic(node)

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        for publisher in (self._control, self._plan, self._bev, self._imagined, self._experience):
            self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._status)
        self.timing.destroy()

    def command(self, command: Command, stamp_ns: int) -> None:
        """Send a command."""
        self._control.publish(control_message(command, stamp_ns))

    def last_command(self, command: Command, stamp_ns: int) -> None:
        """Send a command and wait until it has arrived: the publisher may be gone right after."""
        self.command(command, stamp_ns)
        self._control.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))

    def after_command(self, out: Outgoing, loop: PlannerLoop) -> None:
        """Send what the vehicle need not wait for."""
        answer = out.answer
        for one in answer.experiences:
            self._experience.publish(experience_message(one, loop.core.engine, 1e3 * loop.times.latency.newest))
        if answer.decision is None or answer.scene is None or loop.core.state is None:
            return
        if _watched(self._bev):
            picture = bev_picture(answer.decision.observation.bev)
            self._bev.publish(image_message(picture, out.stamp_ns, self._ego_frame))
        if _watched(self._plan) or _watched(self._imagined):
            self._imagine(answer.scene, out.stamp_ns, loop)

    def status(self, loop: PlannerLoop, mode: int, reason: str, report: Report) -> None:
        """Publish what the planner is doing; `report` tells of adapters."""
        self._status.publish(status_message(loop, mode, reason, self._node.get_clock().now().to_msg(), report))

    def _imagine(self, scene: Scene, stamp_ns: int, loop: PlannerLoop) -> None:
        assert loop.core.state is not None
        imagined = loop.core.engine.imagine(loop.core.state.carry)
        if _watched(self._plan):
            x, y, yaw = imagined_path(scene, imagined.speed)
            stamps = [stamp_ns + round(k * DECISION_S * 1e9) for k in range(len(x))]
            self._plan.publish(path_message(x, y, yaw, stamps))
        if _watched(self._imagined):
            picture = imagined_picture(imagined.bev, DECISION_S)
            self._imagined.publish(image_message(picture, stamp_ns, self._ego_frame))


def imagined_path(scene: Scene, speed: Any) -> tuple[Float64, Float64, Float64]:
    """Drive the route at imagined speeds (K,) [m/s]; poses (K + 1,) [m, m, rad], the first is the ego's.

    The ego's distance from the route is kept in the first pose and gone in the next ones: the tracking
    controller steers back, and what is imagined is speed.
    """
    route, ego = scene.route, scene.ego
    start = project(route, ego.x, ego.y, scene.near).s
    s = np.minimum(start + np.cumsum(np.maximum(np.asarray(speed, dtype=np.float64), 0.0) * DECISION_S), route.length)
    x = np.concatenate([[ego.x], np.interp(s, route.s, route.x)])
    y = np.concatenate([[ego.y], np.interp(s, route.s, route.y)])
    yaw = np.concatenate([[ego.yaw], [wrap_angle(float(angle)) for angle in np.interp(s, route.s, route.yaw)]])
    return x, y, yaw


def experience_message(one: Experience, engine: Engine, latency_ms: float) -> ExperienceMessage:
    """Return an Experience as it goes over the wire; the raster is sent raw.

    Args:
        one: what was decided.
        engine: the base model it was decided with.
        latency_ms: newest input's arrival to action.
    """
    channels, height, width = one.observation.bev.shape
    return ExperienceMessage(
        header=make_header(round(one.stamp_s * 1e9), "map"),
        sequence=one.sequence,
        episode=one.episode,
        bev_encoding=ExperienceMessage.BEV_RAW,
        bev_channels=channels,
        bev_height=height,
        bev_width=width,
        bev=byte_array(one.observation.bev.tobytes()),
        state=float_array(one.observation.state),
        action=one.action.index,
        acceleration=float(one.action.acceleration),
        action_probabilities=float_array(one.action.probabilities),
        value=float(one.value),
        reward_progress=float(one.reward.progress),
        reward_speed=float(one.reward.speed),
        reward_collision=float(one.reward.collision),
        reward_lateral=float(one.reward.lateral),
        reward_destination=float(one.reward.destination),
        is_first=one.is_first,
        is_last=one.is_last,
        is_terminal=one.is_terminal,
        intervention=one.intervention,
        base_digest=engine.digest,
        adapter_digests=list(one.adapter_digests),
        decision_latency_ms=float(latency_ms),
    )


def status_message(loop: PlannerLoop, mode: int, reason: str, stamp: Any, report: Report) -> PlannerStatus:
    """Return the planner's status."""
    counters = loop.counters
    p50, p99, top = loop.times.latency.percentiles_ms()
    inference_p50, inference_p99, _ = loop.times.inference.percentiles_ms()
    message = PlannerStatus(
        mode=mode,
        reason=reason,
        provider=loop.core.engine.provider,
        base_digest=loop.core.engine.digest,
        frames=counters.frames,
        commands=counters.commands,
        decisions=counters.decisions,
        missed_ticks=counters.missed_ticks,
        episodes=loop.core.episodes,
        latency_p50_ms=p50,
        latency_p99_ms=p99,
        latency_max_ms=top,
        inference_p50_ms=inference_p50,
        inference_p99_ms=inference_p99,
    )
    message.header.stamp = stamp
    message.adapters = active_infos(report)
    message.swaps, message.refusals = report.swaps, report.refusals
    message.last_refusal, message.swap_ms = report.last_refusal, report.swap_ms
    return message


def _watched(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
