"""Adapters over DDS with a real model: pushed, shadowed, flipped, committed; refused, rolled back, pinned, restored."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("carla_msgs.msg")

from adawm_msgs.msg import AdapterUpdate, BundleFile, Experience, PlannerStatus
from adawm_msgs.srv import ListAdapters, LoadAdapter, PinAdapter, RollbackAdapter
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool

from adawm_planner.adapters.bundle import write_bundle
from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.peft_files import TENSOR_FILE
from adawm_planner.adapters.refusal import Reason
from adawm_planner.adapters.store import AdapterStore, read_state
from adawm_planner.adapters.verify import VerifiedAdapter
from adawm_planner.ros import qos
from adawm_planner.ros.convert import byte_array
from adawm_planner.ros.planner_adapters import UPDATE_TOPIC
from adawm_planner.ros.planner_node import PlannerNode
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.model_files import CONFIG_FILE
from adawm_planner.runtime.swap.hot_swap import HotSwap
from benchmarks.forgery import hostile
from tests.adapters.conftest import KEY, Maker
from tests.patience import HANG_S
from tests.ros.spinner import end
from tests.ros.stub_bridge import DOMAIN, Bench, StubBridge
from tests.runtime.swap_rig import digest_of

pytestmark = pytest.mark.ros
KILLS = int(os.environ.get("ADAWM_KILLS", "3"))
SUCCESS = TransitionCallbackReturn.SUCCESS
ROOT = Path(__file__).resolve().parents[2]
EPISODE_FRAMES = 84
"""Frames until the goal of a route of 40 m, 20 m before its end, is reached at 5 m/s."""


@pytest.fixture
def values(maker: Maker, tmp_path: Path) -> dict[str, Any]:
    """Parameters of a planner that trusts the tests' key and commits after one good episode."""
    key = tmp_path / "maker.pub"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return {
        "use_map": False,
        "model_dir": str(maker.model_dir),
        "adapters.store": str(tmp_path / "store"),
        "adapters.trust": str(key),
        "adapters.shadow_decisions": 3,
        "adapters.shadow_disagreement": 1.0,
        "adapters.shadow_variation": 1.0,
        "adapters.probation_episodes": 1,
    }


class Driven(Bench):
    """A planner that is driven episode by episode, and everything it says."""

    def __init__(self, context: Context, planner: Any, bridge: StubBridge) -> None:
        super().__init__(context, planner, bridge)
        self.k = 0
        self.status: list[PlannerStatus] = []
        self.experience: list[Experience] = []
        self.diagnostics: list[DiagnosticArray] = []
        bridge.create_subscription(PlannerStatus, "/adawm_planner/status", self.status.append, qos.STATUS)
        bridge.create_subscription(Experience, "/adawm_planner/experience", self.experience.append, qos.EXPERIENCE)
        bridge.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, qos.STREAM)
        self.updates = bridge.create_publisher(AdapterUpdate, UPDATE_TOPIC, qos.ADAPTER)
        self.override = bridge.create_publisher(Bool, "/carla/ego_vehicle/vehicle_control_manual_override", qos.ROUTE)

    def begin(self) -> None:
        self.connect()
        self.bridge.publish_vehicle()
        assert self.spin_until(lambda: self.updates.get_subscription_count() > 0)

    def frames(self, count: int, start: int = 0) -> None:
        for i in range(start, start + count):
            self.k += 1
            sent = len(self.bridge.commands)
            self.bridge.publish_frame(self.k, x=1.0 + 0.25 * i)
            assert self.spin_until(lambda sent=sent: len(self.bridge.commands) > sent), f"frame {self.k}"

    def episode(self, frames: int = EPISODE_FRAMES) -> None:
        self.bridge.publish_route(40)
        self.spin_for(0.1)
        self.frames(frames)

    def push(self, files: dict[str, bytes]) -> None:
        self.updates.publish(
            AdapterUpdate(
                digest=digest_of(files),
                files=[BundleFile(name=name, data=byte_array(content)) for name, content in files.items()],
            )
        )

    def call(self, kind: type[Any], name: str, **request: Any) -> Any:
        client = self.bridge.create_client(kind, f"/adawm_planner/{name}")
        assert self.spin_until(client.service_is_ready)
        future = client.call_async(kind.Request(**request))
        assert self.spin_until(future.done), name
        self.bridge.destroy_client(client)
        return future.result()

    def digests(self) -> list[str]:
        return [each.digest for each in self.status[-1].adapters] if self.status else []

    def said(self, word: str) -> bool:
        return any(word in each.message for array in self.diagnostics for each in array.status)


def make(context: Context, values: dict[str, Any]) -> Driven:
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    planner = PlannerNode(context=context, parameter_overrides=overrides)
    driven = Driven(context, planner, StubBridge("ego_vehicle", context))
    assert planner.trigger_configure() == SUCCESS and planner.trigger_activate() == SUCCESS
    driven.begin()
    return driven


@pytest.fixture
def driven(context: Context, values: dict[str, Any]) -> Iterator[Driven]:
    made = make(context, values)
    yield made
    if made.planner.loop is not None:
        made.planner.trigger_deactivate()
        made.planner.trigger_cleanup()
    made.close()


def bundle(maker: Maker, **changes: Any) -> dict[str, bytes]:
    now = int(time.time())
    return maker.files(**{"created_unix_s": now - 60, "expires_unix_s": now + 3600, **changes})


def commit(driven: Driven, files: dict[str, bytes]) -> None:
    driven.push(files)
    driven.episode()
    driven.episode()
    assert driven.spin_until(lambda: driven.said(f"{digest_of(files)[:12]} committed"))


def test_a_pushed_bundle_is_shadowed_flipped_and_committed(driven: Driven, maker: Maker) -> None:
    files = bundle(maker)
    driven.episode(4)
    driven.push(files)
    assert driven.spin_until(lambda: driven.said(f"{digest_of(files)[:12]} shadow"))
    assert driven.digests() == []
    driven.frames(40, 4)
    assert driven.spin_until(lambda: driven.digests() == [digest_of(files)])
    assert driven.said(f"{digest_of(files)[:12]} probation")
    driven.episode()
    assert driven.spin_until(lambda: driven.said(f"{digest_of(files)[:12]} committed"))
    status = driven.status[-1]
    assert (status.swaps, status.refusals, status.last_refusal) == (1, 0, "") and status.swap_ms > 0.0
    assert status.adapters[0].part == "policy" and status.adapters[0].active and status.adapters[0].counter == 7
    deciders = [tuple(one.adapter_digests) for one in driven.experience]
    assert deciders[0] == () and deciders[-1] == (digest_of(files),)


def test_an_episode_that_had_failed_counts_though_the_planner_is_deactivated(driven: Driven, maker: Maker) -> None:
    driven.push(bundle(maker))
    driven.episode(40)
    assert driven.spin_until(lambda: driven.said("probation"))
    driven.override.publish(Bool(data=True))
    driven.spin_for(0.2)
    driven.frames(8, 40)
    assert driven.planner._swaps.report.figures["probation_episodes"] == "0"
    driven.planner.trigger_deactivate()
    assert driven.spin_until(lambda: driven.planner._swaps.report.figures["probation_episodes"] == "1")
    assert driven.planner._swaps.report.figures["probation_successes"] == "0"
    assert driven.planner.trigger_activate() == SUCCESS


def test_a_bad_bundle_is_refused_with_its_reason_and_driving_goes_on(driven: Driven, maker: Maker) -> None:
    files = bundle(maker)
    driven.episode(8)
    driven.push({**files, TENSOR_FILE: files[TENSOR_FILE][:-1] + b"\1"})
    assert driven.spin_until(lambda: bool(driven.status) and driven.status[-1].refusals == 1)
    assert driven.status[-1].last_refusal.startswith("file_digest: ")
    assert driven.spin_until(lambda: driven.said("file_digest: "))
    driven.push({**files, "model.pkl": b"\x80"})
    assert driven.spin_until(lambda: driven.status[-1].last_refusal.startswith("extra_file"))
    driven.frames(40, 8)
    assert driven.digests() == [] and driven.status[-1].swaps == 0


def attacks(maker: Maker, good: dict[str, bytes]) -> Iterator[tuple[Reason, dict[str, bytes]]]:
    """All of them, against a vehicle that drives with `good`, counter 7."""
    now = int(time.time())
    draft = replace(maker.draft, name="next", counter=8, created_unix_s=now - 60, expires_unix_s=now + 3600)
    factors = {part: maker.factors(part) for part in PARTS}
    return hostile(draft, good, factors, maker.session, KEY)


def test_every_attack_is_refused_with_its_reason_while_it_drives_every_frame(driven: Driven, maker: Maker) -> None:
    """`frames` holds that each frame has its command."""
    good = bundle(maker)
    commit(driven, good)
    assert driven.spin_until(lambda: driven.digests() == [digest_of(good)])
    driven.bridge.publish_route(40)
    driven.spin_for(0.1)
    commands, swaps = len(driven.bridge.commands), driven.status[-1].swaps
    for sent, (reason, files) in enumerate(attacks(maker, good), start=1):
        driven.push(files)
        driven.frames(2, 2 * sent)
        assert driven.spin_until(lambda sent=sent: driven.status[-1].refusals >= sent), reason  # type: ignore[misc]
        told = driven.status[-1].last_refusal
        assert told.startswith(f"{reason.value}: "), f"{reason.value} expected, told was '{told}'"
        assert driven.status[-1].refusals == sent
    assert len(driven.bridge.commands) == commands + 2 * sent
    assert driven.digests() == [digest_of(good)] and driven.status[-1].swaps == swaps
    following = bundle(maker, counter=8, name="next")
    driven.push(following)
    said = f"{digest_of(following)[:12]} shadow"
    assert driven.spin_until(lambda: driven.said(said)), "an update in order is still taken"


def test_services(driven: Driven, maker: Maker, tmp_path: Path) -> None:
    files = bundle(maker)
    write_bundle(tmp_path / "bundle", files)
    assert (
        "other_digest"
        in driven.call(LoadAdapter, "load_adapter", path=str(tmp_path / "bundle"), expected_digest="0").message
    )
    assert not driven.call(LoadAdapter, "load_adapter", path="~nobody-of-this-name/bundle").success
    loaded = driven.call(LoadAdapter, "load_adapter", path=str(tmp_path / "bundle"))
    assert loaded.success and loaded.adapter.digest == digest_of(files) and not loaded.adapter.active
    driven.episode()
    driven.episode()
    assert driven.spin_until(lambda: driven.said(f"{digest_of(files)[:12]} committed"))
    listed = driven.call(ListAdapters, "list_adapters")
    assert listed.base_digest == maker.base.digest and [each.active for each in listed.adapters] == [True]
    pinned = driven.call(PinAdapter, "pin_adapter", digest=digest_of(files), pinned=True)
    assert pinned.success and pinned.adapter.pinned
    driven.push(bundle(maker, counter=8, name="second"))
    assert driven.spin_until(lambda: driven.status[-1].last_refusal.startswith("pinned"))
    back = driven.call(RollbackAdapter, "rollback_adapter", part="policy")
    assert back.success and list(back.adapters) == []
    assert driven.spin_until(lambda: driven.digests() == [])
    again = driven.call(RollbackAdapter, "rollback_adapter")
    assert not again.success and "base model drives already" in again.message
    assert driven.call(PinAdapter, "pin_adapter", digest="policy", pinned=False).success


def test_a_planner_that_is_closed_while_an_operator_waits_lives_on(
    driven: Driven, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    begun, go_on, handle = threading.Event(), threading.Event(), HotSwap.handle

    def slowly(self: HotSwap, event: Any) -> None:
        begun.set()
        go_on.wait()
        handle(self, event)

    monkeypatch.setattr(HotSwap, "handle", slowly)
    client = driven.bridge.create_client(ListAdapters, "/adawm_planner/list_adapters")
    assert driven.spin_until(client.service_is_ready)
    client.call_async(ListAdapters.Request())
    assert driven.spin_until(begun.is_set)
    threading.Timer(0.2, go_on.set).start()
    assert driven.planner.trigger_deactivate() == SUCCESS and driven.planner.trigger_cleanup() == SUCCESS
    driven.spin_for(0.3)
    assert "list_adapters: closed before its caller was answered" in "".join(capfd.readouterr())
    assert driven.planner.trigger_configure() == SUCCESS
    assert driven.call(ListAdapters, "list_adapters").base_digest
    assert driven.planner.trigger_cleanup() == SUCCESS


def test_an_intervention_counts_against_it(context: Context, values: dict[str, Any], maker: Maker) -> None:
    driven = make(context, {**values, "adapters.probation_episodes": 20})
    files = bundle(maker)
    driven.push(files)
    driven.override.publish(Bool(data=True))
    for _ in range(6):
        driven.episode()
    assert any(one.intervention == "manual_override" for one in driven.experience)
    assert driven.spin_until(lambda: driven.said(f"{digest_of(files)[:12]} rolled_back"))
    assert driven.spin_until(lambda: driven.status[-1].last_refusal.startswith("probation: "))
    assert driven.spin_until(lambda: driven.digests() == [])
    driven.planner.trigger_deactivate()
    driven.planner.trigger_cleanup()
    driven.close()


def test_a_restart_brings_the_committed_one_back_and_no_other(
    context: Context, values: dict[str, Any], maker: Maker
) -> None:
    driven = make(context, values)
    files, second = bundle(maker), bundle(maker, counter=8, name="second")
    commit(driven, files)
    driven.push(second)
    driven.episode(40)
    assert driven.spin_until(lambda: driven.digests() == [digest_of(second)])
    driven.planner.trigger_deactivate()
    driven.planner.trigger_cleanup()
    assert driven.planner.trigger_configure() == SUCCESS and driven.planner.trigger_activate() == SUCCESS
    driven.status.clear()
    assert driven.spin_until(lambda: driven.digests() == [digest_of(files)])
    driven.planner.trigger_deactivate()
    driven.planner.trigger_cleanup()
    driven.close()


def test_without_a_store_it_drives_and_refuses_with_that_reason(
    context: Context, values: dict[str, Any], maker: Maker
) -> None:
    driven = make(context, {**values, "adapters.store": ""})
    driven.push(bundle(maker))
    driven.episode(12)
    assert driven.spin_until(lambda: bool(driven.status) and driven.status[-1].last_refusal.startswith("no_store"))
    driven.status.clear()
    for _ in range(50):
        driven.planner._adapters._on_update(b"")
    assert driven.spin_until(lambda: bool(driven.status) and driven.status[-1].refusals == 51)
    assert len(driven.status) <= 2, "a flood costs no message each"
    assert "adapters.store" in driven.call(RollbackAdapter, "rollback_adapter").message
    assert driven.call(ListAdapters, "list_adapters").adapters == []
    driven.close()


def test_adapters_are_checked_against_the_model_that_drives(
    context: Context, values: dict[str, Any], maker: Maker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(maker.model_dir, other)
    with (other / CONFIG_FILE).open("a") as config:
        config.write("# another model\n")
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    planner = PlannerNode(lambda values: OnnxEngine(other, "cpu"), context=context, parameter_overrides=overrides)
    assert planner.trigger_configure() == TransitionCallbackReturn.FAILURE
    planner.destroy_node()
    told = "".join(capfd.readouterr())
    assert f"{maker.model_dir}: holds model {maker.base.digest[:12]}, loaded was" in told


def test_an_empty_trust_list_accepts_nothing(context: Context, values: dict[str, Any], maker: Maker) -> None:
    driven = make(context, {**values, "adapters.trust": ""})
    driven.push(bundle(maker))
    assert driven.spin_until(lambda: bool(driven.status) and driven.status[-1].last_refusal.startswith("untrusted_key"))
    driven.planner.trigger_deactivate()
    driven.planner.trigger_cleanup()
    driven.close()


def test_a_store_that_cannot_be_opened_fails_configuration_and_can_be_mended(
    context: Context, values: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    bad = {**values, "adapters.store": str(tmp_path / "file")}
    planner = PlannerNode(context=context, parameter_overrides=[Parameter(n, value=v) for n, v in bad.items()])
    assert planner.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = "".join(capfd.readouterr())
    assert f"adapters.store {tmp_path / 'file'} cannot be used" in said and "give a folder" in said
    planner.set_parameters([Parameter("adapters.store", value=values["adapters.store"])])
    planner.set_parameters([Parameter("adapters.trust", value="/nowhere.pub")])
    assert planner.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = "".join(capfd.readouterr())
    assert "adapters.trust: /nowhere.pub: cannot be read" in said and "give a public key (.pub)" in said
    planner.set_parameters([Parameter("adapters.trust", value=values["adapters.trust"])])
    assert planner.trigger_configure() == SUCCESS and planner.trigger_cleanup() == SUCCESS
    planner.destroy_node()


def start(values: dict[str, Any]) -> subprocess.Popen[str]:
    words = {bool: lambda v: str(v).lower(), list: lambda v: "['" + "','".join(v) + "']"}
    given = [f"{name}:={words.get(type(value), str)(value)}" for name, value in values.items()]
    arguments = [word for each in given for word in ("-p", each)]
    return subprocess.Popen(
        [sys.executable, "-m", "adawm_planner.ros.planner_node", "--ros-args", *arguments],
        cwd=ROOT,
        env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN)},
        stdout=subprocess.DEVNULL,
    )


def test_a_killed_planner_comes_back_with_what_was_committed(
    context: Context, values: dict[str, Any], maker: Maker
) -> None:
    files, second = bundle(maker), bundle(maker, counter=8, name="second")
    planner = start(values)
    driven = Driven(context, Node("idle", context=context), StubBridge("ego_vehicle", context))
    try:
        driven.begin()
        commit(driven, files)
        driven.push(second)
        driven.episode(40)
        assert driven.spin_until(lambda: driven.digests() == [digest_of(second)])
        planner.send_signal(signal.SIGKILL)
        planner.wait()
        driven.status.clear()
        planner = start(values)
        assert driven.spin_until(lambda: bool(driven.status), HANG_S)
        assert driven.digests() == [digest_of(files)]
    finally:
        end(planner)
        driven.close()


def life(values: dict[str, Any], context: Context, files: dict[str, bytes], good: list[str], until: float) -> float:
    """A planner from its start to SIGKILL `until` seconds after an update is pushed; after the commit where infinite.

    What it drives with at first must be the newest of `good`, or the base model. Returns the time from the push [s].
    """
    planner, name = start(values), f"{digest_of(files)[:12]} committed"
    driven = Driven(context, Node("idle", context=context), StubBridge("ego_vehicle", context))
    try:
        driven.begin()
        assert driven.spin_until(lambda: bool(driven.status), HANG_S) and driven.digests() == good[-1:]
        driven.push(files)
        pushed = time.monotonic()
        kill = threading.Timer(until, planner.kill) if math.isfinite(until) else None
        if kill is not None:
            kill.start()
        while (
            planner.poll() is None and time.monotonic() < pushed + HANG_S and not (kill is None and driven.said(name))
        ):
            if driven.k % EPISODE_FRAMES == 0:
                driven.bridge.publish_route(40)
                driven.spin_for(0.05)
            driven.k, sent = driven.k + 1, len(driven.bridge.commands)
            driven.bridge.publish_frame(driven.k, x=1.0 + 0.25 * (driven.k % EPISODE_FRAMES))
            driven.spin_until(lambda sent=sent: len(driven.bridge.commands) > sent or planner.poll() is not None)  # type: ignore[misc]
        if driven.said(name):
            good.append(digest_of(files))
        return time.monotonic() - pushed
    finally:
        planner.kill()
        planner.wait()
        driven.close()


def test_a_planner_killed_at_any_moment_loses_no_committed_adapter(
    context: Context, values: dict[str, Any], maker: Maker
) -> None:
    rng, good, root, found = random.Random(0), list[str](), Path(values["adapters.store"]), Counter[str]()
    whole = life(values, context, bundle(maker, counter=1, name="first"), good, math.inf)
    assert len(good) == 1, "nothing was committed in 60 s"
    for number in range(2, KILLS + 2):
        files = bundle(maker, counter=number, name=f"number{number}", factors=maker.factors(seed=number))
        told = list(good)
        life(values, context, files, good, rng.uniform(0.0, 1.2 * whole))
        state = read_state(root)
        newest = state.part("policy").good[-1]
        assert newest == good[-1] or (good == told and newest == digest_of(files)), "committed, and not told in time"
        good += [] if newest == good[-1] else [newest]
        found[state.status(digest_of(files)).value if digest_of(files) in state.bundles else "not installed"] += 1
        with AdapterStore(root, int(time.time())) as store:  # what was told is whole, on disk
            assert isinstance(store.load(newest, maker.context, int(time.time())), VerifiedAdapter)
    life(values, context, bundle(maker, counter=KILLS + 2, name="last"), good, math.inf)
    print(f"{KILLS} kills within {1.2 * whole:.1f} s of a push; the update was by then {dict(found)}")
