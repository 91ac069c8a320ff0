"""The planner as a ROS 2 lifecycle node: live topics in, one command per bridge frame out.

Thin on purpose: planner_inputs converts messages and hands them to runtime/planner_loop.py, and what
comes back leaves through planner_outputs. One thread does all of that; adapters are read and checked in another
(runtime/swap/thread.py).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from adawm_planner.ros.diagnostics import OK, WARN, State, fault_state
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC, input_topics
from adawm_planner.ros.input_parameters import limits_from
from adawm_planner.ros.lifecycle import run
from adawm_planner.ros.planner_adapters import NO_STORE, PlannerAdapters, open_swap, refusal_state, swap_state
from adawm_planner.ros.planner_inputs import PlannerInputs
from adawm_planner.ros.planner_outputs import PlannerOutputs
from adawm_planner.ros.planner_parameters import (
    PLANNER_PARAMETERS,
    adapter_limits_from,
    config_from,
    model_dir_from,
)
from adawm_planner.ros.timing import stage_values
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.engine import Engine, OnnxEngine
from adawm_planner.runtime.input_monitor import InputMonitor
from adawm_planner.runtime.latency import PlannerTimes, TimedEngine
from adawm_planner.runtime.planner_core import Mode, PlannerCore
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap.messages import Report
from adawm_planner.runtime.swap.thread import GIL_SWITCH_S, SwapThread
from adawm_planner.runtime.warm import History

EngineFactory = Callable[[dict[str, Any]], Engine]


def onnx_engine(values: dict[str, Any]) -> Engine:
    """Load the base model that the parameters name."""
    return OnnxEngine(model_dir_from(values["model_dir"]), values["provider"], values["threads"])


class PlannerNode(WatchedNode):
    """The way from an answer to the topics; see docs/planner_node.md."""

    def __init__(self, engine_factory: EngineFactory = onnx_engine, **kwargs: Any) -> None:
        """Declare parameters; everything else waits for `configure`."""
        super().__init__("adawm_planner", PLANNER_PARAMETERS, **kwargs)
        self._engine_factory = engine_factory
        self._active = False
        self._mode, self._reason = Mode.WAITING, "unconfigured"
        self.loop: PlannerLoop | None = None
        self._inputs: PlannerInputs | None = None
        self._outputs: PlannerOutputs | None = None
        self._swaps: SwapThread | None = None  # None: no adapters are taken
        self._adapters: PlannerAdapters | None = None
        self._told: Report | None = None
        self._watchdog: Any = None

    def _open(self, values: dict[str, Any]) -> None:
        """Load the model, restore its adapters, open the topics."""
        role, config = values["role_name"], config_from(values)
        monitor = InputMonitor(limits_from(values), input_topics(self, role))
        times = PlannerTimes()
        base = self._engine_factory(values)
        swap = open_swap(values, base, self._history) if values["adapters.store"] else None
        engine = TimedEngine(base if swap is None else swap.restored, times)
        core, gated = PlannerCore(engine, monitor, config), values["use_gate"]
        self.loop = PlannerLoop(core, values["use_map"], times, counted=not gated)
        self._swaps = None if swap is None else SwapThread(swap, self.loop)
        limits = adapter_limits_from(values)
        self._adapters = PlannerAdapters(self, role, limits, self._swaps, core.note_intervention)
        control_topic = values["control_topic"] or f"/carla/{role}/vehicle_control_cmd"
        self._outputs = self._open_outputs(PROPOSAL_TOPIC if gated else control_topic, role)
        self._inputs = PlannerInputs(self, values, self.loop, self._send)
        self.note("model", State(OK, f"{engine.digest[:12]} on {engine.provider}"))
        self._set_mode(Mode.WAITING, "inactive")
        self._tell_swaps()

    def _open_outputs(self, control_topic: str, role: str) -> PlannerOutputs:
        return PlannerOutputs(self, control_topic, role)

    def _start(self) -> None:
        """Begin to answer frames."""
        assert self.loop is not None
        period = self.get_parameter("watchdog_period_s").value
        self._watchdog = self.create_timer(period, self._watch, clock=self.steady_clock)
        self.loop.begin()
        gc.collect()
        gc.freeze()  # what is loaded by now stays: the collector need not walk it between two frames
        self._active = True
        self._set_mode(Mode.WAITING, "no frame yet")

    def _stop(self) -> None:
        """Answer no more frames; the last command brakes if a vehicle was ever heard of."""
        if not self._active or self.loop is None or self._outputs is None:
            return
        self._active = False
        self.destroy_timer(self._watchdog)
        last = self.loop.end()
        if last is not None:
            self._outputs.last_command(last.answer.command, last.stamp_ns)
            self._outputs.after_command(last, self.loop)  # the episode's end, else it looks like a lost message
            if self._swaps is not None:
                self._swaps.after_answer(last)  # or a failure would never be held against an adapter on probation
        self._set_mode(Mode.WAITING, "inactive")

    def _close(self) -> None:
        self._destroy_parts()
        gc.unfreeze()  # what was frozen for driving refers to itself: only the collector frees it
        gc.collect()

    def _destroy_parts(self) -> None:
        if self._swaps is not None:
            self._swaps.close()  # before the services: it ends what their requests wait for
        for part in (self._inputs, self._outputs, self._adapters):
            if part is not None:
                part.destroy()
        self.loop = self._inputs = self._outputs = self._adapters = self._swaps = None

    def _watch(self) -> None:
        assert self.loop is not None
        self._send(self.loop.on_timer(time.monotonic()))
        self._between_ticks()

    def _send(self, out: Outgoing | None) -> None:
        """Publish an answer: the command at once, the rest after it."""
        if out is None or not self._active or self._outputs is None or self.loop is None:
            return
        self._outputs.command(out.answer.command, out.stamp_ns)
        self.loop.sent(out, time.monotonic())
        state = fault_state(out.answer.faults, "whole and fresh")
        if self.note("inputs", state) or out.answer.mode is not self._mode:
            self._set_mode(out.answer.mode, state.message if out.answer.faults else "")
        self._outputs.after_command(out, self.loop)
        if self._swaps is not None:
            self._swaps.after_answer(out)
            self._tell_swaps()

    def _between_ticks(self) -> None:
        """Take an engine that is ready also while no frames come."""
        if self._swaps is not None:
            self._swaps.between_ticks()
            self._tell_swaps()

    def _history(self) -> History:
        return History() if self.loop is None else self.loop.core.history

    def _report(self) -> Report:
        if self._swaps is not None:
            return self._swaps.report
        away = 0 if self._adapters is None else self._adapters.turned_away
        return Report(refusals=away, last_refusal=str(NO_STORE) if away else "")

    def _tell_swaps(self) -> None:
        """Publish what has become of adapters, when it is something new."""
        report = self._report()
        if report is self._told:
            return
        self._told = report
        moved = self.note("adapters", swap_state(report, self._swaps is not None))
        if self.note("adapter refusals", refusal_state(report)) or moved:
            self._set_mode(self._mode, self._reason)

    def _look(self) -> None:
        self._between_ticks()
        if self.loop is not None:
            self._tell_swaps()
            self._set_mode(self._mode, self._reason)
            self.diagnostics.set("timing", timing_state(self.loop))
            if self._outputs is not None:
                self._outputs.timing.publish(self.loop.times.stages)

    def _set_mode(self, mode: Mode, reason: str) -> None:
        self._mode, self._reason = mode, reason
        if self.loop is not None and self._outputs is not None:
            self._outputs.status(self.loop, mode.value, reason, self._report())


def timing_state(loop: PlannerLoop) -> State:
    """Say whether commands leave in time."""
    counters = loop.counters
    p50, p99, top = loop.times.latency.percentiles_ms()
    values = {
        "latency_p50_ms": f"{p50:.2f}",
        "latency_p99_ms": f"{p99:.2f}",
        "latency_max_ms": f"{top:.2f}",
        "frames": str(counters.frames),
        "commands": str(counters.commands),
        "missed_ticks": str(counters.missed_ticks),
        "dropped_frames": str(loop.intake.assembler.dropped_frames),
        "late_parts": str(loop.intake.assembler.late_parts),
        "unbalanced_frames": str(counters.unbalanced_frames),
        **stage_values(loop.times.stages),
    }
    missed = counters.missed_ticks
    text = f"{missed} frames answered later than one frame period" if missed else "every frame answered in time"
    return State(WARN if missed else OK, text, tuple(values.items()), key=str(missed))


def main(args: list[str] | None = None) -> None:
    """Run the planner until SIGINT or SIGTERM."""
    sys.setswitchinterval(GIL_SWITCH_S)
    sys.exit(run(PlannerNode, args))


if __name__ == "__main__":
    main()
