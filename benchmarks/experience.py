"""What publishing an Experience costs the planner's tick: the message built, and handed to DDS.

The rasters are those of a drive in dense traffic; a subscriber in another process takes the messages as the finetuner
does. Wall time holds what other processes took of a shared core; the thread's own time does not.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from adawm_planner.cli.options import json_option, seed_option
from adawm_planner.data_types import Action, Experience, Observation, RewardTerms
from adawm_planner.dims import ACCELERATION_BINS, ACTION_COUNT, DECISION_S
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import ros_environment
from adawm_planner.result_file import write_json
from adawm_planner.runtime.engine import Engine, OnnxEngine
from adawm_planner.simulator.env import DrivingEnv
from adawm_planner.stack import require_ros
from benchmarks.record import percentiles, with_origin

LIMIT_MS = 0.3
"""What a tick may pay for its experience [ms]."""

PAUSE_S = 0.005
"""Between two messages, so that they do not queue up in DDS [s]; a vehicle sends one in 0.2 s."""

CONNECT_LIMIT_S = 20.0
TOPIC = "/experience_cost"
STEPS = ("build_ms", "publish_ms", "both_ms", "both_thread_ms")


def observations(count: int, seed: int) -> list[Observation]:
    """What a random driver sees in dense traffic."""
    env, rng, seen = DrivingEnv("right_turn_dense"), np.random.default_rng(seed), list[Observation]()
    observed, _ = env.reset(seed=seed)
    while len(seen) < count:
        seen.append(Observation(observed["bev"], observed["state"]))
        observed, _, ended, cut, _ = env.step(int(rng.integers(ACTION_COUNT)))
        if ended or cut:
            observed, _ = env.reset(seed=seed + len(seen))
    env.close()
    return seen


def decision(k: int, observation: Observation) -> Experience:
    """Decision k of one long drive."""
    index, chances = k % ACTION_COUNT, np.full(ACTION_COUNT, 1.0 / ACTION_COUNT, np.float32)
    action, reward = Action(index, ACCELERATION_BINS[index], chances), RewardTerms(progress=0.1, speed=0.1)
    return Experience(k * DECISION_S, k, 0, observation, action, 0.5, reward, False, False, False)


def subscribe(count: int, heard: Any, answers: Any) -> None:
    """Take messages as the finetuner does, in a process of its own; answer with what each took [ms].

    `heard` is set by the first message, which may be a greeting: one whose sequence is not below `count`.
    """
    import rclpy
    from adawm_msgs.msg import Experience as ExperienceMessage

    from adawm_planner.ros import qos
    from adawm_planner.ros.experience_input import captured_from

    took: list[float] = []

    def on_message(message: Any) -> None:
        heard.set()
        if message.sequence >= count:
            return
        begun = time.perf_counter()
        captured_from(message)
        took.append(1e3 * (time.perf_counter() - begun))

    rclpy.init(args=[])
    node = rclpy.create_node("experience_cost_subscriber")
    node.create_subscription(ExperienceMessage, TOPIC, on_message, qos.EXPERIENCE)
    silent_since = time.monotonic()
    while len(took) < count and time.monotonic() - silent_since < CONNECT_LIMIT_S:
        before = len(took)
        rclpy.spin_once(node, timeout_sec=0.5)
        silent_since = time.monotonic() if len(took) > before else silent_since
    answers.put(took)
    rclpy.try_shutdown()


def publish(seen: Sequence[Observation], engine: Engine, count: int, heard: Any) -> dict[str, list[float]]:
    """What building and publishing each message took [ms]. Raises ClickException when nobody hears.

    Greetings go first: a publisher that sees its subscription may not have been seen by it, and what it sends is lost.
    """
    import rclpy
    from adawm_msgs.msg import Experience as ExperienceMessage

    from adawm_planner.ros import qos
    from adawm_planner.ros.planner_outputs import experience_message

    rclpy.init(args=[])
    publisher = rclpy.create_node("experience_cost").create_publisher(ExperienceMessage, TOPIC, qos.EXPERIENCE)
    deadline = time.monotonic() + CONNECT_LIMIT_S
    while not heard.is_set():
        if time.monotonic() > deadline:
            raise click.ClickException(f"the subscriber heard nothing within {CONNECT_LIMIT_S:.0f} s")
        publisher.publish(experience_message(decision(count, seen[0]), engine, 1.5))
        time.sleep(0.05)
    took: dict[str, list[float]] = {name: [] for name in STEPS}
    gc.collect()
    gc.freeze()  # as the planner does
    for k in range(count):
        one = decision(k, seen[k % len(seen)])
        thread, begun = time.thread_time(), time.perf_counter()
        message = experience_message(one, engine, 1.5)
        built = time.perf_counter()
        publisher.publish(message)
        sent, used = time.perf_counter(), time.thread_time() - thread
        for name, seconds in zip(STEPS, (built - begun, sent - built, sent - begun, used), strict=True):
            took[name].append(1e3 * seconds)
        time.sleep(PAUSE_S)
    return took


@click.command()
@click.option("--messages", type=click.IntRange(min=10), default=2000, show_default=True, help="Messages to send.")
@seed_option(0)
@json_option
def experience(messages: int, seed: int, json_file: Path | None) -> None:
    """What publishing an Experience costs the planner's tick."""
    require_ros()
    os.environ.update(ros_environment(os.environ))
    seen, engine = observations(200, seed), OnnxEngine(default_model_dir(), "cpu")
    context = multiprocessing.get_context("spawn")
    heard, answers = context.Event(), context.Queue()
    child = context.Process(target=subscribe, args=(messages, heard, answers), daemon=True)
    child.start()
    took = publish(seen, engine, messages, heard)
    took["take_ms"] = answers.get(timeout=2.0 * CONNECT_LIMIT_S)
    child.join()
    figures = {
        "seed": seed,
        "messages": messages,
        "received": len(took["take_ms"]),
        "limit_ms": LIMIT_MS,
        **{name: percentiles(values) for name, values in took.items()},
    }
    show(figures)
    write_json(json_file, with_origin("experience", figures, ("ros-rclpy", "ros-fastrtps", "numpy")))


def show(figures: dict[str, Any]) -> None:
    """Print what each step took."""
    view = Table(title=f"ms; {figures['messages']} messages, {figures['received']} received; limit {LIMIT_MS} ms")
    for column in ("step", "p50", "p99", "max"):
        view.add_column(column, justify="left" if column == "step" else "right")
    rows = {
        "planner: build": "build_ms",
        "planner: publish": "publish_ms",
        "planner: both": "both_ms",
        "  the thread's own time": "both_thread_ms",
        "finetuner: take and check": "take_ms",
    }
    for title, name in rows.items():
        view.add_row(title, *(f"{figures[name][each]:.3f}" for each in ("p50", "p99", "max")))
    Console().print(view)


if __name__ == "__main__":
    experience()
