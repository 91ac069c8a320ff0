"""Planner and finetuner on two hosts: network namespaces with a cable between them, and no memory in common."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("adawm_msgs.msg")
pytest.importorskip("libsumo")

from adawm_planner.processes import Children
from adawm_planner.ros.node_table import FINETUNER, PLANNER, SIM_BRIDGE, NodeSpec, node_command
from tests.finetuning.workplace import Workplace, make_workplace

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ("10.213.7.1/24", "10.213.7.2/24")
LIMIT_S = 400.0
HOLD = "mount -t tmpfs none /dev/shm && echo ready && exec sleep infinity"
"""Keeps a host's namespaces. Hosts share no memory, so that DDS has to use the network."""


@dataclass(frozen=True)
class Host:
    """Namespaces of network, memory and mounts, kept by a process; they end with the last process in them."""

    holder: int

    def ip(self, *words: str) -> None:
        subprocess.run(self.on("ip", *words), check=True, capture_output=True)

    def on(self, *words: str) -> list[str]:
        return ["nsenter", f"--target={self.holder}", "--mount", "--ipc", "--net", *words]


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        pytest.skip("namespaces need root, ip, nsenter and unshare")
    words = ["unshare", "--mount", "--ipc", "--net", "sh", "-c", HOLD]
    holders = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in ADDRESSES]
    try:
        for holder in holders:
            assert holder.stdout is not None and holder.stderr is not None
            if holder.stdout.readline() != b"ready\n":
                pytest.skip(f"namespaces cannot be made here: {holder.stderr.read().decode().strip()}")
        car, desk = (Host(holder.pid) for holder in holders)
        connect(car, desk)
        yield car, desk
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def connect(first: Host, second: Host) -> None:
    """A cable between two hosts."""
    first.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(second.holder))
    for host, address in zip((first, second), ADDRESSES, strict=True):
        host.ip("address", "add", address, "dev", "eth0")
        for device in ("lo", "eth0"):
            host.ip("link", "set", device, "up")
        host.ip("route", "add", "224.0.0.0/4", "dev", "eth0")


def start(children: Children, host: Host, node: NodeSpec, settings: dict[str, Any], **more: Any) -> None:
    """A node of the stack on a host; `more` are parameters that are no settings."""
    extra = children.log_dir / f"{node.name}.extra.yaml"
    extra.write_text(yaml.safe_dump({node.name: {"ros__parameters": more}}), encoding="utf-8")
    words = node_command(node, node.name, settings, children.log_dir, (extra,) if more else ())
    children.start(node.name, host.on(*words), environment())


def environment() -> dict[str, str]:
    """Entering a mount namespace changes the working directory, so this checkout is named."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "ROS_DOMAIN_ID": "77", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}


def test_an_adapter_made_on_one_host_drives_the_car_on_the_other(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    (car, desk), place = hosts, make_workplace(tmp_path)
    heard: dict[str, Any] = {}
    with Children(tmp_path / "logs") as children:
        start_all(children, car, desk, place, tmp_path)
        observer = subprocess.Popen(
            car.on(sys.executable, "-m", "tests.ros.observer"),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert observer.stdout is not None
            deadline = time.monotonic() + LIMIT_S
            for line in observer.stdout:
                heard |= json.loads(line)
                children.check()
                if heard.get("swaps") or time.monotonic() > deadline:
                    break
        finally:
            observer.kill()
            observer.wait()
    assert heard.get("swaps") == 1, heard
    assert heard["round"] >= 1 and heard["produced"] and heard["adapters"] == [heard["produced"]], heard


def start_all(children: Children, car: Host, desk: Host, place: Workplace, folder: Path) -> None:
    settings = {
        "model_dir": str(place.model_dir),
        "state_dir": str(place.state_dir),
        "source_dir": str(folder),
        "signing_key": str(place.key),
        "adapters.store": str(folder / "store"),
        "strategy": "model",
        "adapters.trust": str(place.key.with_suffix(".pub")),
        "provider": "cpu",
    }
    shadow = {"adapters.shadow_decisions": 3, "adapters.shadow_disagreement": 1.0, "adapters.shadow_variation": 1.0}
    learning = {"preset": "debug", "config_file": str(folder / "learning.yaml"), "round_decisions": 100}
    start(children, car, PLANNER, settings, **shadow)
    start(children, desk, FINETUNER, settings, **learning, chunk_decisions=20, nice=0)
    start(children, car, SIM_BRIDGE, settings)
