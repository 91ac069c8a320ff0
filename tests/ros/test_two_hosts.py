"""Planner and finetuner on two hosts: network namespaces with a cable between them, and no memory in common."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

if os.environ.get("ADAWM_REQUIRE_ROS") and (absent := [name for name in ("torch", "libsumo") if not find_spec(name)]):
    pytest.fail(f"the test of two hosts must run, but {', '.join(absent)} cannot be imported: make setup")
pytest.importorskip("torch")
pytest.importorskip("adawm_msgs.msg")
pytest.importorskip("libsumo")

from adawm_planner.processes import Children
from adawm_planner.ros.node_table import FINETUNER, PLANNER, SIM_BRIDGE, NodeSpec, node_command
from adawm_planner.simulator.tasks import TASKS_DIR
from tests.finetuning.workplace import Workplace, make_workplace

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ("10.213.7.1/24", "10.213.7.2/24")
LIMIT_S = 400.0
"""Ends a test that hangs, and nothing else [s]."""

NEEDED = "mount -t tmpfs none /dev/shm && ip link add try0 type veth peer name try1 && ip link delete try0"
"""What a host must be able to do."""

HOLD = f"{NEEDED} && echo ready && exec cat"
"""Keeps a host's namespaces until its input ends. Hosts share no memory, so that DDS has to use the network."""

PACKAGES = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount"}
"""Programs that make hosts, and Debian's packages with them."""

UNABLE = ("not permitted", "denied", "not supported", "device type", "No space", "Invalid argument", "o such file")
"""What a kernel that makes no hosts says; anything else is a fault of these tests."""


@dataclass(frozen=True)
class Host:
    """Namespaces of network, memory and mounts, kept by a process; they end with the last process in them."""

    holder: int
    mapped: bool  # their owner is root in a user namespace only, because the tests do not run as root

    def ip(self, *words: str) -> None:
        subprocess.run(self.on("ip", *words), check=True, capture_output=True)

    def on(self, *words: str) -> list[str]:
        return [*self.owner(), "--mount", "--ipc", "--net", *words]

    def owner(self) -> list[str]:
        """Words that make who runs the words after them the owner of this host."""
        mapped = ["--user", "--preserve-credentials"] if self.mapped else []
        return ["nsenter", f"--target={self.holder}", *mapped]


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Hosts without a cable; the test is skipped where this machine cannot make one, with what it lacks."""
    if lacking := [f"{name} (package {PACKAGES[name]})" for name in PACKAGES if shutil.which(name) is None]:
        pytest.skip(f"this machine makes no network namespaces: there is no {', no '.join(lacking)}")
    mapped = os.geteuid() != 0
    holders: list[subprocess.Popen[str]] = []
    hosts: list[Host] = []
    try:
        for _ in ADDRESSES:
            # A cable can only be laid between hosts of one owner, so the second is made as the owner of the first.
            own = hosts[0].owner() if hosts and mapped else []
            words = [*own, "unshare", *(["--user", "--map-root-user"] if mapped and not hosts else [])]
            words += ["--mount", "--ipc", "--net", "sh", "-c", HOLD]
            pipe = subprocess.PIPE
            holders.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
            hosts.append(Host(holders[-1].pid, mapped))
            wait_until_ready(holders[-1], mapped)
        first, second = hosts
        yield first, second
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def wait_until_ready(holder: subprocess.Popen[str], mapped: bool) -> None:
    assert holder.stdout is not None and holder.stderr is not None
    if holder.stdout.readline() != "ready\n":
        who = "a user other than root, with a user namespace" if mapped else "root"
        told = f"this machine makes no network namespaces for {who}: {holder.stderr.read().strip()}"
        unable = any(word in told for word in UNABLE) or not os.environ.get("ADAWM_REQUIRE_ROS")
        (pytest.skip if unable else pytest.fail)(told)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as (car, desk):
        connect(car, desk)
        yield car, desk


def connect(first: Host, second: Host) -> None:
    """A cable between two hosts."""
    first.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(second.holder))
    for host, address in zip((first, second), ADDRESSES, strict=True):
        host.ip("address", "add", address, "dev", "eth0")
        host.ip("link", "set", "lo", "up")
        plug(host)


def plug(host: Host) -> None:
    host.ip("link", "set", "eth0", "up")
    host.ip("route", "add", "224.0.0.0/4", "dev", "eth0")


def unplug(host: Host) -> None:
    host.ip("link", "set", "eth0", "down")


def environment() -> dict[str, str]:
    """Entering a mount namespace changes the working directory, so this checkout is named."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "ROS_DOMAIN_ID": "77", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}


def short_task(folder: Path) -> Path:
    """A turn with little before and after it, because a round needs many episodes."""
    values = yaml.safe_load((TASKS_DIR / "right_turn_moderate.yaml").read_text(encoding="utf-8"))
    values["ego"] |= {"start_m": [12, 20], "goal_m": 10}
    file = folder / "short_turn.yaml"
    file.write_text(yaml.safe_dump(values | {"name": "short_turn"}), encoding="utf-8")
    return file


class Observer:
    """What is heard on a host, and the hand of who operates the planner from there."""

    def __init__(self, host: Host) -> None:
        # The memory that a killed neighbour leaves behind could break it.
        alone = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
        self._process = subprocess.Popen(
            host.on(sys.executable, "-m", "tests.ros.observer"),
            env=environment() | alone,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        texts = dict.fromkeys(("refusal", "swap", "experience", "pinned", "produced"), "")
        self.heard: dict[str, Any] = {"frames": 0, "swaps": 0, **texts}
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.heard = self.heard | json.loads(line)  # whoever looks sees all of a line or nothing of it

    def pin(self, part: str) -> None:
        """Pin a part; with `-` before it, unpin it."""
        assert self._process.stdin is not None
        print(part, file=self._process.stdin, flush=True)

    def close(self) -> None:
        self._process.kill()
        self._thread.join()
        self._process.communicate()


class Stack:
    """Planner and simulator on a car, a finetuner on a desk, an observer on either."""

    def __init__(self, hosts: tuple[Host, Host], children: Children, place: Workplace) -> None:
        self._car, self.desk_host = hosts
        self._children = children
        self._folder = folder = place.model_dir.parent
        self._settings = {
            "model_dir": str(place.model_dir),
            "state_dir": str(place.state_dir),
            "source_dir": str(folder),
            "signing_key": str(place.key),
            "adapters.store": str(folder / "store"),
            "adapters.trust": str(place.key.with_suffix(".pub")),
            "provider": "cpu",
            "task": str(short_task(folder)),
        }
        self.car, self.desk = map(Observer, hosts)

    def close(self) -> None:
        self.car.close()
        self.desk.close()

    def planner(self) -> None:
        """Start the planner; any adapter passes shadow, and probation after an episode: these are not tested here."""
        shadow = {"adapters.shadow_decisions": 3, "adapters.shadow_disagreement": 1.0, "adapters.shadow_variation": 1.0}
        self._start(
            self._car, PLANNER, **shadow, **{"adapters.probation_episodes": 1, "adapters.probation_margin": 1.0}
        )

    def simulator(self) -> None:
        self._start(self._car, SIM_BRIDGE)

    def finetuner(self, strategy: str, decisions: int = 100) -> None:
        learning = {"preset": "debug", "config_file": str(self._folder / "learning.yaml"), "round_decisions": decisions}
        self._settings["strategy"] = strategy
        self._start(self.desk_host, FINETUNER, **learning, chunk_decisions=20, nice=0)

    def kill_finetuner(self) -> None:
        os.kill(self._children.pids()[FINETUNER.name], signal.SIGKILL)
        self._children.end(FINETUNER.name)

    def _start(self, host: Host, node: NodeSpec, **more: Any) -> None:
        """Start a node; `more` are parameters that are no settings."""
        extra = self._children.log_dir / f"{node.name}.extra.yaml"
        extra.write_text(yaml.safe_dump({node.name: {"ros__parameters": more}}), encoding="utf-8")
        words = node_command(node, node.name, self._settings, self._children.log_dir, (extra,) if more else ())
        self._children.start(node.name, host.on(*words), environment())

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            self._children.check()
            assert time.monotonic() < deadline, (self.car.heard, self.desk.heard)
            time.sleep(0.05)

    def wait_for_frames(self, count: int = 100) -> None:
        """Until the planner has driven on."""
        wanted = self.car.heard["frames"] + count
        self.wait(lambda: bool(self.car.heard["frames"] >= wanted))


@pytest.fixture
def stack(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Stack]:
    place = make_workplace(tmp_path)
    with Children(tmp_path / "logs") as children:
        made = Stack(hosts, children, place)
        try:
            yield made
        finally:
            made.close()


def test_a_finetuner_on_one_host_repairs_what_drives_on_the_other(stack: Stack) -> None:
    """Its adapter is refused while pinned, taken when it is offered again, and only once; kills and a cut are borne."""
    car, desk = stack.car, stack.desk
    stack.planner()
    car.pin("dynamics")
    stack.wait(lambda: car.heard["pinned"] == "dynamics")
    stack.finetuner("model", 300)
    stack.simulator()
    stack.wait(lambda: bool(car.heard["produced"]))
    stack.wait(lambda: all(each.heard["refusal"].startswith("pinned: ") for each in (car, desk)))
    assert car.heard["swaps"] == 0 and car.heard["adapters"] == []

    stack.kill_finetuner()
    stack.wait_for_frames()
    car.pin("-dynamics")
    stack.wait(lambda: car.heard["pinned"] == "-dynamics")
    stack.finetuner("none")  # measures on, and makes no further adapter
    stack.wait(lambda: car.heard["swaps"] == 1)
    (drives,) = car.heard["adapters"]
    assert drives == desk.heard["offered"]
    stack.wait(lambda: f"{drives[:12]} committed" in desk.heard["swap"])

    unplug(stack.desk_host)
    stack.wait(lambda: desk.heard["experience"].startswith("no experience for "))
    stack.wait_for_frames()
    plug(stack.desk_host)
    stack.wait(lambda: desk.heard["experience"] == "comes in")

    stack.kill_finetuner()
    stack.wait_for_frames()
    rounds = car.heard["round"]
    stack.finetuner("none")
    stack.wait(lambda: car.heard["refusal"].startswith("duplicate: "))
    stack.wait(lambda: car.heard["round"] > rounds and drives in car.heard["acting"])
    stack.wait_for_frames()
    assert car.heard["swaps"] == 1 and car.heard["adapters"] == [drives]


def test_a_machine_that_makes_no_hosts_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"no ip \(package iproute2\), no nsenter \(package util-linux\)"):
        make_two()
    monkeypatch.setenv("ADAWM_REQUIRE_ROS", "1")
    for word, outcome in (("Operation not permitted", pytest.skip), ("unknown option", pytest.fail)):
        for name in PACKAGES:
            (tmp_path / name).write_text(f"#!/bin/sh\necho $0: {word} >&2\nexit 1\n")
            (tmp_path / name).chmod(0o755)
        with pytest.raises(outcome.Exception, match=rf"no network namespaces for .*unshare: {word}"):
            make_two()


def make_two() -> None:
    with two_hosts():
        pass
