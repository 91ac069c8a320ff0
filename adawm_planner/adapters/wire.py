"""A serialized AdapterUpdate in, refused when it claims what no bundle has. Pure: the bytes are only walked over.

A reader makes an object of every file that a message claims, before anything is verified: 17 MB can claim a million
of them, which costs a gigabyte and holds up whatever drives beside it. So the lengths are read first, where they stand.
Messages are plain CDR (OMG DDSI-RTPS, 10.2): numbers are aligned as counted from the end of its four bytes.
"""

from __future__ import annotations

import struct

from adawm_planner.adapters.bundle import BUNDLE_FILES, size_limit
from adawm_planner.adapters.refusal import Reason, refuse
from adawm_planner.config.adapters import AdapterLimits

ENVELOPE_BYTES = 64 * 2**10
"""What a message may hold besides its files."""

MOST_FILES = len(BUNDLE_FILES) + 1
"""One more than a bundle has, so that `verify` can say which is too many."""

MOST_TEXT = 256
"""Bytes of a text, or of the signature, in a message; a digest has 64 signs, the longest file name 25."""

START = 4
"""Bytes before the first field: how the rest is encoded."""

BYTE_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}
"""Encoding of a message -> byte order of its numbers."""

TEXTS = ("part", "name", "digest", "parent_digest", "base_digest")
"""Fields between the header and the counter."""

SENDER = "Do not trust its sender"


def check_message_size(size: int, limits: AdapterLimits) -> None:
    """Raises Refused for a message of more bytes than the largest bundle makes."""
    most = sum(size_limit(name, limits) for name in BUNDLE_FILES) + ENVELOPE_BYTES
    if size > most:
        refuse(Reason.FILE_SIZE, "a message must not be larger than a bundle", f"{size} bytes", f"{most} bytes", SENDER)


def check_layout(raw: bytes, limits: AdapterLimits) -> None:
    """Hold the number of files, and every length in a message, against what a bundle has.

    Args:
        raw: a serialized AdapterUpdate, as it came.
        limits: of bundles.

    Raises:
        Refused: FILE_SIZE or EXTRA_FILE for too much, UNREADABLE for an unknown encoding or a message that ends early.
    """
    check_message_size(len(raw), limits)
    walk = _Walk(raw)
    walk.number(8)  # the header's stamp: two numbers of four bytes, aligned as such
    walk.content("header.frame_id", MOST_TEXT)
    for name in TEXTS:
        walk.content(name, MOST_TEXT)
    walk.number(8, align=8)  # counter
    walk.number(8)  # expiry
    for _ in range(walk.length("files", MOST_FILES, Reason.EXTRA_FILE)):
        walk.content("name of a file", MOST_TEXT)
        walk.content("data of a file", limits.largest_file)
    walk.content("key_id", MOST_TEXT)
    walk.content("signature", MOST_TEXT)


class _Walk:
    """A place in a message, which only moves on."""

    def __init__(self, raw: bytes) -> None:
        order = BYTE_ORDERS.get(raw[:2])
        if order is None:
            refuse(Reason.UNREADABLE, "a message must be plain CDR", raw[:2].hex() or "nothing", "0000 or 0001", SENDER)
        self._raw, self._at, self._uint32 = raw, START, struct.Struct(f"{order}I")

    def number(self, size: int, align: int = 4) -> int:
        """Pass what has `size` bytes; return where it begins."""
        start = self._at + (START - self._at) % align
        self._at = start + size
        if self._at > len(self._raw):
            rule, least = "a message must not end early", f"{self._at} at least"
            refuse(Reason.UNREADABLE, rule, f"{len(self._raw)} bytes", least, SENDER)
        return start

    def length(self, what: str, most: int, reason: Reason = Reason.FILE_SIZE) -> int:
        """Read the length of a text or sequence."""
        (found,) = self._uint32.unpack_from(self._raw, self.number(4))
        if found > most:
            refuse(reason, f"{what} of a message must not be longer than in a bundle", found, most, SENDER)
        return int(found)

    def content(self, what: str, most: int) -> None:
        """Pass a text, or a sequence of bytes."""
        self.number(self.length(what, most), align=1)
