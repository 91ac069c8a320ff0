"""What a graph's endpoints give away, without a graph."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest

from adawm_planner.diagnosis.graph import Endpoint, Mismatch, Quality, Stack, judge, mismatches, needs

ROLE = "ego_vehicle"
EGO = f"/carla/{ROLE}"
LASTING = Quality(lasting=True)
PLANNER, GATE, PROPOSED = Stack().planner, Stack().gate, Stack().proposed


def whole() -> list[Endpoint]:
    """A bridge and a planner that lack nothing."""
    ends = []
    for need in needs(ROLE):
        ends.append(Endpoint(need.topic, "/bridge", need.produced, need.kind, need.quality))
        ends.append(Endpoint(need.topic, PLANNER, not need.produced, need.kind, need.quality))
    return ends


CONTROL = "carla_msgs/msg/CarlaEgoVehicleControl"
COMMANDS = f"{EGO}/vehicle_control_cmd"


def gated(ends: list[Endpoint]) -> list[Endpoint]:
    """The same with a gate in between, which reads what the planner reads."""
    mine = [replace(one, node=GATE) for one in ends if one.node == PLANNER]
    others = [one for one in ends if (one.topic, one.node) != (COMMANDS, PLANNER)]
    between = [Endpoint(PROPOSED, PLANNER, True, CONTROL), Endpoint(PROPOSED, GATE, False, CONTROL)]
    return [*others, *mine, *between]


def changed(ends: list[Endpoint], topic: str, node: str, **values: object) -> list[Endpoint]:
    return [replace(one, **values) if (one.topic, one.node) == (topic, node) else one for one in ends]


def broken(ends: list[Endpoint], **how: object) -> list[tuple[str, str]]:
    return [(one.name, one.subject) for one in judge(ends, ROLE, **how) if not one.ok]


def test_a_whole_graph_is_fine_and_shows_who_is_at_the_other_side() -> None:
    found = judge(whole(), ROLE)
    assert [one.subject for one in found] == [need.topic for need in needs(ROLE)]
    assert all(one.ok and one.found == "/bridge" for one in found)


def test_an_empty_graph_lacks_everything_and_says_which_side() -> None:
    found = {one.subject: one for one in judge([], ROLE)}
    assert set(found) == {need.topic for need in needs(ROLE)}
    assert found[f"{EGO}/odometry"].found == "no publisher"
    assert found[f"{EGO}/vehicle_control_cmd"].found == "no subscriber"


def test_a_planner_behind_a_gate_is_fine() -> None:
    assert broken(gated(whole())) == []


def test_a_planner_whose_proposals_nobody_takes_commands_nobody() -> None:
    ends = [one for one in gated(whole()) if one.node != GATE]
    assert broken(ends) == [("endpoint_missing", COMMANDS), ("endpoint_missing", PROPOSED)]
    (commands, proposed) = [one for one in judge(ends, ROLE) if not one.ok]
    assert commands.found == "no publisher" and proposed.found == "no subscriber" and PLANNER in proposed.expected
    early = [one for one in whole() if one.node != PLANNER]
    assert broken(early) == []  # nothing of the stack runs yet


def test_a_stack_in_a_namespace_is_judged_as_any_other() -> None:
    car, names = Stack("car7"), {f"{EGO}/odometry": "/localization/odometry", PROPOSED: "/car7/adawm_gate/proposed"}
    mine = {PLANNER: car.planner, GATE: car.gate}
    ends = [
        replace(one, node=mine.get(one.node, one.node), topic=names.get(one.topic, one.topic))
        for one in gated(whole())
        if one.topic != "/clock"
    ]
    assert (car.planner, car.proposed) == ("/car7/adawm_planner", "/car7/adawm_gate/proposed")
    assert broken(ends, simulated=False, stack=car) == []
    untaken = [one for one in ends if one.node != car.gate]
    found = broken(untaken, simulated=False, stack=car)
    assert found == [("endpoint_missing", COMMANDS), ("endpoint_missing", car.proposed)]
    assert broken(ends, simulated=False) == [("endpoint_missing", f"{EGO}/odometry")], "without it nobody is recognised"


def test_a_vehicle_whose_topics_are_renamed_is_judged_by_the_new_names() -> None:
    names = {f"{EGO}/odometry": "/localization/odometry", COMMANDS: "/vehicle/command"}
    ends = [replace(one, topic=names.get(one.topic, one.topic)) for one in gated(whole())]
    assert broken(ends) == []
    assert set(names.values()) <= {one.subject for one in judge(ends, ROLE)}
    silent = [one for one in ends if (one.topic, one.node) != ("/localization/odometry", "/bridge")]
    assert broken(silent) == [("endpoint_missing", "/localization/odometry")]
    deaf = [one for one in ends if (one.topic, one.node) != ("/vehicle/command", "/bridge")]
    assert broken(deaf) == [("endpoint_missing", "/vehicle/command")]


def test_a_name_that_the_gate_alone_has_is_missing_too() -> None:
    mine = (f"{EGO}/odometry", GATE)
    ends = [replace(one, topic="/other") if (one.topic, one.node) == mine else one for one in gated(whole())]
    assert broken(ends) == [("endpoint_missing", "/other")]


def test_wall_time_needs_no_clock() -> None:
    ends = [one for one in whole() if one.topic != "/clock"]
    assert broken(ends) == [("endpoint_missing", "/clock")]
    assert broken(ends, simulated=False) == []


def test_another_role_is_named_before_all_that_it_makes_missing() -> None:
    ends = [replace(one, topic=one.topic.replace(ROLE, "hero")) for one in whole()]
    first = judge(ends, ROLE)[0]
    assert first.name == "wrong_role" and "hero" in first.found and ROLE in first.expected
    assert "wrong_role" not in [name for name, _ in broken([*ends, *whole()])]


def test_two_controllers_are_named() -> None:
    topic = f"{EGO}/vehicle_control_cmd"
    kind = "carla_msgs/msg/CarlaEgoVehicleControl"
    ends = [*whole(), Endpoint(topic, "/local_planner", True, kind)]
    (found,) = [one for one in judge(ends, ROLE) if not one.ok]
    assert found.name == "several_controllers" and found.level == "error"
    assert PLANNER in found.found and "/local_planner" in found.found


def test_two_sources_of_one_input_are_named() -> None:
    ends = [*whole(), Endpoint("/clock", "/rosbag", True, "rosgraph_msgs/msg/Clock")]
    assert broken(ends) == [("several_publishers", "/clock")]


def test_type_and_definition_must_be_the_same() -> None:
    topic = f"{EGO}/objects"
    assert broken(changed(whole(), topic, "/bridge", kind="std_msgs/msg/String")) == [("type_differs", topic)]
    hashes = {"derived_object_msgs/msg/ObjectArray": "RIHS01_a"}
    other = changed(whole(), topic, "/bridge", type_hash="RIHS01_b")
    assert broken(other, hashes=hashes) == [("interface_differs", topic)]
    assert broken(changed(whole(), topic, "/bridge", type_hash="RIHS01_a"), hashes=hashes) == []
    assert broken(whole(), hashes=hashes) == []  # a middleware that tells no hash


@pytest.mark.parametrize(
    ("topic", "values", "rule", "words"),
    [
        ("odometry", {"reliable": False}, "qos_reliability", "best effort"),
        ("waypoints", {"lasting": False}, "qos_durability", "volatile"),
    ],
)
def test_a_mismatch_names_topic_both_nodes_and_policy(
    topic: str, values: dict[str, object], rule: str, words: str
) -> None:
    name = f"{EGO}/{topic}"
    before = next(one.quality for one in whole() if one.topic == name)
    ends = changed(whole(), name, "/bridge", quality=replace(before, **values))  # type: ignore[arg-type]
    (found,) = [one for one in judge(ends, ROLE) if not one.ok]
    assert (found.name, found.subject) == (rule, name)
    assert found.found == f"/bridge offers {words}" and PLANNER in found.expected


def test_a_planner_that_does_not_run_yet_would_miss_the_same() -> None:
    ends = [one for one in whole() if one.node != PLANNER]
    ends = changed(ends, f"{EGO}/vehicle_info", "/bridge", quality=Quality(lasting=False))
    (found,) = [one for one in judge(ends, ROLE) if not one.ok]
    assert found.name == "qos_durability" and "not running" in found.expected


def test_other_peoples_topics_are_their_own_business() -> None:
    theirs = [
        Endpoint("/chatter", "/talker", True, "s", Quality(reliable=False)),
        Endpoint("/chatter", "/listener", False, "s", Quality()),
    ]
    assert broken([*whole(), *theirs]) == []
    ours = [replace(theirs[0], node="/adawm_gate"), theirs[1]]
    assert broken([*whole(), *ours]) == [("qos_reliability", "/chatter")]


@pytest.mark.parametrize(
    ("reliable", "lasting", "deadline_s"), list(product([True, False], [True, False], [math.inf, 0.1]))
)
def test_an_offer_as_strict_as_what_is_asked_matches(reliable: bool, lasting: bool, deadline_s: float) -> None:
    asked = Quality(reliable, lasting, deadline_s)
    for strict in product([True, False], [True, False], [math.inf, 0.1, 0.05]):
        offered = Quality(*strict)
        policies = {gap.policy for gap in mismatches(offered, asked)}
        assert ("reliability" in policies) == (reliable and not offered.reliable)
        assert ("durability" in policies) == (lasting and not offered.lasting)
        assert ("deadline" in policies) == (offered.deadline_s > deadline_s)


def test_deadline_and_liveliness_are_told_in_seconds() -> None:
    assert mismatches(Quality(), Quality(deadline_s=0.1)) == [Mismatch("deadline", "none", "0.1 s")]
    assert mismatches(Quality(), Quality(manual=True)) == [Mismatch("liveliness", "automatic", "manual by topic")]
    assert mismatches(Quality(lease_s=2.0), Quality(lease_s=1.0)) == [Mismatch("liveliness", "lease 2 s", "lease 1 s")]
