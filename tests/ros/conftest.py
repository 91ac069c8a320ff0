"""A ROS context of a test's own, and the small exported agent and the bundle maker of the adapters' tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.conftest import agent, maker

__all__ = ["agent", "context", "maker"]


@pytest.fixture
def context() -> Iterator[Any]:
    """An rclpy context on the tests' domain."""
    import rclpy  # tests that need no ROS are collected without it

    from tests.ros.stub_bridge import DOMAIN

    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    yield context
    context.try_shutdown()
