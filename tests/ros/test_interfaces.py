"""The interface packages are on-the-wire compatible with the real ones: equal REP-2011 type hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.node import Node

from adawm_planner.diagnosis.versions import known_hashes

EXPECTED = known_hashes()
MESSAGES = [name for name in EXPECTED if "/msg/" in name]
SERVICES = [name for name in EXPECTED if "/srv/" in name]
SOURCES = Path(__file__).parents[2] / "ros2_ws" / "src"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("interface_hashes", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def load(name: str) -> Any:
    package, kind, type_name = name.split("/")
    return getattr(import_module(f"{package}.{kind}"), type_name)


def described_hash(name: str) -> str:
    """The hash that the installed type description holds."""
    package, kind, type_name = name.split("/")
    installed = Path(import_module(package).__file__ or "").parents
    found = [up / "share" / package / kind / f"{type_name}.json" for up in installed]
    description = json.loads(next(file for file in found if file.is_file()).read_text())
    return next(one["hash_string"] for one in description["type_hashes"] if one["type_name"] == name)


@pytest.mark.parametrize("name", MESSAGES)
def test_hash_that_the_middleware_announces(node: Node, name: str) -> None:
    topic = "/hash_of/" + name.replace("/", "_").lower()
    publisher = node.create_publisher(load(name), topic, 1)
    (info,) = node.get_publishers_info_by_topic(topic)
    node.destroy_publisher(publisher)
    assert str(info.topic_type_hash) == EXPECTED[name]


@pytest.mark.parametrize("name", SERVICES)
def test_hash_that_a_service_type_describes(name: str) -> None:
    load(name).Request()
    assert described_hash(name) == EXPECTED[name]


def test_every_interface_we_bring_for_others_is_compared() -> None:
    nested_only = {"derived_object_msgs/msg/SolidPrimitiveWithCovariance"}  # its hash enters ObjectWithCovariance's
    ours = {
        f"{file.parts[-3]}/{file.parts[-2]}/{file.stem}"
        for package in ("carla_msgs", "carla_waypoint_types", "derived_object_msgs", "tf2_msgs")
        for kind in ("msg", "srv")
        for file in (SOURCES / package / kind).glob("*")
    }
    assert ours - nested_only == set(EXPECTED)


def test_own_messages_hold_what_the_design_asks_of_an_experience() -> None:
    experience = load("adawm_msgs/msg/Experience")()
    for field in ("bev", "state", "action", "action_probabilities", "is_first", "is_terminal", "adapter_digests"):
        assert hasattr(experience, field), field
    rewards = {name for name in experience.get_fields_and_field_types() if name.startswith("reward_")}
    assert rewards == {f"reward_{term}" for term in ("progress", "speed", "collision", "lateral", "destination")}
