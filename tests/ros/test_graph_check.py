"""What the doctor finds wrong on a live graph: every fault is made with real nodes."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import rclpy
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleStatus, CarlaStatus
from derived_object_msgs.msg import ObjectArray
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from adawm_planner.diagnosis.check import Check
from adawm_planner.ros import qos
from adawm_planner.ros.convert import make_header, ns_to_stamp, quaternion_from_yaw
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC
from adawm_planner.ros.graph_check import look
from tests.ros.stub_bridge import DOMAIN

ROLE = "doctored"
EGO = f"/carla/{ROLE}"
SPEED, RATE, STEP_NS = 6.0, 0.4, 50_000_000
LOOK_S = 0.9
"""Long enough for discovery within a context and ten samples of a turn."""


@dataclass
class Fault:
    """What is wrong with the patient."""

    odometry: QoSProfile = field(default_factory=lambda: qos.STREAM)
    waypoints: QoSProfile = field(default_factory=lambda: qos.ROUTE)
    objects: type[Any] = ObjectArray
    frame: str = "map"
    child: str = ROLE
    imu_sign: float = 1.0
    steer_sign: float = 1.0
    twist_in_map: bool = False
    tf_shift_m: float = 0.0
    stamps_ns: Callable[[int], int | None] = field(default=lambda k: k * STEP_NS)  # of /clock; None: not sent


class Patient:
    """A bridge whose car drives a left circle, with faults."""

    def __init__(self, context: Any, fault: Fault, role: str = ROLE) -> None:
        self.node = rclpy.create_node("patient", context=context)
        ego, make = f"/carla/{role}", self.node.create_publisher
        self._fault, self._k = fault, 0
        self._clock = make(Clock, "/clock", qos.STREAM)
        self._odometry = make(Odometry, f"{ego}/odometry", fault.odometry)
        self._status = make(CarlaEgoVehicleStatus, f"{ego}/vehicle_status", qos.STREAM)
        self._imu = make(Imu, f"{ego}/imu", qos.STREAM)
        self._tf = make(TFMessage, "/tf", qos.TRANSFORMS)
        make(fault.objects, f"{ego}/objects", qos.STREAM)
        make(CarlaEgoVehicleInfo, f"{ego}/vehicle_info", qos.SENT_ONCE)
        make(Path, f"{ego}/waypoints", fault.waypoints)
        self.node.create_subscription(
            CarlaEgoVehicleControl, f"{ego}/vehicle_control_cmd", lambda message: None, qos.STREAM
        )

    def tick(self) -> None:
        """Publish one frame of the circle."""
        fault, t = self._fault, self._k * STEP_NS * 1e-9
        yaw = 0.9 + RATE * t
        x, y = (SPEED / RATE) * (math.sin(yaw) - math.sin(0.9)), -(SPEED / RATE) * (math.cos(yaw) - math.cos(0.9))
        header = make_header(self._k * STEP_NS, fault.frame)
        odometry = Odometry(header=header, child_frame_id=fault.child)
        odometry.pose.pose.position.x, odometry.pose.pose.position.y = x, y
        odometry.pose.pose.orientation = quaternion_from_yaw(yaw)
        linear = odometry.twist.twist.linear
        linear.x = SPEED * math.cos(yaw) if fault.twist_in_map else SPEED
        linear.y = SPEED * math.sin(yaw) if fault.twist_in_map else 0.0
        odometry.twist.twist.angular.z = RATE
        status = CarlaEgoVehicleStatus(header=header, velocity=SPEED, orientation=quaternion_from_yaw(yaw))
        status.control.steer = -0.3 * fault.steer_sign
        imu = Imu(header=make_header(self._k * STEP_NS, f"{ROLE}/imu"))
        imu.angular_velocity.z = RATE * fault.imu_sign
        ego = TransformStamped(header=make_header(self._k * STEP_NS, "map"), child_frame_id=ROLE)
        ego.transform.translation.x, ego.transform.translation.y = x + fault.tf_shift_m, y
        ego.transform.rotation = quaternion_from_yaw(yaw)
        sensor = TransformStamped(header=make_header(self._k * STEP_NS, ROLE), child_frame_id=f"{ROLE}/imu")
        stamp = fault.stamps_ns(self._k)
        if stamp is not None:
            self._clock.publish(Clock(clock=ns_to_stamp(stamp)))
        self._tf.publish(TFMessage(transforms=[ego, sensor]))
        self._odometry.publish(odometry)
        self._status.publish(status)
        self._imu.publish(imu)
        self._k += 1


class Ward:
    """One context for doctor and patients; a thread ticks and answers for the patients."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.doctor = rclpy.create_node("adawm_doctor", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []
        self._patients: list[Patient] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def admit(self, fault: Fault, role: str = ROLE) -> Patient:
        patient = Patient(self.context, fault, role)
        self._patients.append(patient)
        self.add(patient.node)
        return patient

    def add(self, node: Node) -> Node:
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def named(self, name: str, namespace: str = "", **parameters: Any) -> Node:
        overrides = [Parameter(key, value=value) for key, value in parameters.items()]
        node = rclpy.create_node(name, context=self.context, namespace=namespace, parameter_overrides=overrides)
        return self.add(node)

    def look(self, namespace: str = "") -> list[Check]:
        self._thread.start()
        try:
            return look(self.doctor, ROLE, LOOK_S, namespace)
        finally:
            self._over.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            for patient in self._patients:
                patient.tick()
            self._executor.spin_once(timeout_sec=0.0)
            time.sleep(0.02)

    def close(self) -> None:
        self._executor.shutdown()
        for node in [*self._nodes, self.doctor]:
            node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def ward() -> Iterator[Ward]:
    # A lifecycle node of an earlier test stays in the graph as long as its object lives, which a planner that drove
    # has frozen: to the doctor it would be a planner that runs.
    gc.unfreeze()
    gc.collect()
    ward = Ward()
    yield ward
    ward.close()


def wrongs(found: list[Check]) -> list[tuple[str, str]]:
    return [(one.name, one.subject) for one in found if not one.ok]


def test_a_healthy_bridge_is_heard_and_nothing_is_wrong(ward: Ward) -> None:
    ward.admit(Fault())
    found = ward.look()
    assert wrongs(found) == []
    assert sum("agreement +1.00" in one.found for one in found) == 3  # yaw, IMU, steering: all were judged
    assert any("simulated seconds per second" in one.found for one in found)


def test_an_empty_graph_lacks_everything(ward: Ward) -> None:
    assert {name for name, _ in wrongs(ward.look())} == {"endpoint_missing"}


FAULTS = [
    (
        Fault(
            odometry=QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            objects=String,
            imu_sign=-1.0,
            stamps_ns=lambda k: None,
        ),
        {
            "qos_reliability": "odometry",
            "type_differs": "objects",
            "imu_mirrored": "imu",
            "clock_silent": "/clock",
        },
    ),
    (
        Fault(waypoints=QoSProfile(depth=1), child="base_link", imu_sign=57.3, stamps_ns=lambda k: 7 * 10**9),
        {
            "qos_durability": "waypoints",
            "frame_differs": "odometry",
            "yaw_rate_unit": "imu",
            "clock_stopped": "/clock",
        },
    ),
    (
        Fault(twist_in_map=True, tf_shift_m=2.0, steer_sign=-1.0, stamps_ns=lambda k: (k % 5) * STEP_NS),
        {
            "twist_in_map_axes": "odometry",
            "pose_differs": "/tf",
            "steer_mirrored": "vehicle_status",
            "clock_backwards": "/clock",
        },
    ),
]
"""Faults of different topics, and what must be found of them: these and no other errors."""


@pytest.mark.parametrize(("fault", "rules"), FAULTS, ids=["unheard", "renamed", "turned"])
def test_each_fault_has_its_finding_and_no_other(ward: Ward, fault: Fault, rules: dict[str, str]) -> None:
    ward.admit(fault)
    found = {one.name: one for one in ward.look() if one.level == "error"}
    assert set(found) == set(rules)
    for name, subject in rules.items():
        assert subject in found[name].subject and found[name].found and found[name].expected and found[name].fix


def test_header_frames_and_frames_that_tf_lacks(ward: Ward) -> None:
    ward.admit(Fault(frame="odom"))
    found = wrongs(ward.look())
    assert ("frame_differs", f"{EGO}/odometry") in found and ("frame_differs", f"{EGO}/vehicle_status") in found
    assert ("frame_not_in_tf", "odom") in found


def test_proposals_that_no_gate_takes_are_named(ward: Ward) -> None:
    ward.admit(Fault())
    planner = ward.named("adawm_planner", use_sim_time=True)
    planner.create_publisher(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM)
    missing = ("endpoint_missing", f"/{PROPOSAL_TOPIC}")
    assert wrongs(ward.look()) == [("endpoint_missing", f"{EGO}/vehicle_control_cmd"), missing]


def test_a_planner_in_a_namespace_is_asked_for_its_time(ward: Ward) -> None:
    ward.admit(Fault())
    planner = ward.named("adawm_planner", "car7", use_sim_time=False)
    planner.create_publisher(CarlaEgoVehicleControl, PROPOSAL_TOPIC, qos.STREAM)
    assert wrongs(ward.look("car7")) == [
        ("endpoint_missing", f"{EGO}/vehicle_control_cmd"),
        ("endpoint_missing", f"/car7/{PROPOSAL_TOPIC}"),
        ("clock_ignored", "/car7/adawm_planner"),
    ]


def test_two_controllers_are_named(ward: Ward) -> None:
    ward.admit(Fault())
    for name in ("local_planner", "adawm_planner"):
        ward.named(name, use_sim_time=True).create_publisher(
            CarlaEgoVehicleControl, f"{EGO}/vehicle_control_cmd", qos.STREAM
        )
    found = [one for one in ward.look() if not one.ok]
    (two,) = [one for one in found if one.name == "several_controllers"]
    assert "/local_planner" in two.found and "/adawm_planner" in two.found


def test_a_live_subscription_that_asks_too_much_is_named_with_its_policy(ward: Ward) -> None:
    ward.admit(Fault())
    strict = ward.named("strict")
    deadline = QoSProfile(depth=1, deadline=Duration(seconds=0.1))
    alive = QoSProfile(
        depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=Duration(seconds=1)
    )
    strict.create_subscription(Odometry, f"{EGO}/odometry", lambda message: None, deadline)
    strict.create_subscription(ObjectArray, f"{EGO}/objects", lambda message: None, alive)
    found = {one.name: one for one in ward.look() if not one.ok}
    assert set(found) == {"qos_deadline", "qos_liveliness"}
    assert found["qos_deadline"].found == "/patient offers none"
    assert found["qos_deadline"].expected == "0.1 s, as /strict asks for"


def test_another_role_is_named(ward: Ward) -> None:
    ward.admit(Fault(), role="hero")
    found = ward.look()
    (role,) = [one for one in found if one.name == "wrong_role"]
    assert "hero" in role.found and ROLE in role.expected


def test_a_node_that_takes_wall_time_beside_a_clock_is_named_and_the_clocks_maker_is_not(ward: Ward) -> None:
    ward.admit(Fault())
    for name, simulated in (("adawm_planner", True), ("adawm_finetuner", False), ("sim_bridge", False)):
        ward.named(name, use_sim_time=simulated)
    found = [one for one in ward.look() if one.name.startswith("clock")]
    assert [(one.name, one.subject) for one in found] == [("clock_ignored", "/adawm_finetuner")]


def test_a_world_that_says_it_is_paused_is_not_called_hung(ward: Ward) -> None:
    patient = ward.admit(Fault(stamps_ns=lambda k: None))
    lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    paused = CarlaStatus(frame=1, synchronous_mode=True, synchronous_mode_running=False)
    patient.node.create_publisher(CarlaStatus, "/carla/status", lasting).publish(paused)
    found = [one for one in ward.look() if not one.ok]
    assert [(one.name, one.level) for one in found] == [("clock_paused", "warning")]
