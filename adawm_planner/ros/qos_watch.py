"""Mismatches of quality of service, which otherwise only mean that nothing arrives, as diagnostics.

The middleware's event says at once that there is one; the graph then tells which nodes and what they offer or ask
for. A mismatch is over when nobody on the graph causes it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # its name in ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

from adawm_planner.diagnosis.graph import Endpoint, mismatches
from adawm_planner.ros.diagnostics import ERROR, OK, State
from adawm_planner.ros.endpoints import endpoint

Note = Callable[[str, State], object]


class QosWatch:
    """Hands out event callbacks for endpoints, and looks after the mismatches they told of."""

    def __init__(self, node: Node, note: Note) -> None:
        """Take the node whose endpoints are watched, and what keeps a state for its diagnostics."""
        self._node, self._note = node, note
        self._open: dict[tuple[str, bool], bool] = {}  # (topic, whether we publish it) -> culprits were seen

    def subscription(self, topic: str) -> SubscriptionEventCallbacks:
        """Callbacks for a subscription of this node."""
        full = self._node.resolve_topic_name(topic)
        return SubscriptionEventCallbacks(incompatible_qos=lambda event: self._begin(full, False, event))

    def publisher(self, topic: str) -> PublisherEventCallbacks:
        """Callbacks for a publisher of this node."""
        full = self._node.resolve_topic_name(topic)
        return PublisherEventCallbacks(incompatible_qos=lambda event: self._begin(full, True, event))

    def look_again(self) -> None:
        """Say of every mismatch whether it is still there; to be called once a second."""
        for (topic, publishes), seen in list(self._open.items()):
            causes = self._causes(topic, publishes)
            if causes:
                self._open[topic, publishes] = True
                self._tell(topic, publishes, causes)
            elif seen:
                del self._open[topic, publishes]
                self._note(f"qos {topic}", State(OK, "no mismatch any more"))

    def forget(self) -> None:
        """Drop every mismatch, as when the endpoints are closed."""
        for topic, _ in self._open:
            self._note(f"qos {topic}", State(OK, "closed"))
        self._open.clear()

    def _begin(self, topic: str, publishes: bool, event: Any) -> None:
        causes = self._causes(topic, publishes)
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._open[topic, publishes] = bool(causes)
        # The graph may know of the other side later than the event; the next look names it then.
        self._tell(topic, publishes, causes or [f"{policy}: another node's differs from ours"])

    def _causes(self, topic: str, publishes: bool) -> list[str]:
        """One line for each policy in which another node's end does not match ours."""
        offers = [endpoint(topic, one, True) for one in self._node.get_publishers_info_by_topic(topic)]
        asks = [endpoint(topic, one, False) for one in self._node.get_subscriptions_info_by_topic(topic)]
        own = self._node.get_fully_qualified_name()
        ours, theirs = (offers, asks) if publishes else (asks, offers)
        return _lines([one for one in ours if one.node == own], [one for one in theirs if one.node != own], publishes)

    def _tell(self, topic: str, publishes: bool, causes: Sequence[str]) -> None:
        lost = "does not get there" if publishes else "does not arrive here"
        text = f"{topic} {lost}: {'; '.join(causes)}; make the two ends match"
        self._note(f"qos {topic}", State(ERROR, text))


def _lines(ours: Sequence[Endpoint], theirs: Sequence[Endpoint], publishes: bool) -> list[str]:
    """Policy, both nodes, and what they offer and ask for."""
    pairs = [(a, b) if publishes else (b, a) for a in ours for b in theirs]
    return [
        f"{gap.policy}: {offer.node} offers {gap.offered}, {ask.node} asks for {gap.asked}"
        for offer, ask in pairs
        for gap in mismatches(offer.quality, ask.quality)
    ]
