"""One fault in, its Outcome out: planner and gate as processes of their own, a bridge in real time, the fault injected.

The vehicle is held at its speed until the gate lets the planner drive; then it is free, and the fault comes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from adawm_planner.dims import FRAME_S
from adawm_planner.faults.outcome import LATE_FRAMES, STANDSTILL_MPS, TRIES, Outcome, clean, judge
from adawm_planner.faults.repeats import SEEDS_APART, phase_s
from adawm_planner.faults.table import (
    DISK,
    FAULT_VARIABLE,
    FINETUNER,
    MODEL,
    PLANNER,
    PROPOSAL_SIGNAL,
    PROPOSALS,
    SIGNALS,
    Due,
    Fault,
    Kind,
    find,
)
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import ChildDied, Children, interruptible
from adawm_planner.ros.node_table import FINETUNER as FINETUNER_NODE
from adawm_planner.ros.node_table import GATE, START_LIMIT_S, NodeSpec, node_command
from adawm_planner.ros.node_table import PLANNER as PLANNER_NODE
from adawm_planner.simulator.tasks import load_vehicle

if TYPE_CHECKING:
    from adawm_planner.ros.fault_bridge import FaultBridge

FAULTY_PLANNER = replace(PLANNER_NODE, module="adawm_planner.ros.fault_planner")

SETTLED_COMMANDS = 20
"""Commands in a row that let the vehicle drive before it is let go."""

CLEAN_S = 1.0
"""Time before the fault in which nothing may have braked [s]."""


@dataclass(frozen=True)
class Settings:
    """How each fault is run."""

    speed_mps: float = 13.89  # 50 km/h
    stop_s: float = 10.0  # seen after a fault that a stop is due for; a comfortable stop takes 4 s
    drive_s: float = 5.0  # seen after all others
    after_s: float = 1.0  # seen after standstill: longer than stop.standstill_s, at which a stop becomes a hold
    seed: int = 0  # of lost messages, in the first run of a fault


class Unclean(Exception):
    """The vehicle was braked before the fault."""


def run_fault(fault: Fault, repeat: int, settings: Settings, source_dir: Path, folder: Path) -> tuple[Outcome, int]:
    """Run a fault, again where something braked before it.

    Args:
        fault: to be injected.
        repeat: number of the run, from 0: each loses other messages, and harms a process at another moment of a frame.
        settings: of the run.
        source_dir: source rollouts of the base model, for a fault of the finetuner.
        folder: of the logs; the first try's are in 1/.

    Returns:
        What it came to, and how many runs it took.

    Raises:
        ChildDied: a process ended that was to live.
        TimeoutError: the stack did not begin to drive.
        Unclean: every run was braked before the fault.
    """
    for attempt in range(1, TRIES + 1):
        try:
            outcome = _run_once(fault, repeat, settings, source_dir, folder / str(attempt))
        except Unclean:
            if attempt == TRIES:
                raise
            continue
        if attempt == TRIES or outcome.longest_period_s <= LATE_FRAMES * FRAME_S:
            return outcome, attempt
    raise AssertionError("unreachable")


def _run_once(fault: Fault, repeat: int, settings: Settings, source_dir: Path, folder: Path) -> Outcome:
    with Children(folder) as children:
        stack = _Stack(fault, settings, source_dir, children)
        from adawm_planner.ros.fault_bridge import FaultBridge  # after the children, which are forked from here

        seed = settings.seed + SEEDS_APART * repeat
        bridge = FaultBridge(fault, load_vehicle("nominal"), settings.speed_mps, seed)
        try:
            return _drive(fault, repeat, settings, stack, bridge)
        finally:
            bridge.close()


def _drive(fault: Fault, repeat: int, settings: Settings, stack: _Stack, bridge: FaultBridge) -> Outcome:
    late = fault.kind is Kind.LATE
    bridge.connect(1 if late and fault.where == PLANNER else 2, START_LIMIT_S, stack.check)
    if late:
        bridge.inject()
    else:
        _settle(stack, bridge)
        _inject(fault, repeat, stack, bridge)
    bridge.let_go()
    _observe(fault, settings, stack, bridge)
    if not late and not clean(bridge.trace, CLEAN_S):
        raise Unclean(f"{fault.name}: the vehicle was braked before the fault; is the machine too busy?")
    return judge(fault, bridge.trace)


def _settle(stack: _Stack, bridge: FaultBridge) -> None:
    """Drive until the gate lets the planner, then for CLEAN_S more."""
    deadline = time.monotonic() + START_LIMIT_S
    while not bridge.unbraked(SETTLED_COMMANDS):
        stack.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing drove within {START_LIMIT_S:g} s; see {stack.children.log_dir}")
        bridge.tick()
    bridge.let_go()
    for _ in range(round(CLEAN_S / FRAME_S)):
        bridge.tick()
    stack.check()


def _inject(fault: Fault, repeat: int, stack: _Stack, bridge: FaultBridge) -> None:
    """Let the fault begin: between two frames, or so long after one as the run's number says."""
    if fault.in_bridge or repeat == 0:
        stack.inject_into_bridge_or_process(bridge)
    else:
        bridge.tick(phase_s(repeat), lambda: stack.inject_into_bridge_or_process(bridge))


def _observe(fault: Fault, settings: Settings, stack: _Stack, bridge: FaultBridge) -> None:
    """Drive on until the vehicle stands, or the time is over; end the fault when it is to end."""
    began = time.monotonic()
    late = fault.kind is Kind.LATE
    seconds = settings.stop_s if late or fault.promise.due is Due.STOP else settings.drive_s
    end, healed = began + seconds, fault.lasts_s is None
    while time.monotonic() < end:
        bridge.tick()
        stack.check_gate()
        if not healed and fault.lasts_s is not None and time.monotonic() - began >= fault.lasts_s:
            healed = True
            stack.heal(bridge)
        if bridge.speed_mps < STANDSTILL_MPS and not late:
            end = min(end, time.monotonic() + settings.after_s)


class _Stack:
    """Processes of one run, and what is done to them."""

    def __init__(self, fault: Fault, settings: Settings, source_dir: Path, children: Children) -> None:
        self.fault, self.children, self._source_dir = fault, children, source_dir
        self._model = Path(tempfile.mkdtemp(dir=children.log_dir)) / "model"
        shutil.copytree(default_model_dir(), self._model)
        more = children.log_dir / "planner.more.yaml"
        wanted = {"/**": {"ros__parameters": {"control.cruise_speed_mps": settings.speed_mps + 0.5}}}
        more.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        delay = fault.amount if fault.kind is Kind.LATE and fault.where == PLANNER else 0.0
        self._gate = self._start(GATE)
        self._planner = self._start(FAULTY_PLANNER, (more,), delay)
        if fault.where == FINETUNER:
            self._finetuner = self._start(FINETUNER_NODE)

    def _start(self, node: NodeSpec, more: tuple[Path, ...] = (), delay_s: float = 0.0) -> int:
        settings = {
            "use_gate": True,
            "use_world_status": not self.fault.on_vehicle,
            "provider": "cpu",
            "model_dir": str(self._model),
            "state_dir": str(self.children.log_dir / "finetuner"),
            "source_dir": str(self._source_dir),
        }
        words = node_command(node, node.name, settings, self.children.log_dir, more)
        if delay_s:
            words = ["sh", "-c", f'sleep {delay_s:g}; exec "$@"', "sh", *words]
        return self.children.start(node.name, words, {**os.environ, FAULT_VARIABLE: self.fault.name})

    def check(self) -> None:
        """Raise ChildDied where a process ended."""
        self.children.check()

    def check_gate(self) -> None:
        """Raise ChildDied where the gate ended: nothing that is injected may end it."""
        ended = self.children.ended(GATE.name)
        if ended is not None:
            raise ChildDied(ended)

    def inject_into_bridge_or_process(self, bridge: FaultBridge) -> None:
        """Let the fault begin."""
        actions: dict[tuple[str, Kind], Callable[[], object]] = {
            (PLANNER, Kind.KILL): lambda: os.kill(self._planner, signal.SIGKILL),
            (PLANNER, Kind.STOP): lambda: os.kill(self._planner, signal.SIGSTOP),
            (FINETUNER, Kind.OUT_OF_MEMORY): lambda: os.killpg(self._finetuner, signal.SIGKILL),
            (DISK, Kind.FULL): self._fill_disk,
            (MODEL, Kind.DELETED): lambda: shutil.rmtree(self._model),
            (MODEL, Kind.REPLACED): self._replace_model,
            (MODEL, Kind.CUT): self._cut_model,
            (MODEL, Kind.OVERWRITTEN): self._overwrite_model,
        }
        bridge.inject()
        action = actions.get((self.fault.where, self.fault.kind))
        if action is not None:
            action()
        elif self.fault.where == PLANNER:
            os.kill(self._planner, SIGNALS[self.fault.kind])
        elif self.fault.where == PROPOSALS:
            os.kill(self._planner, PROPOSAL_SIGNAL)

    def heal(self, bridge: FaultBridge) -> None:
        """Let the fault end."""
        bridge.heal()
        if self.fault.where == PLANNER:
            os.kill(self._planner, signal.SIGCONT)

    def _fill_disk(self) -> None:
        """As on a full disk, no write of either process succeeds; what they hold open stays."""
        for process in (self._gate, self._planner):
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (0, hard))

    def _cut_model(self) -> None:
        for file in self._model.iterdir():
            os.truncate(file, 2048)

    def _overwrite_model(self) -> None:
        for path in self._model.iterdir():
            with path.open("r+b") as file:
                file.write(b"\xff" * path.stat().st_size)

    def _replace_model(self) -> None:
        broken = self._model.parent / "broken"
        for file in list(self._model.iterdir()):
            broken.write_bytes(b"\xff" * 2048)
            broken.rename(file)


def main(words: list[str]) -> int:
    """Run one fault once in this process and write its outcome.

    Args:
        words: its name, which run of it, from 0, settings as JSON, folder of the source rollouts, folder of the logs,
            file of the outcome.
    """
    name, repeat, settings, source_dir, folder, file = words
    chosen = Settings(**json.loads(settings))
    with interruptible():
        outcome, tries = run_fault(find(name), int(repeat), chosen, Path(source_dir), Path(folder))
    document: dict[str, Any] = {**asdict(outcome), "tries": tries}
    Path(file).write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ChildDied, TimeoutError, Unclean) as error:
        sys.exit(str(error))
