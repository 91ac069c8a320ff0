"""The planner's own process, with a fake engine: run as `python -m tests.ros.fake_planner --ros-args ...`."""

from __future__ import annotations

import sys

from adawm_planner.ros.lifecycle import run
from adawm_planner.ros.planner_node import PlannerNode
from tests.runtime.fake_engine import FakeEngine

if __name__ == "__main__":
    sys.exit(run(lambda: PlannerNode(lambda values: FakeEngine())))
