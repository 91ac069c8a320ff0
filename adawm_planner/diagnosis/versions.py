"""Versions of what is installed in, a tested or untested mark for each out.

TESTED is what this repository's own tests ran with; anything else may work, and is worth a look when something is odd.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from adawm_planner.diagnosis.check import Check, wrong

TESTED: dict[str, tuple[str, ...]] = {
    "python": ("3.11",),
    "numpy": ("2.4.6",),
    "onnxruntime": ("1.31.1",),
    "opencv-python-headless": ("5.0.0.93",),
    "torch": ("2.13.0",),
    "carla": ("0.9.16",),
    "rclpy": ("7.1.5",),
    "rmw": ("rmw_fastrtps_cpp 8.4.3",),
    "carla_msgs": ("1.3.0",),
    "derived_object_msgs": ("4.0.0",),
    "carla_ros_bridge": (),
}
"""Part -> versions the tests ran with; of ROS packages as their manifests tell (the wheels' own differ).

carla_ros_bridge: none, the embedded bridge stands in for it.
"""

HASHES_FILE = Path(__file__).parent / "type_hashes.json"


def known_hashes() -> dict[str, str]:
    """Type -> REP-2011 hash of the upstream interface packages: equal hashes are compatible on the wire."""
    hashes: dict[str, str] = json.loads(HASHES_FILE.read_text())
    return hashes


def is_tested(part: str, version: str) -> bool:
    """Whether the tests ran with this version; a tested 3.11 covers 3.11.2, and a build tag (+cpu) does not count."""
    plain = version.split("+")[0]
    return any(plain == one or plain.startswith(f"{one}.") for one in TESTED[part])


def judge_versions(found: Mapping[str, str]) -> list[Check]:
    """One line per part of TESTED.

    Args:
        found: part -> version, for what is installed; whether what is absent is needed, others say.
    """
    return [_judged(part, found.get(part, "")) for part in TESTED]


def _judged(part: str, version: str) -> Check:
    if not version:
        return Check("version", True, "not installed", "", "", subject=part)
    if is_tested(part, version):
        return Check("version", True, f"{version}, tested", "", "", subject=part)
    return wrong("version_untested", part, f"{version}, untested", ", ".join(TESTED[part]) or "none tested")


_NO_INTERFACES = Check(
    "version",
    False,
    "none installed",
    "types with the upstream hashes",
    "make setup, then source scripts/ros_env.sh; or source your ROS 2 first",
    required=False,
    subject="message types",
)


def judge_interfaces(installed: Mapping[str, str]) -> list[Check]:
    """Whether the installed message types are the ones upstream has.

    Args:
        installed: type -> REP-2011 hash; a type that is not there is not judged.
    """
    if not installed:
        return [_NO_INTERFACES]
    known = known_hashes()
    found = [
        wrong("interface_differs", name, f"{theirs[:19]}...", f"{known[name][:19]}...")
        for name, theirs in sorted(installed.items())
        if name in known and theirs != known[name]
    ]
    same = sum(installed.get(name) == value for name, value in known.items())
    text = f"{same} of {len(known)} installed types have the upstream hash"
    return found or [Check("version", True, text, "", "", subject="message types")]
