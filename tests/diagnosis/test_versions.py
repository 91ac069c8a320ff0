"""The version matrix: what the tests ran with, and whether the installed interfaces are upstream's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adawm_planner.diagnosis.versions import TESTED, is_tested, judge_interfaces, judge_versions, known_hashes

ROOT = Path(__file__).resolve().parents[2]
FROM_PYPI = ("numpy", "onnxruntime", "opencv-python-headless", "torch", "carla")


@pytest.mark.parametrize(
    ("part", "version", "tested"),
    [
        ("python", "3.11.7", True),
        ("python", "3.1", False),
        ("python", "3.12.1", False),
        ("torch", "2.13.0+cpu", True),
        ("torch", "2.13.01", False),
        ("carla_ros_bridge", "0.9.13", False),
    ],
)
def test_a_version_is_tested_or_not(part: str, version: str, tested: bool) -> None:
    assert is_tested(part, version) is tested


@pytest.mark.parametrize("part", FROM_PYPI)
def test_tested_versions_are_the_pinned_ones(part: str) -> None:
    pins = (ROOT / "requirements" / "constraints.txt").read_text()
    pinned = re.findall(rf"^{part}==([^;\s]+)", pins, re.MULTILINE)
    assert set(TESTED[part]) <= set(pinned) and TESTED[part]


def test_the_matrix_has_a_line_per_part_and_only_warns() -> None:
    checks = judge_versions({"python": "3.11.2", "onnxruntime": "9.9.9"})
    assert [one.subject for one in checks] == list(TESTED)
    levels = {one.subject: one.level for one in checks}
    assert levels["python"] == levels["torch"] == "ok" and levels["onnxruntime"] == "warning"
    found = {one.subject: one.found for one in checks}
    assert found["torch"] == "not installed" and found["onnxruntime"] == "9.9.9, untested"


def test_no_interfaces_at_all_are_not_in_order() -> None:
    (found,) = judge_interfaces({})
    assert (found.found, found.level) == ("none installed", "warning") and "ros_env.sh" in found.fix


def test_an_interface_of_another_definition_is_an_error() -> None:
    known = known_hashes()
    (fine,) = judge_interfaces(known)
    assert fine.ok and f"{len(known)} of {len(known)}" in fine.found
    name = "carla_msgs/msg/CarlaEgoVehicleControl"
    (found,) = judge_interfaces({**known, name: "RIHS01_" + 64 * "0"})
    assert (found.name, found.subject, found.level) == ("interface_differs", name, "error")
