"""What a planner makes of the bytes of an AdapterUpdate before any of it is verified."""

from __future__ import annotations

import struct
from typing import Any

import pytest

pytest.importorskip("rclpy")

from adawm_msgs.msg import AdapterUpdate, BundleFile
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from adawm_planner.adapters.bundle import BUNDLE_FILES
from adawm_planner.adapters.refusal import Reason, Refused
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.ros import planner_adapters
from adawm_planner.ros.planner_adapters import PlannerAdapters, unpack
from adawm_planner.runtime.swap import messages as m

LIMITS = AdapterLimits()


def update(size: int) -> AdapterUpdate:
    """Each field as long as its length, so that what follows comes to lie anywhere."""
    files = [BundleFile(name=name, data=[k] * (k * size)) for k, name in enumerate(BUNDLE_FILES)]
    text = "x" * size
    return AdapterUpdate(
        header=Header(frame_id=text),
        part=text,
        name=text,
        digest="0" * 64,
        files=files,
        key_id=text,
        signature=[1] * 64,
    )


@pytest.mark.parametrize("size", range(9))
def test_messages_of_this_rmw_are_walked_as_they_are_written(size: int) -> None:
    files, digest = unpack(serialize_message(update(size)), LIMITS)
    assert digest == "0" * 64
    assert files == [(name, bytes([k]) * (k * size)) for k, name in enumerate(BUNDLE_FILES)]


def test_a_million_claimed_files_are_refused_before_anything_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("deserialized")

    none, one = serialize_message(AdapterUpdate()), serialize_message(AdapterUpdate(files=[BundleFile()]))
    count = next(k for k, (left, right) in enumerate(zip(none, one, strict=False)) if left != right)
    monkeypatch.setattr(planner_adapters, "deserialize_message", never)
    with pytest.raises(Refused) as raised:
        unpack(none[:count] + struct.pack("=I", 1_000_000) + b"\xff" * 1_000_000, LIMITS)
    assert raised.value.refusal.reason is Reason.EXTRA_FILE


def test_a_message_beyond_the_largest_bundle_does_not_wait_for_its_turn() -> None:
    class Swaps:
        def __init__(self) -> None:
            self.posted: list[m.Event] = []

        def post(self, event: m.Event) -> None:
            self.posted.append(event)

    adapters, swaps = PlannerAdapters.__new__(PlannerAdapters), Swaps()
    adapters._swaps, adapters._limits = swaps, AdapterLimits(largest_file=100, largest_text=100)  # type: ignore[assignment]
    adapters._on_update(bytes(70_000))
    adapters._on_update(bytes(100))
    turned, push = swaps.posted
    assert isinstance(turned, m.Turned) and turned.refusal.reason is Reason.FILE_SIZE
    assert isinstance(push, m.Push)
