"""Serialized messages in, their fields out, for messages that rclpy takes too long to unpack.

It takes 40 us for a pose of a path and 110 us for an object. Meanwhile a node would neither command nor watch. They are
encoded as plain CDR, little- or big-endian, as the RMWs of ROS 2 write it: every number begins at a multiple of its
size, counted from behind the first four bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from adawm_planner.data_types import Float64, Int64

ENCODINGS = {b"\x00\x00": ">", b"\x00\x01": "<"}
"""Byte order by the first two bytes of a serialized message."""

ENCODING_BYTES, PADDING_BYTES = 4, 7
"""Bytes before the fields, and at most as many behind them, which a transport may add."""

STAMP_BYTES, POSE_BYTES, POINT_BYTES = 8, 56, 12
"""A header's stamp; position and orientation of a pose; a point of a polygon."""

OBJECT_NUMBERS = 19
"""Of an object's pose (position, orientation), twist and acceleration (linear and angular)."""

MOST_DIMENSIONS = 3
"""Of a shape_msgs/SolidPrimitive."""


class RawObject(NamedTuple):
    """What is used of a derived_object_msgs/Object; metres, map."""

    id: int
    position: tuple[float, ...]  # x, y, z
    orientation: tuple[float, ...]  # x, y, z, w
    velocity: tuple[float, ...]  # x, y, z, m/s
    yaw_rate: float  # rad/s
    shape: int  # a constant of shape_msgs/SolidPrimitive
    dimensions: tuple[float, ...]


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
        self._numbers = tuple(struct.Struct(f"{order}{n}d") for n in range(MOST_DIMENSIONS + 1))
        self._motion = struct.Struct(f"{order}{OBJECT_NUMBERS}d")

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

    def objects(self, count: int) -> list[RawObject]:
        """Return as many derived_object_msgs/Object; 5 us each."""
        try:
            return [self._object() for _ in range(count)]
        except (struct.error, IndexError):
            raise ValueError(f"message is cut off after {len(self.data)} bytes, within an object") from None

    def _object(self) -> RawObject:
        data, count = self.data, self._count.unpack_from
        at = ((self.at + 3) & ~3) + STAMP_BYTES
        at = (at + 4 + count(data, at)[0] + 3) & ~3  # behind the frame_id
        number = count(data, at)[0]
        at = (at + 4 + 2 + 7) & ~7  # behind id, detection_level and object_classified
        motion = self._motion.unpack_from(data, at)
        at += 8 * OBJECT_NUMBERS
        at += 4 + POINT_BYTES * count(data, at)[0]  # behind the polygon
        shape = data[at]
        at = (at + 1 + 3) & ~3
        size = count(data, at)[0]
        if size > MOST_DIMENSIONS:
            raise ValueError(f"object {number} has {size} dimensions, a shape has at most {MOST_DIMENSIONS}")
        at = (at + 4 + 7) & ~7 if size else at + 4
        dimensions = self._numbers[size].unpack_from(data, at)
        at = (at + 8 * size + 3) & ~3
        at += 4 + POINT_BYTES * count(data, at)[0]  # behind the shape's polygon
        self.at = ((at + 2 + 3) & ~3) + 4  # behind classification, its certainty and its age
        return RawObject(number, motion[:3], motion[3:7], motion[7:10], motion[12], shape, dimensions)

    def end(self, empty: int = 0) -> None:
        """Check that everything was read.

        Args:
            empty: sequences of 8 byte numbers that hold none: rmw_fastrtps takes up to 8 bytes more for each, and
                leaves them at the end.

        Raises:
            ValueError: there is more, or less.
        """
        self._within(self.at)
        left = len(self.data) - self.at
        if left > PADDING_BYTES + 8 * empty:
            raise ValueError(
                f"message is {left} bytes longer than its fields; is it of another definition of its type?"
            )

    def _within(self, end: int) -> None:
        if end > len(self.data):
            raise ValueError(f"message is cut off after {len(self.data)} bytes, {end} are needed at least")
