"""The planner's own process with faults that a signal lets out: run as `python -m adawm_planner.ros.fault_planner`.

The model computes every decision as always, but the action taken is always full acceleration: a planner that never
brakes by its own choice leaves every stop to what is being tested.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import numpy as np

from adawm_planner.data_types import Carry, Command, Observation, PolicyOutput
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.faults.streams import Stream
from adawm_planner.faults.table import FAULT_VARIABLE, PROPOSAL_SIGNAL, PROPOSALS, SIGNALS, Kind, find
from adawm_planner.ros import convert, fault_messages
from adawm_planner.ros.lifecycle import run
from adawm_planner.ros.planner_node import PlannerNode, onnx_engine
from adawm_planner.ros.planner_outputs import PlannerOutputs
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.engine import Engine, Imagined
from adawm_planner.runtime.swap.thread import GIL_SWITCH_S


class PlantedFault(RuntimeError):
    """Raised on purpose."""


class Planted:
    """What has been let out so far."""

    def __init__(self) -> None:
        """Listen to the signals."""
        self.kinds: set[Kind] = set()
        self.proposals = False  # whether theirs has been let out
        signal.signal(PROPOSAL_SIGNAL, self._let_out_proposals)
        for kind, number in SIGNALS.items():
            signal.signal(number, lambda *_, kind=kind: self._let_out(kind))

    def _let_out(self, kind: Kind, *_: FrameType | None) -> None:
        self.kinds.add(kind)
        while kind is Kind.BUSY:  # handlers run in the main thread, which is the planner's only one
            pass

    def _let_out_proposals(self, *_: object) -> None:
        self.proposals = True


def proposal_stream(name: str) -> Stream[Any] | None:
    """Return what becomes of the planner's proposals; None: nothing but what is proposed.

    Args:
        name: of the fault, empty where there is none.

    Raises:
        ValueError: there is no such fault.
    """
    fault = find(name) if name else None
    if fault is None or fault.where != PROPOSALS:
        return None
    return Stream(fault.kind, fault.amount, fault_messages.edit_of(fault, PROPOSALS))


class FaultyOutputs(PlannerOutputs):
    """The planner's topics, the one of its commands with a fault."""

    def __init__(self, node: WatchedNode, control_topic: str, role: str, stream: Stream[Any], planted: Planted) -> None:
        """As PlannerOutputs; what `planted` has let out goes through the stream."""
        super().__init__(node, control_topic, role)
        self._stream, self._planted = stream, planted

    def command(self, command: Command, stamp_ns: int) -> None:
        """Send what becomes of a command."""
        message = convert.control_message(command, stamp_ns)
        for each in self._stream.faulty(message) if self._planted.proposals else self._stream.healthy(message):
            self._control.publish(each)


class EagerEngine:
    """An engine's own computation, and full acceleration instead of its choice."""

    def __init__(self, engine: Engine, planted: Planted) -> None:
        self._engine, self._planted = engine, planted
        self.digest, self.provider, self.adapter_digests = engine.digest, engine.provider, engine.adapter_digests

    def initial(self) -> Carry:
        """As the engine."""
        return self._engine.initial()

    def imagine(self, carry: Carry) -> Imagined:
        """As the engine."""
        return self._engine.imagine(carry)

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """As the engine, with all probability on the hardest acceleration.

        Raises:
            PlantedFault: it has been let out.
        """
        if Kind.MODEL_ERROR in self._planted.kinds:
            raise PlantedFault("exception in the model")
        carry, output = self._engine.step(carry, observation, first)
        eager = np.zeros(ACTION_COUNT, dtype=np.float32)
        eager[-1] = 1.0
        return carry, PolicyOutput(eager, output.value)


class FaultPlanner(PlannerNode):
    """The planner, one of whose timers can fail."""

    def __init__(self) -> None:
        """Load the real model behind the planted faults."""
        self._planted = Planted()
        super().__init__(self._engine)

    def _engine(self, values: dict[str, Any]) -> Engine:
        return EagerEngine(onnx_engine(values), self._planted)

    def _open_outputs(self, control_topic: str, role: str) -> PlannerOutputs:
        stream = proposal_stream(os.environ.get(FAULT_VARIABLE, ""))
        if stream is None:
            return super()._open_outputs(control_topic, role)
        return FaultyOutputs(self, control_topic, role, stream, self._planted)

    def _watch(self) -> None:
        if Kind.CALLBACK_ERROR in self._planted.kinds:
            raise PlantedFault("exception in a callback")
        super()._watch()


if __name__ == "__main__":
    sys.setswitchinterval(GIL_SWITCH_S)
    sys.exit(run(FaultPlanner))
