"""Sensor messages in to control out, over DDS between processes: the planner against an empty echo node.

With the safety gate the planner's command takes two hops, and so does the echo's: two empty nodes, one after the other.

Frames recorded from the simulator are sent to the two in turn, each time waiting for the answer, so that both
see the same messages under the same load of the machine; a ratio is meaningful, a millisecond alone is not.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from adawm_planner.cli.drive import require_ros
from adawm_planner.cli.options import json_option, model_options, seed_option
from adawm_planner.cli.processes import Children, interruptible, ros_environment
from adawm_planner.config.control import ControlConfig
from adawm_planner.control.tracking import track
from adawm_planner.dims import ACCELERATION_BINS, FRAME_S, FRAMES_PER_DECISION
from adawm_planner.paths import launch_dir
from adawm_planner.ros.node_table import GATE, PLANNER, command, parameter_document
from adawm_planner.simulator.drivers import make_driver
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World, WorldFrame
from benchmarks.record import percentiles, with_origin, write

if TYPE_CHECKING:
    from benchmarks.latency_probe import Probe

ECHO = Path(__file__).with_name("echo_node.py")
STEPPED = {"await_planner": True, "release_on_new_episode": True, "wait_s": 0.8}
"""Of the gate: the probe waits for each answer, as a world in lock-step does."""

WARM_UP = 40
"""Frames at first that are not counted: discovery, caches, first inference."""

SETTLE_S = 0.01
"""Pause after each answer [s]: what a node still does after its command must not count against the other."""


@dataclass(frozen=True)
class Recorded:
    """One frame to be sent."""

    frame: WorldFrame
    number: int  # in its episode; every FRAMES_PER_DECISION-th asks for a decision


@dataclass
class Samples:
    """Round trips [ms]."""

    planner: list[float] = field(default_factory=list)
    echo: list[float] = field(default_factory=list)
    decides: list[bool] = field(default_factory=list)  # whether the planner's frame asked for a decision
    lost: int = 0  # frames that were not answered within a second

    def figures(self) -> dict[str, Any]:
        """Percentiles of all, of the planner's two kinds of frames, and the ratios to the floor."""
        pairs = list(zip(self.planner, self.decides, strict=True))
        planner, echo = percentiles(self.planner), percentiles(self.echo)
        return {
            "planner_ms": planner,
            "planner_decision_frames_ms": percentiles([value for value, decides in pairs if decides]),
            "planner_other_frames_ms": percentiles([value for value, decides in pairs if not decides]),
            "echo_ms": echo,
            "ratio": {name: planner[name] / echo[name] for name in planner},
            "frames": len(self.planner),
            "lost": self.lost,
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


def measure(probe: Probe, world: World, frames: int, seed: int, period: float, children: Children) -> Samples:
    """Send every frame to the planner and to the echo and time both answers.

    Raises:
        ChildDied: one of the two ended.
    """
    samples, source = Samples(), episodes(world, seed)
    for i in range(WARM_UP + frames):
        began, recorded = time.perf_counter(), next(source)
        times = []
        for name in ("planner", "echo"):
            times.append(probe.round_trip(name, recorded.frame, recorded.number == 0))
            probe.idle(SETTLE_S)
        if None in times:
            children.check()
            samples.lost += i >= WARM_UP
        elif i >= WARM_UP:
            samples.planner.append(times[0])
            samples.echo.append(times[1])
            samples.decides.append(recorded.number % FRAMES_PER_DECISION == 0)
        probe.idle(period - (time.perf_counter() - began))
    return samples


def start(children: Children, settings: dict[str, Any], gate: bool = False) -> None:
    """Start the planner, with its gate or without, and as many echo nodes, each in a process of its own."""
    for node in (PLANNER, GATE) if gate else (PLANNER,):
        chosen = children.log_dir / f"{node.name}.param.yaml"
        chosen.write_text(yaml.safe_dump(parameter_document(node, settings | STEPPED | {"use_gate": gate})))
        shipped = launch_dir() / "params" / node.parameter_file
        children.start(node.name, command(node, [str(shipped), str(chosen)]), os.environ)
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
@seed_option
@model_options
@json_option
def latency(
    task: str, frames: int, gate: bool, realtime: bool, seed: int, model_dir: Path | None, provider: str,
    json_file: Path | None,
) -> None:  # fmt: skip
    """Sensor message in to control out over DDS, against an empty echo node with the same messages."""
    require_ros()
    world = World(load_task(task), load_vehicle("nominal"))
    os.environ.update(ros_environment(os.environ))
    settings = {"provider": provider, "model_dir": str(model_dir.resolve()) if model_dir else ""}
    folder = tempfile.TemporaryDirectory(prefix="adawm_latency_")
    with folder as logs, interruptible(), Children(Path(logs)) as children:
        start(children, settings, gate)
        from benchmarks.latency_probe import Probe  # after the children, which are forked from here

        probe = Probe(world, children.check)
        samples = measure(probe, world, frames, seed, FRAME_S if realtime else 0.0, children)
        probe.close()
    figures = {"task": task, "seed": seed, "gate": gate, "realtime": realtime, **samples.figures()}
    show(figures)
    write(json_file, with_origin("latency", figures, ("onnxruntime", "ros-rclpy", "ros-fastrtps", "numpy")))


def show(figures: dict[str, Any]) -> None:
    """Print the round trips and their ratio."""
    view = Table(title=f"sensor in to control out, ms; {figures['frames']} frames, {figures['lost']} lost")
    for column in ("node", "p50", "p99", "max"):
        view.add_column(column, justify="left" if column == "node" else "right")
    rows = {
        "planner and gate" if figures["gate"] else "planner": "planner_ms",
        "  frames with a decision": "planner_decision_frames_ms",
        "  other frames": "planner_other_frames_ms",
        "empty echo": "echo_ms",
        "ratio": "ratio",
    }
    for title, name in rows.items():
        view.add_row(title, *(f"{figures[name][each]:.2f}" for each in ("p50", "p99", "max")))
    Console().print(view)


if __name__ == "__main__":
    latency()
