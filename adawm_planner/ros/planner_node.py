"""The planner as a ROS 2 lifecycle node: live topics in, one command per bridge frame out.

Thin on purpose: planner_inputs converts messages and hands them to runtime/planner_loop.py, and what
comes back leaves through planner_outputs. One thread does everything.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import OK, WARN, Diagnostics, State, fault_state
from adawm_planner.ros.gate_topics import PROPOSAL_TOPIC, input_topics
from adawm_planner.ros.input_parameters import limits_from
from adawm_planner.ros.lifecycle import logged_transition, run
from adawm_planner.ros.parameters import declare, read
from adawm_planner.ros.planner_adapters import NO_STORE, PlannerAdapters, open_swap, refusal_state, swap_state
from adawm_planner.ros.planner_inputs import PlannerInputs
from adawm_planner.ros.planner_outputs import PlannerOutputs
from adawm_planner.ros.planner_parameters import (
    PLANNER_PARAMETERS,
    adapter_limits_from,
    config_from,
    model_dir_from,
)
from adawm_planner.ros.qos_watch import QosWatch
from adawm_planner.ros.timing import stage_values
from adawm_planner.runtime.engine import Engine, OnnxEngine
from adawm_planner.runtime.input_monitor import InputMonitor
from adawm_planner.runtime.latency import PlannerTimes, TimedEngine
from adawm_planner.runtime.planner_core import Mode, PlannerCore
from adawm_planner.runtime.planner_loop import Outgoing, PlannerLoop
from adawm_planner.runtime.swap_messages import Report
from adawm_planner.runtime.swap_thread import GIL_SWITCH_S, SwapThread
from adawm_planner.runtime.warm import History

EngineFactory = Callable[[dict[str, Any]], Engine]


def onnx_engine(values: dict[str, Any]) -> Engine:
    """Load the base model that the parameters name."""
    return OnnxEngine(model_dir_from(values["model_dir"]), values["provider"], values["threads"])


class PlannerNode(LifecycleNode):
    """Lifecycle, timers and the way from an answer to the topics; see docs/planner_node.md."""

    def __init__(self, engine_factory: EngineFactory = onnx_engine, **kwargs: Any) -> None:
        """Declare parameters; everything else waits for `configure`."""
        super().__init__("adawm_planner", **kwargs)
        self.loop: PlannerLoop | None = None
        declare(self, PLANNER_PARAMETERS, is_fixed=lambda: self.loop is not None)
        self._engine_factory = engine_factory
        self._active = False
        self._mode, self._reason = Mode.WAITING, "unconfigured"
        self._inputs: PlannerInputs | None = None
        self._outputs: PlannerOutputs | None = None
        self._swaps: SwapThread | None = None  # None: no adapters are taken
        self._adapters: PlannerAdapters | None = None
        self._told: Report | None = None
        self._qos = QosWatch(self, self._note)
        publisher = self.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
        self.diagnostics = Diagnostics(self.get_name(), publisher.publish, lambda: self.get_clock().now().to_msg())
        # Wall clock timers: simulated time stands still exactly when a watchdog is needed.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._second = self.create_timer(1.0, self._each_second, clock=self._steady)
        self._watchdog: Any = None

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load the model, restore its adapters, open the topics."""
        try:
            self._open(read(self, PLANNER_PARAMETERS))
        except BaseException:
            self._close()  # the store is locked while it is open, and configuring may be tried again
            raise
        return super().on_configure(state)

    def _open(self, values: dict[str, Any]) -> None:
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
        self._adapters = PlannerAdapters(
            self, role, limits, self._swaps, self._tell_swaps, self._qos, core.note_intervention
        )
        control_topic = values["control_topic"] or f"/carla/{role}/vehicle_control_cmd"
        self._outputs = PlannerOutputs(self, PROPOSAL_TOPIC if gated else control_topic, role, self._qos)
        self._inputs = PlannerInputs(self, values, self.loop, self._send, self._note, self._qos)
        self._note("model", State(OK, f"{engine.digest[:12]} on {engine.provider}"))
        self._set_mode(Mode.WAITING, "inactive")
        self._tell_swaps()

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to answer frames."""
        assert self.loop is not None
        period = self.get_parameter("watchdog_period_s").value
        self._watchdog = self.create_timer(period, self._watch, clock=self._steady)
        self.loop.begin()
        gc.collect()
        gc.freeze()  # what is loaded by now stays: the collector need not walk it between two frames
        result = super().on_activate(state)
        self._active = True
        self._set_mode(Mode.WAITING, "no frame yet")
        return result

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the vehicle braking."""
        self._stop_driving()
        self._set_mode(Mode.WAITING, "inactive")
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics and forget the model."""
        self._close()
        return super().on_cleanup(state)

    @logged_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the vehicle braking and close the topics."""
        self._stop_driving()
        self._close()
        return super().on_shutdown(state)

    @logged_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after an error of ours in a transition."""
        self._stop_driving()
        self._close()
        return TransitionCallbackReturn.SUCCESS

    def _stop_driving(self) -> None:
        """Answer no more frames; the last command brakes if a vehicle was ever heard of."""
        if not self._active or self.loop is None or self._outputs is None:
            return
        self._active = False
        self.destroy_timer(self._watchdog)
        last = self.loop.end()
        if last is not None:
            self._outputs.last_command(last.answer.command, last.stamp_ns)
            self._outputs.after_command(last, self.loop)  # the episode's end, else it looks like a lost message

    def _close(self) -> None:
        for part in (self._inputs, self._outputs, self._adapters):
            if part is not None:
                part.destroy()
        if self._swaps is not None:
            self._swaps.close()
        self.loop = self._inputs = self._outputs = self._adapters = self._swaps = None
        self._qos.forget()

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
        if self._note("inputs", state) or out.answer.mode is not self._mode:
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
        moved = self._note("adapters", swap_state(report, self._swaps is not None))
        if self._note("adapter refusals", refusal_state(report)) or moved:
            self._set_mode(self._mode, self._reason)

    def _each_second(self) -> None:
        self._between_ticks()
        self._qos.look_again()
        if self.loop is not None:
            self._set_mode(self._mode, self._reason)
            self.diagnostics.set("timing", timing_state(self.loop))
            if self._outputs is not None:
                self._outputs.timing.publish(self.loop.times.stages)
        self.diagnostics.publish_all()

    def _set_mode(self, mode: Mode, reason: str) -> None:
        self._mode, self._reason = mode, reason
        if self.loop is not None and self._outputs is not None:
            self._outputs.status(self.loop, mode.value, reason, self._report())

    def _note(self, name: str, state: State) -> bool:
        """Keep a state for the diagnostics; another one than before is logged, once."""
        changed = self.diagnostics.set(name, state)
        if changed and state.level == OK:
            self.get_logger().info(f"{name}: {state.message}")
        elif changed:
            self.get_logger().warning(f"{name}: {state.message}")
        return changed


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
        "dropped_frames": str(loop.assembler.dropped_frames),
        "late_parts": str(loop.assembler.late_parts),
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
