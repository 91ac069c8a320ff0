"""Serialized messages are read as rclpy unpacks them, at once, and damaged ones are refused with the reason."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("derived_object_msgs.msg")

from derived_object_msgs.msg import Object, ObjectArray
from geometry_msgs.msg import Point32, PoseStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Path
from rclpy.serialization import deserialize_message, serialize_message

from adawm_planner.observation.route import MAX_POINTS
from adawm_planner.ros import convert
from adawm_planner.ros.cdr import CdrReader
from adawm_planner.runtime.input_monitor import MAX_OBJECTS

pytestmark = pytest.mark.ros

NUMBER = st.floats(width=64)
NAME = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=12)
STAMP = st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
POSE = st.tuples(STAMP, NAME, NUMBER, NUMBER)


def make_path(stamp: tuple[int, int], name: str, poses: list[Any]) -> Any:
    path = Path()
    path.header.stamp.sec, path.header.stamp.nanosec, path.header.frame_id = *stamp, name
    for (seconds, nanoseconds), frame_id, x, y in poses:
        pose = PoseStamped()
        pose.header.stamp.sec, pose.header.stamp.nanosec, pose.header.frame_id = seconds, nanoseconds, frame_id
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x, y, 3.0
        path.poses.append(pose)
    return path


def big_endian(path: Any) -> bytes:
    """The path as a machine of the other byte order writes it; rclpy writes its own one only."""
    data = bytearray()

    def put(layout: str, size: int, *values: Any) -> None:
        data.extend(bytes(-len(data) % size) + struct.pack(">" + layout, *values))

    def header(one: Any) -> None:
        text = one.frame_id.encode() + b"\x00"
        put("iII", 4, one.stamp.sec, one.stamp.nanosec, len(text))
        data.extend(text)

    header(path.header)
    put("I", 4, len(path.poses))
    for each in path.poses:
        p, q = each.pose.position, each.pose.orientation
        header(each.header)
        put("7d", 8, p.x, p.y, p.z, q.x, q.y, q.z, q.w)
    return b"\x00\x00\x00\x00" + bytes(data)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def check(raw: bytes) -> None:
    """Compare with what rclpy makes of the same bytes."""
    wanted = deserialize_message(raw, Path)
    reader = CdrReader(raw)
    assert reader.header() == (convert.stamp_to_ns(wanted.header.stamp), wanted.header.frame_id)
    count = reader.count()
    assert count == len(wanted.poses)
    if count:
        points = reader.poses(count)
        for (x, y), pose in zip(points.tolist(), wanted.poses, strict=True):
            assert same(x, pose.pose.position.x) and same(y, pose.pose.position.y)
    reader.end()


@settings(max_examples=80, deadline=None)
@given(STAMP, NAME, st.lists(POSE, max_size=8))
def test_a_path_is_read_as_rclpy_unpacks_it(stamp: tuple[int, int], name: str, poses: list[Any]) -> None:
    path = make_path(stamp, name, poses)
    check(serialize_message(path))
    check(big_endian(path))


@settings(max_examples=60, deadline=None)
@given(NAME, NAME, st.lists(st.tuples(NUMBER, NUMBER), max_size=40))
def test_so_is_one_whose_poses_are_all_of_one_frame(name: str, each: str, places: list[tuple[float, float]]) -> None:
    path = make_path((1, 2), name, [((0, 0), each, x, y) for x, y in places])
    check(serialize_message(path))
    check(big_endian(path))


@settings(max_examples=60, deadline=None)
@given(st.lists(POSE, min_size=2, max_size=6), st.data())
def test_a_path_that_is_cut_off_is_refused(poses: list[Any], data: st.DataObject) -> None:
    raw = serialize_message(make_path((1, 2), "map", poses))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ValueError, match="message (is cut off after|begins with)"):
        convert.route_from_path(raw[:cut])


@settings(max_examples=80, deadline=None)
@given(st.lists(POSE, min_size=1, max_size=4), st.data())
def test_whatever_a_damaged_path_holds_it_is_a_route_or_refused(poses: list[Any], data: st.DataObject) -> None:
    raw = bytearray(serialize_message(make_path((1, 2), "map", poses)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        convert.route_from_path(bytes(raw))
    except ValueError as error:
        assert "\n" not in str(error)


def test_another_encoding_and_another_definition_are_refused() -> None:
    raw = serialize_message(make_path((1, 2), "map", [((0, 0), "map", 1.0, 2.0)] * 2))
    with pytest.raises(ValueError, match="begins with '00070000', must be CDR"):
        convert.route_from_path(b"\x00\x07" + raw[2:])
    with pytest.raises(ValueError, match="8 bytes longer than its fields"):
        convert.route_from_path(raw + bytes(8))
    with pytest.raises(ValueError, match="1 distinct point"):
        convert.route_from_path(raw + bytes(3))


def _least_s(call: Callable[[], object]) -> float:
    """Least processor time of three calls [s]."""
    taken = []
    for _ in range(3):
        begun = time.thread_time()
        call()
        taken.append(time.thread_time() - begun)
    return min(taken)


@pytest.mark.parametrize("step_m", [1.0, 0.1])
def test_the_longest_route_takes_a_fraction_of_unpacking_its_message(step_m: float) -> None:
    """4 to 13 ms instead of 800."""
    raw = serialize_message(make_path((1, 2), "map", [((0, 0), "map", step_m * k, 0.0) for k in range(MAX_POINTS)]))
    assert convert.route_from_path(raw) is not None
    ours, rclpy = _least_s(lambda: convert.route_from_path(raw)), _least_s(lambda: deserialize_message(raw, Path))
    assert ours < 0.1 * rclpy


def test_a_longer_one_is_refused_by_its_count() -> None:
    raw = bytearray(serialize_message(make_path((1, 2), "map", [])))
    raw[-4:] = struct.pack("<I", MAX_POINTS + 1)
    with pytest.raises(ValueError, match=f"{MAX_POINTS + 1} points, at most {MAX_POINTS} are taken"):
        convert.route_from_path(bytes(raw))


OBJECT = st.tuples(
    NAME,
    st.integers(0, 2**32 - 1),
    NUMBER,
    st.integers(0, 3),
    st.integers(0, 255),
    st.lists(NUMBER, max_size=3),
    st.integers(0, 2),
)


def make_objects(stamp: tuple[int, int], name: str, rows: list[Any]) -> Any:
    message = ObjectArray()
    message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id = *stamp, name
    for frame_id, number, value, corners, shape, dimensions, shape_corners in rows:
        values = [value, *(float(k) for k in range(17)), value]
        one = Object(id=number, object_classified=True, classification=6, classification_age=77)
        one.header.frame_id = frame_id
        p, q, v, w = one.pose.position, one.pose.orientation, one.twist.linear, one.twist.angular
        a, b = one.accel.linear, one.accel.angular
        p.x, p.y, p.z, q.x, q.y, q.z, q.w, v.x, v.y, v.z, w.x, w.y, w.z, a.x, a.y, a.z, b.x, b.y, b.z = values
        q.x, q.y, q.z, q.w = 0.1, 0.7, -0.1, 0.7
        one.polygon.points = [Point32(x=1.0)] * corners
        one.shape.type, one.shape.dimensions = shape, dimensions
        one.shape.polygon.points = [Point32(y=1.0)] * shape_corners
        message.objects.append(one)
    return message


@settings(max_examples=80, deadline=None)
@given(STAMP, NAME, st.lists(OBJECT, max_size=5))
def test_objects_are_read_as_rclpy_unpacks_them(stamp: tuple[int, int], name: str, rows: list[Any]) -> None:
    raw = serialize_message(make_objects(stamp, name, rows))
    wanted = deserialize_message(raw, ObjectArray)
    reader = CdrReader(raw)
    assert reader.header() == (convert.stamp_to_ns(wanted.header.stamp), name)
    found = reader.objects(reader.count())
    reader.end(empty=sum(not one.dimensions for one in found))
    assert [one.id for one in found] == [one.id for one in wanted.objects]
    for one, known in zip(found, wanted.objects, strict=True):
        p, q, v = known.pose.position, known.pose.orientation, known.twist.linear
        numbers = (p.x, p.y, p.z, q.x, q.y, q.z, q.w, v.x, v.y, v.z, known.twist.angular.z, *known.shape.dimensions)
        read = (*one.position, *one.orientation, *one.velocity, one.yaw_rate, *one.dimensions)
        assert len(read) == len(numbers) and all(map(same, read, numbers)) and one.shape == known.shape.type


@settings(max_examples=60, deadline=None)
@given(st.lists(OBJECT, min_size=1, max_size=1), st.data())
def test_objects_that_are_cut_off_or_damaged_are_refused(rows: list[Any], data: st.DataObject) -> None:
    raw = serialize_message(make_objects((1, 2), "map", rows))
    with pytest.raises(ValueError, match="message (is cut off after|begins with)"):
        convert.objects_input(raw[: data.draw(st.integers(0, len(raw) - 20))])
    with pytest.raises(ValueError, match="8 bytes longer than its fields"):
        convert.objects_input(serialize_message(make_objects((1, 2), "map", [])) + bytes(8))
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        convert.objects_input(bytes(damaged))
    except ValueError as error:
        assert "message is" in str(error) or "dimensions" in str(error)


def test_as_many_objects_as_are_taken_cost_a_fraction_of_unpacking_their_message() -> None:
    """8 ms instead of 110."""
    raw = serialize_message(make_objects((1, 2), "map", [("map", 7, 1.0, 0, 1, [4.5, 1.8, 1.5], 0)] * MAX_OBJECTS))
    part = convert.objects_input(raw)
    assert len(part.objects) == MAX_OBJECTS and not part.problem
    ours, rclpy = _least_s(lambda: convert.objects_input(raw)), _least_s(lambda: deserialize_message(raw, ObjectArray))
    assert ours < 0.3 * rclpy


def test_more_objects_are_a_problem_that_their_count_tells() -> None:
    raw = bytearray(serialize_message(make_objects((1, 50), "map", [])))
    raw[-4:] = struct.pack("<I", MAX_OBJECTS + 1)
    part = convert.objects_input(bytes(raw))
    assert (part.stamp_ns, part.frame_id, len(part.objects)) == (1_000_000_050, "map", 0)
    assert part.problem == "1001 objects, at most 1000 are taken; leave out those that are far away"
