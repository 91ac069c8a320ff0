"""The small exported agent and the bundle maker of the adapters' tests."""

from __future__ import annotations

from tests.adapters.conftest import agent, maker

__all__ = ["agent", "maker"]
