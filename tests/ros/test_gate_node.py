"""The gate as a node: sole publisher of commands, one per frame, alive without its planner, released by a service."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import HANG_S

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

import rclpy
from adawm_msgs.msg import GateStatus
from carla_msgs.msg import CarlaEgoVehicleControl
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from adawm_planner.config.gate import GateConfig
from adawm_planner.ros import convert, qos
from adawm_planner.ros.diagnostics import OK, WARN
from adawm_planner.ros.gate_node import GateNode
from adawm_planner.ros.gate_parameters import GATE_PARAMETERS, gate_config_from
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC, STATUS_TOPIC
from adawm_planner.ros.lifecycle import REFUSED
from adawm_planner.ros.planner_adapters import UPDATE_TOPIC
from tests.ros.spinner import Spinner, end
from tests.ros.stub_bridge import DOMAIN, FRAME_NS, Bench, StubBridge

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = "/carla/ego_vehicle/vehicle_control_cmd"


class Rig(Bench):
    """A gate, a stub bridge, and a planner that the test plays."""

    def __init__(self, context: Context, **parameters: object) -> None:
        overrides = [rclpy.parameter.Parameter(name, value=value) for name, value in parameters.items()]
        self.gate = GateNode(context=context, parameter_overrides=overrides)
        super().__init__(context, self.gate, StubBridge("ego_vehicle", context))
        self.proposals = self.bridge.create_publisher(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM)
        self.override = self.bridge.create_publisher(
            Bool, "/carla/ego_vehicle/vehicle_control_manual_override", qos.ROUTE
        )
        self.said: list[GateStatus] = []
        self.bridge.create_subscription(GateStatus, STATUS_TOPIC, self.said.append, qos.STATUS)
        self.diagnosed: list[DiagnosticArray] = []
        self.bridge.create_subscription(DiagnosticArray, "/diagnostics", self.diagnosed.append, qos.STATUS)
        self.gate.trigger_configure()
        self.gate.trigger_activate()
        self.k = 0

    def begin(self, use_world_status: bool = True) -> None:
        """Connect, and describe vehicle and route."""
        self.connect(use_world_status)
        assert self.spin_until(lambda: self.proposals.get_subscription_count() > 0)
        self.bridge.publish_world(0)
        self.bridge.publish_vehicle()
        self.bridge.publish_route()
        loop = self.gate.loop
        assert loop is not None and self.spin_until(lambda: loop._vehicle is not None and loop._route is not None)

    def frame(self, throttle: float | None = 0.25, **changes: float) -> CarlaEgoVehicleControl:
        """Publish a frame, propose unless None, and return the command that comes."""
        self.k += 1
        seen = len(self.bridge.commands)
        self.bridge.publish_world(self.k)
        self.bridge.publish_frame(self.k, **changes)
        if throttle is not None:
            header = convert.make_header(self.k * FRAME_NS, "map")
            self.proposals.publish(CarlaEgoVehicleControl(header=header, throttle=throttle))
        assert self.spin_until(lambda: len(self.bridge.commands) > seen)
        assert len(self.bridge.commands) == seen + 1
        return self.bridge.commands[-1]


@pytest.fixture
def rig(context: Context) -> Iterator[Rig]:
    rig = Rig(context)
    yield rig
    rig.close()


def test_one_command_per_frame_and_the_gate_alone_publishes_them(rig: Rig) -> None:
    rig.begin()
    for k in range(1, 21):
        command = rig.frame()
        assert command.throttle == 0.25 and convert.stamp_to_ns(command.header.stamp) == k * FRAME_NS
    assert len(rig.bridge.commands) == 20
    publishers = rig.bridge.get_publishers_info_by_topic(COMMANDS)
    assert [each.node_name for each in publishers] == ["adawm_gate"]
    assert rig.said[-1].state == GateStatus.PASSING and rig.said[-1].rule == ""


def test_a_vehicle_is_braked_for_in_a_silence_whoever_says_that_the_world_is_paused(context: Context) -> None:
    rig = Rig(context, use_world_status=False)
    rig.begin(use_world_status=False)
    rig.bridge.publish_world(1, running=False)
    rig.frame()
    seen = len(rig.bridge.commands)
    assert rig.spin_until(lambda: len(rig.bridge.commands) >= seen + 3)
    assert all(command.brake > 0.0 and command.throttle == 0.0 for command in rig.bridge.commands[seen:])
    assert rig.gate.loop is not None and rig.gate.loop.intake.world is None
    assert rig.bridge.status.get_subscription_count() == 0
    rig.close()


def test_a_gate_that_is_activated_again_still_has_one_publisher(rig: Rig) -> None:
    rig.gate.trigger_deactivate()
    rig.gate.trigger_activate()
    assert rig.spin_until(lambda: len(rig.bridge.get_publishers_info_by_topic(COMMANDS)) > 0)
    rig.spin_for(0.2)
    assert len(rig.bridge.get_publishers_info_by_topic(COMMANDS)) == 1


def test_a_gate_that_was_inactive_for_seconds_drives_again(rig: Rig) -> None:
    rig.begin()
    for _ in range(5):
        rig.frame()
    rig.gate.trigger_deactivate()
    rig.k += 40  # which it does not hear
    rig.spin_for(2.0)
    rig.gate.trigger_activate()
    commands = [rig.frame() for _ in range(20)]
    assert commands[-1].throttle == 0.25 and commands[-1].brake == 0.0
    assert all(said.state != GateStatus.STOPPING for said in rig.said)


def test_an_inactive_gate_says_so_once_and_no_more_that_it_passes(rig: Rig) -> None:
    rig.begin()
    for _ in range(3):
        rig.frame()
    assert rig.spin_until(lambda: bool(rig.said) and rig.said[-1].state == GateStatus.PASSING)
    rig.gate.trigger_deactivate()
    assert rig.spin_until(lambda: rig.said[-1].state == GateStatus.STOPPED)
    assert "inactive" in rig.said[-1].reason and rig.said[-1].rule == "inactive"
    said = len(rig.said)
    rig.gate._each_second()
    rig.spin_for(0.3)
    assert len(rig.said) == said
    state = rig.gate.diagnostics.states()["gate"]
    assert state.level == WARN and "inactive" in state.message
    rig.gate.trigger_activate()
    assert "gate" not in rig.gate.diagnostics.states()
    rig.frame()
    assert rig.spin_until(lambda: len(rig.said) > said), "what was said before is said again"
    rig.gate.trigger_deactivate()
    rig.gate.trigger_cleanup()
    assert "gate" not in rig.gate.diagnostics.states()


def test_nonsense_is_answered_with_brakes_and_told(rig: Rig) -> None:
    rig.begin()
    rig.frame()
    command = rig.frame(throttle=math.nan)
    assert command.throttle == 0.0 and command.brake > 0.0
    assert rig.spin_until(lambda: bool(rig.said) and rig.said[-1].rule == "proposal_not_finite")
    assert rig.said[-1].state == GateStatus.STOPPING and "limit" in rig.said[-1].reason

    def diagnosed() -> bool:
        texts = [status.message for array in rig.diagnosed for status in array.status]
        return any("proposal_not_finite" in text for text in texts)

    assert rig.spin_until(diagnosed)


def test_inputs_and_commands_that_do_not_match_are_complained_of_until_they_do(rig: Rig) -> None:
    rig.begin()
    odometry = "/carla/ego_vehicle/odometry"
    weak = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = rig.bridge.create_publisher(Odometry, odometry, weak)
    lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    eager = rig.bridge.create_subscription(CarlaEgoVehicleControl, COMMANDS, lambda message: None, lasting)
    states = rig.gate.diagnostics.states

    assert rig.spin_until(lambda: {f"qos {odometry}", f"qos {COMMANDS}"} <= states().keys())
    assert "reliability: /stub_bridge offers best effort" in states()[f"qos {odometry}"].message
    assert "durability: /adawm_gate offers volatile" in states()[f"qos {COMMANDS}"].message
    rig.bridge.destroy_publisher(other)
    rig.bridge.destroy_subscription(eager)
    assert rig.spin_until(lambda: all(states()[f"qos {topic}"].level == OK for topic in (odometry, COMMANDS)))


def test_without_a_planner_frames_are_braked_to_a_hold_that_the_service_ends(rig: Rig) -> None:
    rig.begin()
    for _ in range(3):
        rig.frame()
    for _ in range(12):
        assert rig.frame(throttle=None).brake > 0.0
    assert rig.gate.loop is not None
    client = rig.bridge.create_client(Trigger, "/adawm_gate/release")
    assert rig.spin_until(client.service_is_ready)

    def release() -> Trigger.Response:
        future = client.call_async(Trigger.Request())
        assert rig.spin_until(future.done)
        return future.result()

    refused = release()
    assert not refused.success and "comfortable_stop" in refused.message
    stands = {"x": 10.0, "speed": 0.0}
    for _ in range(20):
        assert rig.frame(throttle=None, **stands).brake > 0.0
    assert rig.spin_until(lambda: rig.said[-1].state == GateStatus.STOPPED)
    assert rig.frame(**stands).brake > 0.0  # a planner that is back does not end it
    assert release().success
    commands = [rig.frame(**stands) for _ in range(5)]
    assert commands[-1].throttle == 0.25 and commands[-1].brake == 0.0
    assert rig.spin_until(lambda: rig.said[-1].state == GateStatus.PASSING)


def test_the_person_at_the_wheel_is_respected(rig: Rig) -> None:
    rig.begin()
    rig.frame()
    rig.override.publish(Bool(data=True))
    rig.spin_for(0.2)
    assert rig.frame().brake > 0.0  # the bridge takes none of these
    rig.override.publish(Bool(data=False))
    rig.spin_for(0.2)
    rig.frame()
    assert rig.frame().throttle == 0.25


def test_a_stepped_world_is_kept_waiting_until_a_planner_is_there(context: Context) -> None:
    rig = Rig(context, await_planner=True)
    rig.bridge.destroy_publisher(rig.proposals)
    try:
        rig.spin_for(0.5)
        assert rig.bridge.count_publishers(COMMANDS) == 0
        rig.proposals = rig.bridge.create_publisher(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM)
        rig.begin()
        assert rig.frame().throttle == 0.25
    finally:
        rig.close()


def test_the_parameters_are_the_limits() -> None:
    assert gate_config_from({each.name: each.default for each in GATE_PARAMETERS}) == GateConfig()
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    from adawm_planner.ros.parameters import markdown

    assert markdown(GATE_PARAMETERS) in page


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"limits.speed_mps": 22.0}, "limits.speed_mps is 22, must be above 22 m/s, which command.speed_mps"),
        ({"watch.route_m": 10.0}, "watch.route_m is 10, must be below limits.route_distance_m, 10 m: no place"),
        ({"limits.incomplete_s": 0.3}, "limits.incomplete_s is 0.3, must be at most limits.stale_s, 0.25 s"),
        ({"wait_s": 0.8}, "wait_s is 0.8, must be at most limits.stale_s, 0.25 s: no silence is noticed"),
        ({"limits.stale_s": 0.15}, "wait_s is 0.2, must be at most limits.stale_s, 0.15 s"),
    ],
)
def test_limits_of_the_inputs_that_contradict_the_gate_are_refused(changed: dict[str, float], words: str) -> None:
    values = {each.name: each.default for each in GATE_PARAMETERS}
    with pytest.raises(ValueError, match=words):
        gate_config_from(values | changed)


def test_a_stepped_world_that_waits_for_its_planner_may_be_given_longer() -> None:
    values = {each.name: each.default for each in GATE_PARAMETERS}
    assert gate_config_from(values | {"wait_s": 0.8, "await_planner": True}) == GateConfig()


def test_limits_that_contradict_each_other_are_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "adawm_planner.ros.gate_node", "--ros-args", "-p", "stop.emergency_mps2:=3.0"]
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == REFUSED and "emergency_mps2" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def _start(*words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)}
    return subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=environment)


def test_a_killed_planner_is_braked_for_by_the_gate_process(context: Context) -> None:
    """Real processes in real time: SIGKILL of the planner, and the time until the first braking command."""
    from rclpy.node import Node

    planner = _start("tests.ros.fake_planner", "--ros-args", "-p", "use_map:=false", "-p", "use_gate:=true")
    gate = _start("adawm_planner.ros.gate_node", "--ros-args", "-p", "await_planner:=true")
    bench = Bench(context, Node("idle", context=context), StubBridge("ego_vehicle", context))
    bridge, k = bench.bridge, 0

    def tick() -> None:
        nonlocal k
        k += 1
        bridge.publish_frame(k)
        bench.spin_for(0.05)

    try:
        bench.connect()
        bridge.publish_vehicle()
        bridge.publish_route(length=400)
        bench.spin_for(0.3)
        while not any(command.throttle > 0.0 for command in bridge.commands[-3:]) and k < 200:
            tick()
        assert bridge.commands[-1].throttle > 0.0
        planner.kill()
        killed, before = time.monotonic(), len(bridge.commands)
        while not any(command.brake > 0.0 for command in bridge.commands[before:]):
            tick()
            assert time.monotonic() - killed < HANG_S
        braked = next(i for i, command in enumerate(bridge.commands[before:]) if command.brake > 0.0)
        assert braked <= 5  # frames of 0.05 s: logic, not the machine's speed
        assert all(command.throttle == 0.0 for command in bridge.commands[before + braked :])
        bench.spin_for(0.1)
        gate.send_signal(signal.SIGTERM)
        assert gate.wait(timeout=HANG_S) == 0
    finally:
        end(planner, gate)
        bench.close()


def test_diagnostics_tell_what_the_stages_take(rig: Rig) -> None:
    rig.begin()
    for _ in range(5):
        rig.frame()

    def told() -> dict[str, str]:
        states = (status for message in rig.diagnosed for status in message.status)
        return {
            each.key: each.value for status in states if status.name == "adawm_gate: timing" for each in status.values
        }

    assert rig.spin_until(lambda: "publish_max_ms" in told())
    assert all(float(told()[f"{stage}_p99.9_ms"]) > 0.0 for stage in ("receive", "gate", "publish"))


def test_each_namespace_has_a_gate_of_its_own(context: Context) -> None:
    """Two vehicles in one world: a proposal moves the vehicle of its own namespace, and only that one."""
    gates = [GateNode(context=context, namespace=name) for name in ("hero1", "hero2")]
    mine, theirs = gates
    bridge = StubBridge("ego_vehicle", context)
    proposals = bridge.create_publisher(CarlaEgoVehicleControl, f"/hero1/{PROPOSAL_TOPIC}", qos.STREAM)
    told = set[str]()

    def hear(array: DiagnosticArray) -> None:
        told.update(status.name for status in array.status)

    bridge.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    bench = Spinner(context, *gates, bridge)
    try:
        for gate in gates:
            gate.trigger_configure()
            gate.trigger_activate()
            assert gate.resolve_topic_name(STATUS_TOPIC) == gate.resolve_topic_name("~/status")
            assert gate.resolve_topic_name(UPDATE_TOPIC) == f"{gate.get_namespace()}/adawm_finetuner/adapter"
        assert bench.spin_until(lambda: proposals.get_subscription_count() == 1)
        proposals.publish(CarlaEgoVehicleControl(throttle=0.25))
        assert bench.spin_until(lambda: mine.loop is not None and mine.loop.counters.proposals == 1)
        bench.spin_for(0.3)
        assert theirs.loop is not None and theirs.loop.counters.proposals == 0
        assert bench.spin_until(lambda: told >= {"hero1/adawm_gate: timing", "hero2/adawm_gate: timing"})
    finally:
        bench.close()
