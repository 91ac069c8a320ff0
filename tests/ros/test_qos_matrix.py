"""Connects or complains: every quality of service a publisher may have gives data, or a diagnostic with the policy.

Reliability x durability x deadline of publishers against every subscription of the planner and the finetuner.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import rclpy
from adawm_msgs.msg import AdapterUpdate, Experience, GateStatus
from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaStatus,
    CarlaWorldInfo,
)
from derived_object_msgs.msg import ObjectArray
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import ERROR, OK, State
from adawm_planner.ros.planner_node import PlannerNode
from adawm_planner.ros.qos_watch import QosWatch
from tests.ros.spinner import Spinner
from tests.runtime.fake_engine import FakeEngine

EGO = "/carla/ego_vehicle"
INPUTS: dict[str, type[Any]] = {
    "/carla/status": CarlaStatus,
    "/carla/world_info": CarlaWorldInfo,
    f"{EGO}/vehicle_info": CarlaEgoVehicleInfo,
    f"{EGO}/waypoints": Path,
    f"{EGO}/collision": CarlaCollisionEvent,
    f"{EGO}/vehicle_status": CarlaEgoVehicleStatus,
    f"{EGO}/odometry": Odometry,
    f"{EGO}/objects": ObjectArray,
    f"{EGO}/vehicle_control_manual_override": Bool,
    "/adawm_finetuner/adapter": AdapterUpdate,
    "/adawm_gate/status": GateStatus,
}
"""Every topic the planner subscribes to."""

PROFILES = {"stream": qos.STREAM, "sent_once": qos.SENT_ONCE, "route": qos.ROUTE, "experience": qos.EXPERIENCE}
OFFERS = list(
    product(
        (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT),
        (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE),
        (None, 0.1),
    )
)


def offer(reliability: ReliabilityPolicy, durability: DurabilityPolicy, deadline_s: float | None) -> QoSProfile:
    deadline = {} if deadline_s is None else {"deadline": Duration(seconds=deadline_s)}
    return QoSProfile(depth=1, reliability=reliability, durability=durability, **deadline)


class Ends(Spinner):
    """Two nodes."""

    def __init__(self, context: Context, here: Node, there: Node) -> None:
        super().__init__(context, here, there)
        self.here, self.there = here, there


def wanted_policies(profile: QoSProfile, durability: DurabilityPolicy, reliability: ReliabilityPolicy) -> set[str]:
    """By ROS 2's own table: what keeps an offer from a reliable subscription without a deadline."""
    missing = set()
    if reliability == ReliabilityPolicy.BEST_EFFORT:
        missing.add("reliability")
    if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL and durability == DurabilityPolicy.VOLATILE:
        missing.add("durability")
    return missing


@pytest.mark.parametrize(("reliability", "durability", "deadline_s"), OFFERS)
def test_every_input_of_the_planner_connects_or_complains(
    context: Context, reliability: ReliabilityPolicy, durability: DurabilityPolicy, deadline_s: float | None
) -> None:
    planner = PlannerNode(lambda values: FakeEngine(), context=context)
    assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS
    heard: set[str] = set()
    subscriptions = {one.topic_name: one for one in planner.subscriptions if one.topic_name in INPUTS}
    assert set(subscriptions) == set(INPUTS)
    for topic, one in subscriptions.items():
        one.callback = lambda message, topic=topic: heard.add(topic)
    ends = Ends(context, planner, rclpy.create_node("other", context=context))
    made = {
        topic: ends.there.create_publisher(kind, topic, offer(reliability, durability, deadline_s))
        for topic, kind in INPUTS.items()
    }

    def complained() -> dict[str, State]:
        states = planner.diagnostics.states()
        return {name.removeprefix("qos "): one for name, one in states.items() if name.startswith("qos ")}

    def settled() -> bool:
        for topic, publisher in made.items():
            publisher.publish(INPUTS[topic]())
        return heard | set(complained()) == set(INPUTS)

    assert ends.spin_until(settled), set(INPUTS) - heard - set(complained())
    for topic in INPUTS:
        policies = wanted_policies(subscriptions_profile(planner, topic), durability, reliability)
        if not policies:
            assert topic in heard and topic not in complained()
            continue
        state = complained()[topic]
        assert topic not in heard and state.level == ERROR
        assert "/other" in state.message and "/adawm_planner" in state.message
        assert all(policy in state.message for policy in policies), state.message
    ends.close()


def subscriptions_profile(node: Node, topic: str) -> QoSProfile:
    """The quality the middleware says our subscription has."""
    return next(
        one.qos_profile for one in node.get_subscriptions_info_by_topic(topic) if one.node_name == node.get_name()
    )


@pytest.mark.parametrize(("reliability", "durability", "deadline_s"), OFFERS)
def test_a_subscription_with_a_deadline_connects_or_complains(
    context: Context, reliability: ReliabilityPolicy, durability: DurabilityPolicy, deadline_s: float | None
) -> None:
    """The nodes themselves ask for no deadline; one that does is told of it likewise, in every profile of theirs."""
    states: dict[str, State] = {}
    heard: set[str] = set()
    ends = Ends(context, rclpy.create_node("asker", context=context), rclpy.create_node("other", context=context))
    watch = QosWatch(ends.here, states.__setitem__)
    made = {}
    for name, profile in PROFILES.items():
        asked = QoSProfile(
            depth=1,
            reliability=profile.reliability,
            durability=profile.durability,
            deadline=Duration(seconds=0.2),
        )
        topic = f"/matrix/{name}"
        ends.here.create_subscription(
            Bool, topic, lambda message, topic=topic: heard.add(topic), asked, event_callbacks=watch.subscription(topic)
        )
        made[topic] = ends.there.create_publisher(Bool, topic, offer(reliability, durability, deadline_s))

    def settled() -> bool:
        for publisher in made.values():
            publisher.publish(Bool())
        return heard | {name.removeprefix("qos ") for name in states} == set(made)

    assert ends.spin_until(settled)
    for name, profile in PROFILES.items():
        policies = wanted_policies(profile, durability, reliability) | (set() if deadline_s else {"deadline"})
        topic = f"/matrix/{name}"
        assert (topic in heard) == (not policies)
        assert all(policy in states[f"qos {topic}"].message for policy in policies)
    ends.close()


def test_a_cause_that_is_gone_ends_the_complaint(context: Context) -> None:
    states: dict[str, State] = {}
    ends = Ends(context, rclpy.create_node("asker", context=context), rclpy.create_node("other", context=context))
    watch = QosWatch(ends.here, states.__setitem__)
    ends.here.create_subscription(Bool, "/a", print, qos.STREAM, event_callbacks=watch.subscription("/a"))
    bad = ends.there.create_publisher(Bool, "/a", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    assert ends.spin_until(lambda: "qos /a" in states)
    watch.look_again()
    assert states["qos /a"].level == ERROR and "/other offers best effort" in states["qos /a"].message
    ends.there.destroy_publisher(bad)

    def over() -> bool:
        watch.look_again()
        return states["qos /a"].level == OK

    assert ends.spin_until(over)
    ends.close()


def test_commands_that_do_not_get_there_are_complained_of(context: Context) -> None:
    planner = PlannerNode(lambda values: FakeEngine(), context=context)
    assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS
    ends = Ends(context, planner, rclpy.create_node("bridge", context=context))
    topic = f"{EGO}/vehicle_control_cmd"
    lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ends.there.create_subscription(CarlaEgoVehicleControl, topic, lambda message: None, lasting)
    assert ends.spin_until(lambda: f"qos {topic}" in planner.diagnostics.states())
    message = planner.diagnostics.states()[f"qos {topic}"].message
    assert "durability: /adawm_planner offers volatile, /bridge asks for transient local" in message
    assert planner.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert planner.diagnostics.states()[f"qos {topic}"].level == OK
    ends.close()


def test_the_finetuner_complains_of_experience_that_does_not_arrive(context: Context, tmp_path: Any) -> None:
    from rclpy.parameter import Parameter

    from adawm_planner.adaptation.source_file import source_file
    from adawm_planner.config.adaptation import load_adaptation
    from adawm_planner.paths import default_model_dir
    from adawm_planner.ros.finetuner_node import EXPERIENCE_TOPIC, FinetunerNode
    from adawm_planner.runtime.model_files import digest

    source_file(digest(default_model_dir()), load_adaptation(None, "default"), tmp_path).touch()
    idle = ["sleep", "30"]
    node = FinetunerNode(idle, context=context, parameter_overrides=[Parameter("state_dir", value=str(tmp_path))])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    ends = Ends(context, node, rclpy.create_node("other", context=context))
    ends.there.create_publisher(
        Experience, f"/{EXPERIENCE_TOPIC}", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    name = f"qos /{EXPERIENCE_TOPIC}"
    assert ends.spin_until(lambda: name in node.diagnostics.states())
    assert "reliability: /other offers best effort" in node.diagnostics.states()[name].message
    node.trigger_cleanup()
    ends.close()
