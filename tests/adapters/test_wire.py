"""A serialized message is held against what a bundle has before anything is made of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from adawm_planner.adapters.bundle import BUNDLE_FILES
from adawm_planner.adapters.refusal import Reason, Refused
from adawm_planner.adapters.wire import MOST_FILES, MOST_TEXT, check_layout, check_message_size
from adawm_planner.config.adapters import AdapterLimits

LIMITS = AdapterLimits()
ORDERS = {"<": b"\x00\x01\x00\x00", ">": b"\x00\x00\x00\x00"}
FILES = [(name, b"x" * k) for k, name in enumerate(BUNDLE_FILES)]


class Writer:
    """Plain CDR, written another way than it is read: padded up to where the next field belongs."""

    def __init__(self, order: str) -> None:
        self.order, self.body = order, b""

    def number(self, kind: str, value: int) -> None:
        self.body += bytes(-len(self.body) % struct.calcsize(kind)) + struct.pack(self.order + kind, value)

    def content(self, value: bytes, claimed: int | None = None) -> None:
        self.number("I", len(value) if claimed is None else claimed)
        self.body += value


def message(
    order: str = "<",
    files: Sequence[tuple[str, bytes]] = FILES,
    frame: str = "",
    text: str = "policy",
    claimed_files: int | None = None,
    claimed_data: int | None = None,
    signature: bytes = bytes(64),
) -> bytes:
    out = Writer(order)
    out.number("i", 1)
    out.number("I", 2)
    for value in (frame, text, text, text, text, text):
        out.content(value.encode() + b"\0")
    out.number("Q", 7)
    out.number("i", 3)
    out.number("I", 4)
    out.number("I", len(files) if claimed_files is None else claimed_files)
    for name, data in files:
        out.content(name.encode() + b"\0")
        out.content(data, claimed_data)
    out.content(b"key\0")
    out.content(signature)
    return ORDERS[order] + out.body


def refusal(raw: bytes, limits: AdapterLimits = LIMITS) -> tuple[Reason, str]:
    with pytest.raises(Refused) as raised:
        check_layout(raw, limits)
    return raised.value.refusal.reason, str(raised.value)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", range(9))
def test_what_a_bundle_has_passes_wherever_its_fields_come_to_lie(order: str, size: int) -> None:
    files = [("n" * size, b"x" * (size * k)) for k in range(MOST_FILES)]
    check_layout(message(order, files, frame="f" * size, text="t" * size), LIMITS)
    check_layout(message(order, (), text="t" * size) + bytes(3), LIMITS)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [MOST_FILES + 1, 1_400_000, 2**32 - 1])
def test_more_files_than_a_bundle_has_are_refused_where_they_are_claimed(order: str, count: int) -> None:
    reason, text = refusal(message(order, claimed_files=count) + b"\xff" * 1000)
    assert reason is Reason.EXTRA_FILE and f"found {count}, allowed {MOST_FILES}" in text


@pytest.mark.parametrize("order", ORDERS)
def test_lengths_that_no_bundle_has_are_refused(order: str) -> None:
    for field in ("frame", "text"):
        check_layout(message(order, **{field: "x" * (MOST_TEXT - 1)}), LIMITS)  # type: ignore[arg-type]
        assert refusal(message(order, **{field: "x" * MOST_TEXT}))[0] is Reason.FILE_SIZE  # type: ignore[arg-type]
    assert refusal(message(order, [("x" * MOST_TEXT, b"")]))[0] is Reason.FILE_SIZE
    assert refusal(message(order, signature=bytes(MOST_TEXT + 1)))[0] is Reason.FILE_SIZE
    reason, text = refusal(message(order, claimed_data=LIMITS.largest_file + 1))
    assert reason is Reason.FILE_SIZE and "data of a file" in text


@pytest.mark.parametrize("order", ORDERS)
def test_a_message_that_ends_early_is_refused_wherever_it_is_cut(order: str) -> None:
    raw = message(order)
    for size in range(2, len(raw)):
        reason, text = refusal(raw[:size])
        assert reason is Reason.UNREADABLE and f"found {size} bytes" in text
    assert refusal(message(order, claimed_data=LIMITS.largest_file))[0] is Reason.UNREADABLE


@pytest.mark.parametrize("start", [b"", b"\x00", b"\x00\x03", b"\x00\x07\x00\x00", b"\x01\x00", b"\xff\xff"])
def test_another_encoding_is_refused(start: bytes) -> None:
    assert refusal(start + (message()[len(start) :] if len(start) > 1 else b""))[0] is Reason.UNREADABLE


def test_a_message_larger_than_the_largest_bundle_is_refused_by_its_size() -> None:
    small = AdapterLimits(largest_file=1000, largest_text=1000)
    most = 5 * 1000 + 64 * 2**10
    check_message_size(most, small)
    with pytest.raises(Refused, match=f"found {most + 1} bytes, allowed {most} bytes"):
        check_message_size(most + 1, small)
    assert refusal(message() + bytes(most), small)[0] is Reason.FILE_SIZE
