"""The gate's own process, with an error of ours planted: run as `python -m tests.ros.failing_gate`."""

from __future__ import annotations

import sys

from carla_msgs.msg import CarlaEgoVehicleControl

from adawm_planner.ros.gate_node import GateNode
from adawm_planner.ros.lifecycle import run


class FailingGate(GateNode):
    """Raises at a proposal with a gear."""

    def _on_proposal(self, message: CarlaEgoVehicleControl) -> None:
        if message.gear:
            raise RuntimeError("planted")
        super()._on_proposal(message)


if __name__ == "__main__":
    sys.exit(run(FailingGate))
