"""Live topics and services of a running stack in, the events of a story out.

What `adawm drive` sees and, beside it, everything that finetuner and planner tell of adapters. It publishes nothing,
and calls services as an operator would.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adawm_msgs.msg import AdapterUpdate, MismatchReport, PlannerStatus
from adawm_msgs.srv import LoadAdapter, PinAdapter, RollbackAdapter
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import String
from std_srvs.srv import Trigger

from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.ros import qos
from adawm_planner.ros.episode_listener import EpisodeListener
from adawm_planner.runtime.swap.state import Stage
from adawm_planner.story.events import Driving, Drove, Event, Measured, Moved, Offered, Operated, Refused

MISMATCH_TOPIC = "/adawm_finetuner/mismatch"
ADAPTER_TOPIC = "/adawm_finetuner/adapter"
TRAINED = {
    MismatchReport.UPDATE_NOTHING: "nothing",
    MismatchReport.UPDATE_DYNAMICS: "dynamics",
    MismatchReport.UPDATE_POLICY: "policy",
}
ANSWER_S = 20.0
"""Longest wait for the answer of a service [s]; a roll back is answered once the earlier adapter drives."""

STATE_VALUES = ("pinned", "part", "digest", "stage", "swaps", "swap_ms", "refusals")
"""Values of the planner's state `adapters` that are not figures of shadow or probation."""


class StoryListener(EpisodeListener):
    """Subscribes to everything that a story tells."""

    def __init__(self) -> None:
        """Join the ROS graph that the environment names."""
        super().__init__()
        node = self._node
        node.create_subscription(MismatchReport, MISMATCH_TOPIC, self._on_mismatch, qos.MISMATCH)
        node.create_subscription(AdapterUpdate, ADAPTER_TOPIC, self._on_adapter, qos.ADAPTER)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self._roll_back = node.create_client(RollbackAdapter, "/adawm_planner/rollback_adapter")
        self._pin = node.create_client(PinAdapter, "/adawm_planner/pin_adapter")
        self._load = node.create_client(LoadAdapter, "/adawm_planner/load_adapter")
        self._measure = node.create_client(Trigger, "/adawm_finetuner/run_round")
        self._events: list[Event] = []
        self._driving = Driving((), 0)
        self._moved: Moved | None = None
        self._refusals = 0
        self.finetuner = ""
        """What the finetuner does now, in its own words."""
        self.swap = ""
        """What the planner drives with and what is on its way, in its own words."""

    def events(self) -> list[Event]:
        """What happened since the last call."""
        taken, self._events = self._events, []
        return taken

    def measure(self) -> Operated:
        """Ask the finetuner for a round on what was driven so far. Raises OSError as `_call`."""
        return self._operated(self._measure, "run_round", Trigger.Request(), "of the finetuner")

    def roll_back(self) -> Operated:
        """Ask the planner for the base model. Raises OSError as `_call`."""
        request = RollbackAdapter.Request(part="", to_base=True)
        return self._operated(self._roll_back, "rollback_adapter", request, "both parts, to the base model")

    def pin(self, part: str) -> Operated:
        """Ask the planner to keep what drives in a part. Raises OSError as `_call`."""
        request = PinAdapter.Request(digest=part, pinned=True)
        return self._operated(self._pin, "pin_adapter", request, part)

    def load(self, folder: Path) -> Operated:
        """Ask the planner for the bundle in a folder. Raises OSError as `_call`."""
        return self._operated(self._load, "load_adapter", LoadAdapter.Request(path=str(folder)), folder.name[:12])

    def _operated(self, client: Any, service: str, request: Any, text: str) -> Operated:
        answer = self._call(client, request)
        return Operated(service, text, answer.success, answer.message)

    def _call(self, client: Any, request: Any) -> Any:
        """Call a service, and go on listening until it answers.

        Raises:
            OSError: no answer within ANSWER_S.
        """
        if client.wait_for_service(timeout_sec=ANSWER_S):
            future = client.call_async(request)
            self._executor.spin_until_future_complete(future, timeout_sec=ANSWER_S)
            if future.done():
                return future.result()
        raise OSError(f"{client.srv_name} has not answered within {ANSWER_S:.0f} s; see the logs of the nodes")

    def _on_episode(self, message: String) -> None:
        values = json.loads(message.data)
        if values.get("done"):
            return
        waited = values.pop("missed_ticks")
        self.frames_without_command += waited
        self._events.append(Drove(EpisodeResult.from_json(values), self._driving.adapters, waited))

    def _on_status(self, message: PlannerStatus) -> None:
        super()._on_status(message)
        driving = Driving(tuple(each.name for each in message.adapters), message.swaps)
        if driving.adapters != self._driving.adapters:
            self._events.append(driving)
        self._driving = driving

    def _on_mismatch(self, message: MismatchReport) -> None:
        self._events.append(
            Measured(
                message.round,
                message.dynamics_mismatch,
                message.dynamics_standard_error,
                message.policy_mismatch,
                message.policy_standard_error,
                TRAINED.get(message.decision, "all"),
                message.reason,
                message.produced_digest,
            )
        )

    def _on_adapter(self, message: AdapterUpdate) -> None:
        size = sum(len(file.data) for file in message.files)
        self._events.append(Offered(message.name, message.part, message.digest, size))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = tuple((each.key, each.value) for each in status.values)
            match status.name:
                case "adawm_planner: adapters":
                    self._on_swap(status.message, values)
                case "adawm_planner: adapter refusals":
                    self._on_refusals(status.message, int(dict(values).get("refusals", "0")))
                case "adawm_finetuner: round":
                    self.finetuner = status.message

    def _on_swap(self, text: str, values: tuple[tuple[str, str], ...]) -> None:
        """Notice that a bundle came to another stage."""
        self.swap = text
        state = dict(values)
        if state.get("stage") not in {each.value for each in Stage}:
            return
        figures = tuple(each for each in values if each[0] not in STATE_VALUES)
        moved = Moved(state["part"], state["digest"], state["stage"], figures)
        if self._moved is None or (moved.digest, moved.stage) != (self._moved.digest, self._moved.stage):
            self._events.append(moved)
        self._moved = moved

    def _on_refusals(self, text: str, count: int) -> None:
        if count > self._refusals:
            self._events.append(Refused(count, text))
        self._refusals = count
