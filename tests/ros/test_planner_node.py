"""The planner node over real topics: one command per frame, braking with a named reason, a quiet pause."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from adawm_msgs.msg import Experience, PlannerStatus
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Path
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import ERROR, OK
from adawm_planner.ros.experience_input import captured_from
from adawm_planner.ros.planner_node import PlannerNode, timing_state
from tests.ros.stub_bridge import Bench, StubBridge
from tests.runtime.fake_engine import FakeEngine

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def make_planner(context: Context, **parameters: Any) -> PlannerNode:
    overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
    return PlannerNode(lambda values: FakeEngine(), context=context, parameter_overrides=overrides)


@pytest.fixture
def bench(context: Context) -> Iterator[Bench]:
    # The longest there is: on a busy machine this test itself may be silent for the default 0.25 s between two frames.
    planner = make_planner(context, use_map=False, limits__stale_s=5.0)
    bench = Bench(context, planner, StubBridge("ego_vehicle", context))
    assert planner.trigger_configure() == SUCCESS and planner.trigger_activate() == SUCCESS
    bench.connect()
    yield bench
    bench.close()


@pytest.fixture
def driving(bench: Bench) -> Bench:
    bench.bridge.publish_vehicle()
    bench.bridge.publish_route()
    bench.bridge.publish_frame(1)
    assert bench.spin_until(lambda: len(bench.bridge.commands) == 1)
    assert bench.bridge.commands[0].throttle > 0.0
    return bench


def listen(bench: Bench, kind: type[Any], topic: str) -> list[Any]:
    got: list[Any] = []
    bench.bridge.create_subscription(kind, topic, got.append, qos.STREAM)
    assert bench.spin_until(lambda: bench.bridge.count_publishers(topic) > 0)
    bench.spin_for(0.2)
    return got


def step(bench: Bench, k: int, **how: Any) -> Any:
    """Send frame k and return the command that answers it."""
    count = len(bench.bridge.commands)
    bench.bridge.publish_frame(k, **how)
    assert bench.spin_until(lambda: len(bench.bridge.commands) > count)
    return bench.bridge.commands[-1]


def test_exactly_one_command_per_frame_with_its_stamp(driving: Bench) -> None:
    for k in range(2, 22):
        step(driving, k)
    driving.spin_for(0.2)
    stamps = [command.header.stamp.sec * 10**9 + command.header.stamp.nanosec for command in driving.bridge.commands]
    assert stamps == [k * 50_000_000 for k in range(1, 22)]
    assert driving.planner.loop.counters.decisions == 6


def test_a_route_that_is_repeated_at_every_frame_is_unpacked_once(
    driving: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    unpack = convert.route_from_path

    def counted(raw: bytes) -> Any:
        lengths.append(len(deserialize_message(raw, Path).poses))
        return unpack(raw)

    monkeypatch.setattr(convert, "route_from_path", counted)
    for k in range(2, 8):
        driving.bridge.publish_route(90)
        assert step(driving, k).throttle > 0.0
    assert lengths == [91]
    driving.bridge.publish_route(80)
    step(driving, 8)
    assert lengths == [91, 81]


def test_objects_that_cannot_be_read_are_missing_until_they_can(
    driving: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(raw: bytes, ego_id: int | None) -> Any:
        raise ValueError("message is cut off after 8 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "objects_input", damaged)
        assert step(driving, 2).brake >= 0.5
    state = driving.planner.diagnostics.states()["objects"]
    assert state.level == ERROR and "cut off after 8 bytes" in state.message
    step(driving, 3)
    assert driving.planner.diagnostics.states()["objects"].level == OK


@pytest.mark.parametrize("name", ["odometry", "objects", "vehicle_status"])
def test_missing_part_brakes_and_the_diagnostic_names_topic_age_and_limit(driving: Bench, name: str) -> None:
    found = listen(driving, DiagnosticArray, "/diagnostics")
    step(driving, 2)
    command = step(driving, 3, without=name)
    assert command.throttle == 0.0 and command.brake >= 0.5
    topic = f"/carla/ego_vehicle/{name}"

    def named() -> bool:
        states = [state for array in found for state in array.status]
        return any(topic in state.message and state.level == b"\x02" for state in states)

    assert driving.spin_until(named)
    state = next(s for array in found for s in array.status if s.level == b"\x02" and topic in s.message)
    values = {pair.key: pair.value for pair in state.values}
    assert values["fault0.topic"] == topic and float(values["fault0.limit_s"]) == 0.1
    assert float(values["fault0.age_s"]) >= 0.1


def test_silence_brakes(driving: Bench) -> None:
    assert driving.spin_until(lambda: len(driving.bridge.commands) >= 3)
    assert all(command.brake > 0.0 and command.throttle == 0.0 for command in driving.bridge.commands[1:])


def test_pause_is_quiet_and_driving_goes_on_after_it(driving: Bench) -> None:
    driving.bridge.publish_world(1)
    driving.bridge.publish_world(1, running=False)
    intake = driving.planner.loop.intake
    assert driving.spin_until(lambda: intake.world is not None and intake.world.paused)
    count = len(driving.bridge.commands)
    driving.spin_for(1.0)
    assert len(driving.bridge.commands) == count
    driving.bridge.publish_world(2)
    assert step(driving, 2).throttle > 0.0


def test_a_vehicle_is_braked_for_in_a_silence_whoever_says_that_the_world_is_paused(context: Context) -> None:
    planner = make_planner(context, use_map=False, use_world_status=False)
    bench = Bench(context, planner, StubBridge("ego_vehicle", context))
    assert planner.trigger_configure() == SUCCESS and planner.trigger_activate() == SUCCESS
    bench.connect(use_world_status=False)
    bench.bridge.publish_vehicle()
    bench.bridge.publish_route()
    bench.bridge.publish_world(1, running=False)
    bench.bridge.publish_frame(1)
    assert bench.spin_until(lambda: len(bench.bridge.commands) >= 3)
    assert all(command.brake > 0.0 and command.throttle == 0.0 for command in bench.bridge.commands[1:])
    assert bench.bridge.status.get_subscription_count() == 0
    bench.close()


def test_without_a_route_it_brakes(bench: Bench) -> None:
    bench.bridge.publish_vehicle()
    assert step(bench, 1).brake >= 0.5
    bench.bridge.publish_route()
    assert bench.spin_until(lambda: bench.planner.diagnostics.states().get("route") is not None)
    assert step(bench, 2).throttle > 0.0


def test_late_planner_gets_route_and_vehicle_that_were_sent_before(context: Context) -> None:
    bridge = StubBridge("ego_vehicle", context)
    bridge.publish_vehicle()
    bridge.publish_route()
    planner = make_planner(context, use_map=False)
    bench = Bench(context, planner, bridge)
    assert planner.trigger_configure() == SUCCESS and planner.trigger_activate() == SUCCESS
    bench.connect()
    assert step(bench, 1).throttle > 0.0
    bench.close()


def test_experience_and_status(driving: Bench) -> None:
    experience = listen(driving, Experience, "/adawm_planner/experience")
    status = listen(driving, PlannerStatus, "/adawm_planner/status")
    driving.bridge.publish_route(120)
    for k in range(20, 29):
        step(driving, k)
    assert driving.spin_until(lambda: sum(not one.is_last for one in experience) >= 3)
    first = next(one for one in experience if one.is_first)
    assert first.bev_encoding == Experience.BEV_RAW
    taken = [captured_from(one) for one in experience]
    assert {(one.base_digest, one.adapter_digests) for one in taken} == {(FakeEngine.digest, ())}
    sequences = [one.experience.sequence for one in taken]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    stamps_ns = [one.header.stamp.sec * 10**9 + one.header.stamp.nanosec for one in experience if not one.is_last]
    assert set(stamps_ns) <= {k * 50_000_000 for k in range(20, 29)}
    assert driving.spin_until(lambda: any(one.frames >= 10 for one in status))
    assert PlannerStatus.DRIVING in {one.mode for one in status}
    assert status[-1].latency_p50_ms > 0.0 and status[-1].base_digest == FakeEngine.digest


def test_a_planner_that_is_stopped_ends_its_episode_without_a_gap(driving: Bench) -> None:
    experience = listen(driving, Experience, "/adawm_planner/experience")
    for k in range(2, 12):
        step(driving, k)
    assert driving.planner.trigger_deactivate() == SUCCESS
    assert driving.spin_until(lambda: bool(experience) and experience[-1].is_last)
    sequences = [one.sequence for one in experience]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert not experience[-1].is_terminal


def test_pictures_and_plan_while_somebody_subscribes(driving: Bench) -> None:
    topics = {"bev": Image, "imagined": Image, "plan": Path}
    got = {name: listen(driving, kind, f"/adawm_planner/{name}") for name, kind in topics.items()}
    for k in range(2, 10):
        step(driving, k)
    assert driving.spin_until(lambda: all(got.values()))
    assert got["bev"][-1].encoding == "bgr8" and len(got["plan"][-1].poses) == 16
    assert got["plan"][-1].poses[-1].pose.position.x > got["plan"][-1].poses[0].pose.position.x + 10.0


def test_deactivation_leaves_the_vehicle_braking_and_quiet(driving: Bench) -> None:
    assert driving.planner.trigger_deactivate() == SUCCESS
    assert driving.spin_until(lambda: len(driving.bridge.commands) == 2)
    assert driving.bridge.commands[-1].brake > 0.0
    driving.bridge.publish_frame(2)
    driving.spin_for(0.6)
    assert len(driving.bridge.commands) == 2
    assert driving.planner.trigger_activate() == SUCCESS
    assert step(driving, 3).throttle > 0.0


def test_cleanup_and_configure_again(driving: Bench) -> None:
    planner = driving.planner
    assert planner.trigger_deactivate() == SUCCESS and planner.trigger_cleanup() == SUCCESS
    assert planner.trigger_configure() == SUCCESS and planner.trigger_activate() == SUCCESS
    driving.connect()
    driving.bridge.commands.clear()
    assert step(driving, 5).throttle > 0.0


def test_a_configuration_that_is_closed_is_freed(driving: Bench) -> None:
    planner = driving.planner
    parts = [weakref.ref(each) for each in (planner.loop, planner.loop.core, planner.loop.core.engine)]
    assert planner.trigger_deactivate() == SUCCESS and planner.trigger_cleanup() == SUCCESS
    driving.spin_for(0.1)  # the executor forgets what it looked at last
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts)


def test_bad_model_dir_fails_configuration_in_one_line(context: Context, capfd: pytest.CaptureFixture[str]) -> None:
    node = PlannerNode(context=context, parameter_overrides=[Parameter("model_dir", value="/nowhere/model")])
    assert node.trigger_configure() == FAILURE
    output = "".join(capfd.readouterr())
    assert "/nowhere/model" in output and "Traceback" not in output
    node.destroy_node()


def test_unexpected_exception_in_a_transition_is_logged(context: Context, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(values: dict[str, Any]) -> Any:
        raise RuntimeError("planted in the factory")

    node = PlannerNode(broken, context=context)
    assert node.trigger_configure() == TransitionCallbackReturn.ERROR
    assert "planted in the factory" in "".join(capfd.readouterr())
    node.destroy_node()


def test_parameters_may_change_until_the_node_is_configured(context: Context) -> None:
    node = make_planner(context, use_map=False)
    (before,) = node.set_parameters([Parameter("role_name", value="other")])
    assert before.successful and node.trigger_configure() == SUCCESS
    assert node.resolve_topic_name("/carla/other/odometry") in dict(node.get_topic_names_and_types())
    (after,) = node.set_parameters([Parameter("role_name", value="third")])
    assert not after.successful and "fixed" in after.reason
    node.destroy_node()


def test_route_from_a_volatile_publisher_is_reported_not_just_missing(bench: Bench) -> None:
    topic = "/carla/ego_vehicle/waypoints"
    bench.bridge.create_publisher(Path, topic, qos.STREAM)
    assert bench.spin_until(lambda: f"qos {topic}" in bench.planner.diagnostics.states())
    message = bench.planner.diagnostics.states()[f"qos {topic}"].message
    for part in ("durability", topic, "/stub_bridge offers volatile", "/adawm_planner asks for transient local"):
        assert part in message


def test_diagnostics_tell_what_the_stages_take(driving: Bench) -> None:
    for k in range(2, 12):
        step(driving, k)
    assert driving.planner.loop is not None
    values = dict(timing_state(driving.planner.loop).values)
    stages = ("receive", "observation", "inference", "control", "publish")
    assert all(float(values[f"{stage}_p50_ms"]) > 0.0 for stage in stages)
