"""Endpoints of a ROS graph in, findings out: what does not reach whom, and which policy is to blame.

Knows nothing of ROS itself; ros/graph_check.py gathers the facts. Compatibility is that of the ROS 2
documentation's "About Quality of Service settings": a subscription asks, a publisher offers, and the offer must be
at least as strict in every policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from adawm_planner.diagnosis.check import Check, fine, wrong


@dataclass(frozen=True)
class Stack:
    """Names of the nodes of one stack, and of the topic between them."""

    namespace: str = ""  # as the launch files take it, without slashes around it

    @property
    def planner(self) -> str:
        """Name with its namespace, as those of the others."""
        return self._named("adawm_planner")

    @property
    def gate(self) -> str:
        """The gate."""
        return self._named("adawm_gate")

    @property
    def proposed(self) -> str:
        """Where a planner that is held by a gate publishes what it wants."""
        return f"{self.gate}/proposed"

    @property
    def clock_users(self) -> tuple[str, ...]:
        """Nodes that take the time others make."""
        return self.planner, self.gate, self._named("adawm_finetuner")

    @property
    def nodes(self) -> tuple[str, ...]:
        """All of them."""
        return *self.clock_users, self._named("sim_bridge")

    def _named(self, node: str) -> str:
        return f"/{self.namespace}/{node}" if self.namespace else f"/{node}"


@dataclass(frozen=True)
class Quality:
    """The policies of one endpoint that decide who can talk to whom."""

    reliable: bool = True
    lasting: bool = False  # transient local
    deadline_s: float = math.inf  # s between two messages at most
    manual: bool = False  # liveliness by topic, not automatic
    lease_s: float = math.inf  # s between two signs of life at most


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscription, as the graph tells of it."""

    topic: str
    node: str  # name with its namespace
    publishes: bool
    kind: str  # package/msg/Type
    quality: Quality = Quality()
    type_hash: str = ""  # REP-2011; empty where the middleware tells none


@dataclass(frozen=True)
class Need:
    """One topic that must have an endpoint at the other side of the planner."""

    topic: str
    kind: str  # package/msg/Type
    quality: Quality = Quality()  # of the planner's end
    produced: bool = True  # False: the planner publishes it and somebody must listen


@dataclass(frozen=True)
class Mismatch:
    """A policy in which an offer falls short of what is asked for."""

    policy: str  # reliability, durability, deadline or liveliness
    offered: str
    asked: str


def needs(role: str) -> list[Need]:
    """What a planner for this role needs of the graph."""
    ego, lasting = f"/carla/{role}", Quality(lasting=True)
    return [
        Need("/clock", "rosgraph_msgs/msg/Clock"),
        Need(f"{ego}/odometry", "nav_msgs/msg/Odometry"),
        Need(f"{ego}/objects", "derived_object_msgs/msg/ObjectArray"),
        Need(f"{ego}/vehicle_status", "carla_msgs/msg/CarlaEgoVehicleStatus"),
        Need(f"{ego}/vehicle_info", "carla_msgs/msg/CarlaEgoVehicleInfo", lasting),
        Need(f"{ego}/waypoints", "nav_msgs/msg/Path", lasting),
        Need(f"{ego}/vehicle_control_cmd", "carla_msgs/msg/CarlaEgoVehicleControl", produced=False),
    ]


def mismatches(offered: Quality, asked: Quality) -> list[Mismatch]:
    """Every policy because of which nothing of this offer arrives; empty where the two match."""
    found = []
    if asked.reliable and not offered.reliable:
        found.append(Mismatch("reliability", "best effort", "reliable"))
    if asked.lasting and not offered.lasting:
        found.append(Mismatch("durability", "volatile", "transient local"))
    if offered.deadline_s > asked.deadline_s:
        found.append(Mismatch("deadline", _period(offered.deadline_s), _period(asked.deadline_s)))
    if asked.manual and not offered.manual:
        found.append(Mismatch("liveliness", "automatic", "manual by topic"))
    elif offered.lease_s > asked.lease_s:
        found.append(Mismatch("liveliness", f"lease {_period(offered.lease_s)}", f"lease {_period(asked.lease_s)}"))
    return found


def judge(
    endpoints: Sequence[Endpoint],
    role: str,
    simulated: bool = True,
    hashes: Mapping[str, str] | None = None,
    stack: Stack = Stack(),
) -> list[Check]:
    """Everything that is wrong with a graph, and one line for each need that is met.

    Args:
        endpoints: of all topics, without the doctor's own.
        role: of the ego vehicle.
        simulated: whether the planner takes its time from /clock; False needs none.
        hashes: type -> REP-2011 hash this installation was built with; None compares nothing.
        stack: whose planner and gate.
    """
    stray = _other_role(endpoints, role)
    needed = [need for need in needs(role) if simulated or need.topic != "/clock"]
    found = [] if stray is None else [stray]
    for need in needed:
        for named in _as_named(need, endpoints, stack):
            found += _met(named, endpoints, hashes or {}, stack)
    return found + _unheard(endpoints, stack) + _unconnected(endpoints, role, stack)


def _as_named(need: Need, endpoints: Sequence[Endpoint], stack: Stack) -> list[Need]:
    """The need under each name that a running planner or gate has for its topic: a launch file may rename it."""
    topics = {
        one.topic
        for one in endpoints
        if one.node in (stack.planner, stack.gate) and one.kind == need.kind and one.publishes != need.produced
    }
    return [replace(need, topic=topic) for topic in sorted(topics - {stack.proposed})] or [need]


def _met(need: Need, endpoints: Sequence[Endpoint], hashes: Mapping[str, str], stack: Stack) -> list[Check]:
    """What is wrong with the other side of one need, else that it is met."""
    here = [one for one in endpoints if one.topic == need.topic]
    other = [one for one in here if one.publishes == need.produced]
    if not other:
        return [_missing(need, "publisher" if need.produced else "subscriber")]
    found = [
        wrong("type_differs", one.topic, f"{one.node}: {one.kind}", need.kind) for one in other if one.kind != need.kind
    ]
    known = hashes.get(need.kind, "")
    found += [_alien(one, known) for one in other if one.kind == need.kind and _differs(one, known)]
    sources = [one.node for one in here if one.publishes]
    if not sources and any(one.node == stack.planner for one in endpoints):
        found.append(_missing(need, "publisher"))  # the planner runs, and nobody commands the vehicle
    if len(sources) > 1:
        rule = "several_publishers" if need.produced else "several_controllers"
        found.append(wrong(rule, need.topic, f"{len(sources)} publishers: {', '.join(sources)}", "one publisher"))
    if need.produced and not any(one.node == stack.planner for one in here):
        # The planner does not run yet: say now what it would miss.
        asks = Endpoint(need.topic, f"{stack.planner} (not running)", False, need.kind, need.quality)
        found += _between(other, [asks])
    return found or [fine(need.topic, ", ".join(one.node for one in other))]


def _missing(need: Need, side: str) -> Check:
    return wrong("endpoint_missing", need.topic, f"no {side}", f"one {side} of {need.kind}")


def _unheard(endpoints: Iterable[Endpoint], stack: Stack) -> list[Check]:
    """What is wrong where proposals are published and no gate takes them."""
    here = [one for one in endpoints if one.topic == stack.proposed]
    if not here or not all(one.publishes for one in here):
        return []
    return [wrong("endpoint_missing", stack.proposed, "no subscriber", f"a gate, to which {here[0].node} proposes")]


def _differs(one: Endpoint, expected: str) -> bool:
    return bool(one.type_hash and expected and one.type_hash != expected)


def _alien(one: Endpoint, expected: str) -> Check:
    return wrong(
        "interface_differs", one.topic, f"{one.node}: {one.kind} {one.type_hash[:19]}...", f"{expected[:19]}..."
    )


def _other_role(endpoints: Iterable[Endpoint], role: str) -> Check | None:
    """Another role's odometry, where nothing of this role is published."""
    roles = set()
    for one in endpoints:
        parts = one.topic.split("/")
        if one.publishes and len(parts) == 4 and parts[1] == "carla" and parts[3] in ("odometry", "vehicle_status"):
            roles.add(parts[2])
    if role in roles or not roles:
        return None
    return wrong("wrong_role", f"/carla/{role}", f"topics of {', '.join(sorted(roles))}", f"topics of {role}")


def _unconnected(endpoints: Sequence[Endpoint], role: str, stack: Stack) -> list[Check]:
    """Pairs of the stack's topics whose policies keep them apart."""
    needed = {need.topic for need in needs(role)}
    topics: dict[str, list[Endpoint]] = {}
    for one in endpoints:
        topics.setdefault(one.topic, []).append(one)
    found = []
    for topic, here in sorted(topics.items()):
        ours = topic in needed or topic.startswith("/carla/") or any(one.node in stack.nodes for one in here)
        if ours:
            found += _between([one for one in here if one.publishes], [one for one in here if not one.publishes])
    return found


def _between(publishers: Sequence[Endpoint], subscriptions: Sequence[Endpoint]) -> list[Check]:
    return [
        wrong(
            f"qos_{gap.policy}",
            there.topic,
            f"{there.node} offers {gap.offered}",
            f"{gap.asked}, as {here.node} asks for",
        )
        for there in publishers
        for here in subscriptions
        for gap in mismatches(there.quality, here.quality)
    ]


def _period(seconds: float) -> str:
    return "none" if math.isinf(seconds) else f"{seconds:g} s"
