"""Serialized messages in, their fields out, for messages that rclpy takes too long to unpack: 40 us a pose.

Meanwhile a node would neither command nor watch. The encoding is CDR, plain and little- or big-endian, as the RMWs of
ROS 2 write it: every number begins at a multiple of its size, counted from behind the first four bytes.
"""

from __future__ import annotations

import struct

import numpy as np

from adawm_planner.data_types import Float64, Int64

ENCODINGS = {b"\x00\x00": ">", b"\x00\x01": "<"}
"""Byte order by the first two bytes of a serialized message."""

ENCODING_BYTES, PADDING_BYTES = 4, 7
"""Bytes before the fields, and at most as many behind them, which a transport may add."""

STAMP_BYTES, POSE_BYTES = 8, 56
"""A header's stamp; position and orientation of a pose."""


class CdrReader:
    """A place in a serialized message, which reading moves on."""

    def __init__(self, raw: bytes) -> None:
        """Begin before the first field.

        Raises:
            ValueError: not plain CDR.
        """
        order = ENCODINGS.get(raw[:2])
        if order is None or len(raw) < ENCODING_BYTES:
            raise ValueError(
                f"message begins with '{raw[:ENCODING_BYTES].hex()}', must be CDR: 0000 or 0001 and 2 bytes"
            )
        self.order = order
        self.at = 0  # bytes behind the first four
        self.data = memoryview(raw)[ENCODING_BYTES:]
        self._count = struct.Struct(order + "I")
        self._stamp = struct.Struct(order + "iI")

    def count(self) -> int:
        """Return the number that stands before a string or a sequence: of its bytes, of its elements."""
        begin = (self.at + 3) & ~3
        self._within(begin + 4)
        self.at = begin + 4
        return int(self._count.unpack_from(self.data, begin)[0])

    def header(self) -> tuple[int, str]:
        """Return the stamp [ns] and the frame_id of a std_msgs/Header."""
        begin = (self.at + 3) & ~3
        self._within(begin + STAMP_BYTES)
        seconds, nanoseconds = self._stamp.unpack_from(self.data, begin)
        self.at = begin + STAMP_BYTES
        length = self.count()
        self._within(self.at + length)
        text = bytes(self.data[self.at : self.at + length]).rstrip(b"\x00").decode(errors="replace")
        self.at += length
        return seconds * 1_000_000_000 + nanoseconds, text

    def poses(self, count: int) -> Float64:
        """Return x and y (count, 2) [m] of as many geometry_msgs/PoseStamped.

        Where each begins depends on the frame_ids before it; those of nearly every path are alike.
        """
        self.at = (self.at + 3) & ~3
        self._within(self.at + count * (STAMP_BYTES + 4 + POSE_BYTES))
        points = self._even_poses(count)
        if points is None:
            places = self._places(count)
            found = np.frombuffer(self.data, dtype=np.uint8)[places[:, None] + np.arange(16)]
            points = found.view(self.order + "f8")
        return points.astype(np.float64)

    def _even_poses(self, count: int) -> Float64 | None:
        """What `poses` returns if all frame_ids are as long as the first one, else None."""
        length = self._length_at(self.at)
        first = self._place(self.at, length)
        step = self._place(0, length) + POSE_BYTES  # the second one begins at a multiple of 8, as its own numbers do
        end = first + (count - 1) * step + POSE_BYTES
        if end > len(self.data):
            return None
        begin = first + POSE_BYTES + STAMP_BYTES
        lengths = np.ndarray((count - 1,), self.order + "u4", self.data, begin, (step,)) if count > 1 else np.empty(0)
        if (lengths != length).any():
            return None
        self.at = end
        return np.ndarray((count, 2), self.order + "f8", self.data, first, (step, 8))

    def _places(self, count: int) -> Int64:
        """Where the position of each pose begins; one after the other, 0.4 us each."""
        places, at = np.empty(count, dtype=np.int64), self.at
        for k in range(count):
            self._within(at + STAMP_BYTES + 4)
            places[k] = at = self._place(at, self._length_at(at))
            at += POSE_BYTES
        self._within(at)
        self.at = at
        return places

    def _length_at(self, begin: int) -> int:
        """Bytes of the frame_id of the header that begins there."""
        return int(self._count.unpack_from(self.data, begin + STAMP_BYTES)[0])

    @staticmethod
    def _place(begin: int, length: int) -> int:
        """Where the position begins of a pose whose header begins there."""
        return (begin + STAMP_BYTES + 4 + length + 7) & ~7

    def end(self) -> None:
        """Check that everything was read.

        Raises:
            ValueError: there is more.
        """
        left = len(self.data) - self.at
        if left > PADDING_BYTES:
            raise ValueError(
                f"message is {left} bytes longer than its fields; is it of another definition of its type?"
            )

    def _within(self, end: int) -> None:
        if end > len(self.data):
            raise ValueError(f"message is cut off after {len(self.data)} bytes, {end} are needed at least")
