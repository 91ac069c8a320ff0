"""Sensor messages in to control out, over DDS between processes: the planner against an empty echo node.

With the safety gate the planner's command takes two hops, and so does the echo's: two empty nodes, one after the other.
Frames recorded from the simulator are sent to the two chains in turn, so that both see the same messages under the same
load of the machine; a ratio is meaningful, a millisecond alone is not. As fast as they are answered, or one per 0.05 s
to each chain, half a period apart; then the period of the commands is judged too. What happens inside the planner and
the gate is what they count themselves, of the same frames, give or take those of a second.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from adawm_planner import stack
from adawm_planner.cli.options import json_option, model_options, seed_option
from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import track
from adawm_planner.dims import ACCELERATION_BINS, FRAME_S, FRAMES_PER_DECISION
from adawm_planner.processes import Children, interruptible, ros_environment
from adawm_planner.result_file import write_json
from adawm_planner.ros.node_table import GATE, PLANNER
from adawm_planner.runtime.stages import RECEIVE, Durations, levels
from adawm_planner.simulator.drivers import make_driver
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame
from benchmarks.record import LEVELS, percentiles, with_origin

if TYPE_CHECKING:
    from benchmarks.latency_probe import Probe, Trip

ECHO = Path(__file__).with_name("echo_node.py")
STEPPED = {"await_planner": True, "release_on_new_episode": True, "wait_s": 0.8}
"""Of the gate: the probe waits for each answer, as a world in lock-step does."""

WARM_UP = 40
"""Frames at first that are not counted: discovery, caches, first inference."""

MOST_WARM_UP = 440
"""Frames by which the nodes, which do every second, must have told of their stages once after the warm-up."""

SETTLE_S = 0.01
"""Pause after each answer [s]: what a node still does after its command must not count against the other."""

Told = Mapping[str, Mapping[str, Durations]]
"""Node -> stage -> what it took."""


@dataclass(frozen=True)
class Recorded:
    """One frame to be sent."""

    frame: WorldFrame
    number: int  # in its episode; every FRAMES_PER_DECISION-th asks for a decision

    @property
    def decides(self) -> bool:
        """Whether it asks for a decision."""
        return self.number % FRAMES_PER_DECISION == 0


@dataclass
class Samples:
    """Frames that both chains have answered."""

    planner: list[Trip] = field(default_factory=list)
    echo: list[Trip] = field(default_factory=list)
    decides: list[bool] = field(default_factory=list)  # whether the planner's frame asked for a decision
    lost: int = 0  # frames that were not answered within a second
    stages: dict[str, dict[str, Durations]] = field(default_factory=dict)  # by node

    def figures(self) -> dict[str, Any]:
        """Percentiles of all, of the planner's two kinds of frames, the ratios to the floor, and the stages."""
        planner_ms, echo_ms = ([trip.ms for trip in trips] for trips in (self.planner, self.echo))
        pairs = list(zip(planner_ms, self.decides, strict=True))
        planner, echo = percentiles(planner_ms), percentiles(echo_ms)
        return {
            "planner_ms": planner,
            "planner_decision_frames_ms": percentiles([value for value, decides in pairs if decides]),
            "planner_other_frames_ms": percentiles([value for value, decides in pairs if not decides]),
            "echo_ms": echo,
            "ratio": {name: planner[name] / echo[name] for name in planner},
            "frames": len(self.planner),
            "lost": self.lost,
            "stages_ms": {node: stage_figures(found) for node, found in self.stages.items()},
            "mean_ms": means(self.stages, float(np.mean(planner_ms))),
        }


def stage_figures(stages: Mapping[str, Durations]) -> dict[str, Any]:
    """Levels and mean [ms] of each stage, and how many were measured."""
    return {
        name: {
            **{level: 1e3 * seconds for level, seconds in levels(found).items()},
            "mean": 1e3 * found.mean_s,
            "count": found.count,
        }
        for name, found in stages.items()
    }


def means(told: Told, round_trip_ms: float) -> dict[str, float]:
    """Where a frame's time goes on average [ms], stage by stage along its way; means add up, percentiles do not.

    What a gate receives it receives while the planner does. The rest is what lies between the nodes: the probe's own
    part, serialisation, DDS, and the executors up to a frame's first message and to the proposal.
    """
    found = {
        f"{node} {stage}": 1e3 * durations.sum_s / frames
        for node, stages in told.items()
        if (frames := stages[RECEIVE].count)
        for stage, durations in stages.items()
        if (node, stage) != ("gate", RECEIVE)
    }
    return {**found, "between the nodes": round_trip_ms - sum(found.values()), "round trip": round_trip_ms}


def period(instants_s: Sequence[float]) -> dict[str, float]:
    """How evenly things happened that should every 0.05 s, at least three of them; see `targets.PERIOD`."""
    gaps = np.diff(instants_s)
    return {
        "mean_error": float(gaps.mean() / FRAME_S - 1.0),
        "rsd": float(gaps.std() / gaps.mean()),
        "largest_gap": float(gaps.max() / FRAME_S),
    }


def periods(samples: Samples) -> dict[str, Any]:
    """Period of the commands of both chains, and of the frames that they answer."""
    return {
        "planner": period([trip.answered_s for trip in samples.planner]),
        "frames_to_planner": period([trip.sent_s for trip in samples.planner]),
        "echo": period([trip.answered_s for trip in samples.echo]),
        "frames_to_echo": period([trip.sent_s for trip in samples.echo]),
    }


def episodes(world: World, seed: int) -> Iterator[Recorded]:
    """Frames of the expert's episodes, one after another, for ever."""
    driver, control = make_driver("expert"), ControlConfig()
    while True:
        frame, number, acceleration = world.reset(seed), 0, 0.0
        driver.reset(seed)
        while frame.outcome is None:
            yield Recorded(frame, number)
            if number % FRAMES_PER_DECISION == 0:
                acceleration = ACCELERATION_BINS[driver.act(world, frame)]
            frame = world.tick(track(world.scene(frame), acceleration, control))
            number += 1
        seed += 1


class Sender:
    """Sends frames to both chains, one by one."""

    def __init__(self, probe: Probe, realtime: bool) -> None:
        """Begin now."""
        self._probe, self._due_s = probe, time.perf_counter() if realtime else None

    def send(self, recorded: Recorded) -> tuple[Trip | None, Trip | None]:
        """Send a frame to the planner and then to the echo; their answers, None for one that did not come."""
        planner = self._trip("planner", recorded)
        return planner, self._trip("echo", recorded)

    def _trip(self, name: str, recorded: Recorded) -> Trip | None:
        if self._due_s is not None:
            self._probe.idle(self._due_s - time.perf_counter())
            self._due_s += FRAME_S / 2.0
        trip = self._probe.round_trip(name, recorded.frame, recorded.number == 0)
        if self._due_s is None:
            self._probe.idle(SETTLE_S)
        return trip


def measure(
    probe: Probe,
    recorded: Iterator[Recorded],
    frames: int,
    nodes: Sequence[str],
    realtime: bool,
    check: Callable[[], None],
) -> Samples:
    """Send every frame to both chains and time the answers; the first ones, up to the nodes' own account, do not count.

    Args:
        probe: what sends and hears.
        recorded: at least MOST_WARM_UP and `frames`.
        frames: that count.
        nodes: that tell of their stages.
        realtime: one frame per 0.05 s.
        check: raises if a node has ended.

    Raises:
        ChildDied: one of the nodes ended.
        ValueError: one of them tells nothing of its stages.
    """
    sender, samples = Sender(probe, realtime), Samples()
    for recording in islice(recorded, WARM_UP):
        sender.send(recording)
    probe.told = {}
    for recording in islice(recorded, MOST_WARM_UP - WARM_UP):
        sender.send(recording)
        if probe.told.keys() >= set(nodes):
            break
    before = dict(probe.told) if probe.told.keys() >= set(nodes) else probe.await_told(nodes)
    for recording in islice(recorded, frames):
        planner, echo = sender.send(recording)
        if planner is None or echo is None:
            check()
            samples.lost += 1
        else:
            samples.planner.append(planner)
            samples.echo.append(echo)
            samples.decides.append(recording.decides)
    after = probe.await_told(nodes)
    samples.stages = {
        node: {name: found.since(before[node][name]) for name, found in after[node].items()} for node in nodes
    }
    return samples


def start(children: Children, settings: dict[str, Any], gate: bool = False) -> None:
    """Start the planner, with its gate or without, and as many echo nodes, each in a process of its own."""
    for node in (PLANNER, GATE) if gate else (PLANNER,):
        stack.start(node, settings | STEPPED | {"use_gate": gate}, children)
    # Topics without a role get another name, so that neither node hears what is meant for the other.
    renamed = ["-r", "/clock:=/echo/clock", "-r", "/carla/status:=/echo/status", "-p", "use_sim_time:=true"]
    for hop in ("first", "second") if gate else ("only",):
        words = [sys.executable, str(ECHO), "--ros-args", *renamed, "-r", f"__node:=echo_{hop}", "-p", f"hop:={hop}"]
        children.start(f"echo_{hop}", words, os.environ)


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True, help="Task whose frames are sent.")
@click.option("--frames", type=click.IntRange(min=10), default=1000, show_default=True, help="Frames to each node.")
@click.option("--gate", is_flag=True, help="With the safety gate behind the planner; the echo takes two hops as well.")
@click.option("--realtime", is_flag=True, help="One frame per 0.05 s; else the next frame follows the answer.")
@seed_option(0)
@model_options
@json_option
def latency(
    task: str,
    frames: int,
    gate: bool,
    realtime: bool,
    seed: int,
    model_dir: Path | None,
    provider: str,
    json_file: Path | None,
) -> None:
    """Sensor message in to control out over DDS, against an empty echo node with the same messages."""
    stack.require_ros()
    world = World(load_task(task), load_vehicle("nominal"))
    os.environ.update(ros_environment(os.environ))
    settings = {"provider": provider, "model_dir": str(model_dir.resolve()) if model_dir else ""}
    folder = tempfile.TemporaryDirectory(prefix="adawm_latency_")
    with folder as logs, interruptible(), Children(Path(logs)) as children:
        start(children, settings, gate)
        from benchmarks.latency_probe import Probe  # after the children, which are forked from here

        recorded = iter(list(islice(episodes(world, seed), MOST_WARM_UP + frames)))
        probe = Probe(world, children.check)
        nodes = ("planner", "gate") if gate else ("planner",)
        samples = measure(probe, recorded, frames, nodes, realtime, children.check)
        probe.close()
    figures = {"task": task, "seed": seed, "gate": gate, "realtime": realtime, **samples.figures()}
    figures["period"] = periods(samples) if realtime else None
    show(figures)
    write_json(json_file, with_origin("latency", figures, ("onnxruntime", "ros-rclpy", "ros-fastrtps", "numpy")))


def show(figures: dict[str, Any]) -> None:
    """Print the round trips and their ratio, the stages, and the period."""
    view = Table(title=f"sensor in to control out, ms; {figures['frames']} frames, {figures['lost']} lost")
    for column in ("", *LEVELS):
        view.add_column(column, justify="right" if column else "left")
    rows = {
        "planner and gate" if figures["gate"] else "planner": "planner_ms",
        "  frames with a decision": "planner_decision_frames_ms",
        "  other frames": "planner_other_frames_ms",
        "empty echo": "echo_ms",
        "ratio": "ratio",
    }
    for title, name in rows.items():
        view.add_row(title, *(f"{figures[name][each]:.2f}" for each in LEVELS))
    for node, stages in figures["stages_ms"].items():
        view.add_section()
        for name, found in stages.items():
            view.add_row(f"{node}: {name}", *(f"{found[each]:.2f}" for each in LEVELS))
    console = Console(highlight=False)
    console.print(view)
    console.print("mean ms: " + ", ".join(f"{name} {value:.2f}" for name, value in figures["mean_ms"].items()))
    if figures["period"] is not None:
        for name in ("planner", "frames_to_planner", "echo", "frames_to_echo"):
            found = figures["period"][name]
            console.print(
                f"period, {name.replace('_', ' ')}: mean {1.0 + found['mean_error']:.4f} dt, RSD {found['rsd']:.3f}, "
                f"largest {found['largest_gap']:.2f} dt"
            )


if __name__ == "__main__":
    latency()
