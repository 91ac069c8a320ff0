"""Live topics of a running stack in, all that a soak counts out."""

from __future__ import annotations

from functools import partial

from adawm_msgs.msg import GateStatus, Timing
from diagnostic_msgs.msg import DiagnosticArray

from adawm_planner.ros import qos
from adawm_planner.ros.gate_topics import STATUS_TOPIC
from adawm_planner.ros.story_listener import StoryListener
from adawm_planner.ros.timing import GATE_TIMING_TOPIC, PLANNER_TIMING_TOPIC, durations_from
from adawm_planner.runtime.stages import Durations


class SoakListener(StoryListener):
    """What a story hears, and beside it the gate's counters, the stages of both nodes, and the worker's deaths."""

    def __init__(self) -> None:
        """Join the ROS graph that the environment names."""
        super().__init__()
        self.stages: dict[str, dict[str, Durations]] = {}
        """Node -> stage -> what it took since the node was configured."""
        self.gate: dict[str, int] = {}
        """The gate's counters."""
        self.worker_deaths = 0
        """How often the finetuner's worker has ended."""
        create = self._node.create_subscription
        create(GateStatus, STATUS_TOPIC, self._on_gate, qos.STATUS)
        for name, topic in (("planner", PLANNER_TIMING_TOPIC), ("gate", GATE_TIMING_TOPIC)):
            create(Timing, topic, partial(self._on_timing, name), qos.STATUS)

    def _on_gate(self, message: GateStatus) -> None:
        self.gate = {name: getattr(message, name) for name in ("commands_in", "commands_out", "limited", "stops")}

    def _on_timing(self, name: str, message: Timing) -> None:
        self.stages[name] = durations_from(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        super()._on_diagnostics(message)
        for status in message.status:
            if status.name == "adawm_finetuner: worker":
                values = {each.key: each.value for each in status.values}
                self.worker_deaths = int(values.get("deaths", "0"))
