"""Marks and leaves out what this installation cannot run, unless ADAWM_REQUIRE_ROS says that it must."""

from __future__ import annotations

import os
from importlib import util
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failing one is found again, and a passing run stays one.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

ROS_TESTS = Path(__file__).parent / "ros"
NEEDED = ("rclpy", "adawm_msgs", "carla_msgs", "derived_object_msgs")
MISSING = [name for name in NEEDED if util.find_spec(name) is None]


def pytest_configure(config: pytest.Config) -> None:
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        # What shares the tests with this process must not see its nodes.
        os.environ["ROS_DOMAIN_ID"] = str(int(os.environ.get("ROS_DOMAIN_ID", "42")) + int(worker.removeprefix("gw")))
    if MISSING and os.environ.get("ADAWM_REQUIRE_ROS"):
        raise pytest.UsageError(f"the ROS tests must run, but {', '.join(MISSING)} cannot be imported")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if MISSING and ROS_TESTS in collection_path.parents else None


def pytest_report_header() -> str:
    return (
        f"tests/ros is left out: {', '.join(MISSING)} missing (source scripts/ros_env.sh)"
        if MISSING
        else "tests/ros: on"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ROS_TESTS in item.path.parents:
            item.add_marker("ros")
