"""Decisions per second of this environment against highway-env's intersection-v1, alternating in one run.

Both simulate 0.05 s a step and decide every 0.2 s, in one process and one thread, with random actions. Ours
gives the BEV raster and the reward of a vehicle model in SUMO traffic; highway-env its default observation.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import gymnasium
import numpy as np
from rich.console import Console
from rich.table import Table

from adawm_planner.cli.options import SEED, FiniteRange, json_option
from adawm_planner.dims import DECISION_S, FRAME_S
from adawm_planner.result_file import write_json
from adawm_planner.simulator.tasks import BUILT_IN_TASKS
from benchmarks.record import with_origin

PEER = "intersection-v1"
PEER_CONFIG = {"simulation_frequency": round(1.0 / FRAME_S), "policy_frequency": round(1.0 / DECISION_S)}


@dataclass
class Contender:
    """One environment and what was measured of it."""

    name: str
    env: gymnasium.Env[Any, Any]
    vehicles: Callable[[], int]  # now in the world, the ego included
    rates: list[float] = field(default_factory=list)  # decisions/s of each block, resets included
    step_rates: list[float] = field(default_factory=list)  # the same without the resets
    counts: list[int] = field(default_factory=list)  # vehicles at each reset and block end
    episodes: int = 0
    decisions: int = 0

    def figures(self) -> dict[str, Any]:
        """What goes into the result."""
        return {
            "decisions_per_s": median(self.rates),
            "decisions_per_s_without_resets": median(self.step_rates),
            "blocks": self.rates,
            "decisions": self.decisions,
            "episodes": self.episodes,
            "mean_vehicles": float(np.mean(self.counts)),
        }


def make_ours(task: str) -> Contender:
    """This project's environment of a task."""
    import adawm_planner.simulator  # noqa: F401  (registers the environments)

    name = f"AdaWM/{''.join(word.capitalize() for word in task.split('_'))}-v0"
    env = gymnasium.make(name, disable_env_checker=True)
    return Contender(name, env, lambda: len(env.unwrapped.frame.objects) + 1)  # type: ignore[attr-defined]


def make_peer() -> Contender:
    """highway-env's intersection at this project's step and decision period."""
    import highway_env  # noqa: F401  (registers the environments)

    with warnings.catch_warnings():  # v1 is what is compared with; gymnasium would rather have v2
        warnings.simplefilter("ignore", DeprecationWarning)
        env = gymnasium.make(PEER, config=PEER_CONFIG, disable_env_checker=True)
    assert {name: env.unwrapped.config[name] for name in PEER_CONFIG} == PEER_CONFIG  # type: ignore[attr-defined]
    return Contender(PEER, env, lambda: len(env.unwrapped.road.vehicles))  # type: ignore[attr-defined]


def run_block(contender: Contender, seconds: float, seed: int) -> None:
    """Drive one environment for a while with random actions."""
    env = contender.env
    env.action_space.seed(seed)
    resetting, decisions, ended = 0.0, 0, True
    started = time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        if ended:
            env.reset(seed=seed + contender.episodes)
            contender.episodes += 1
            contender.counts.append(contender.vehicles())
            resetting += time.perf_counter() - now
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        ended = terminated or truncated
        decisions += 1
    spent = time.perf_counter() - started
    contender.counts.append(contender.vehicles())
    contender.decisions += decisions
    contender.rates.append(decisions / spent)
    contender.step_rates.append(decisions / (spent - resetting))


@click.command()
@click.option(
    "--task",
    type=click.Choice(BUILT_IN_TASKS),
    default="right_turn_moderate",
    show_default=True,
    help="Built-in task of this project.",
)
@click.option("--blocks", type=click.IntRange(min=1), default=5, show_default=True, help="Alternations of the two.")
@click.option("--seconds", type=FiniteRange(min=0.1), default=4.0, show_default=True, help="Length of a block.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the first episode.")
@json_option
def throughput(task: str, blocks: int, seconds: float, seed: int, json_file: Path | None) -> None:
    """Environment decisions per second with BEV and reward, against highway-env's intersection-v1."""
    contenders = (make_ours(task), make_peer())
    for contender in contenders:  # imports, nets and caches
        run_block(contender, 0.5, seed)
        contender.rates.clear()
        contender.step_rates.clear()
    for block in range(blocks):
        for contender in contenders:
            run_block(contender, seconds, seed + 1000 * block)
    ours, peer = (contender.figures() for contender in contenders)
    key = "decisions_per_s"
    figures = {
        "step_s": FRAME_S,
        "decision_s": DECISION_S,
        "seed": seed,
        "ours": {"name": contenders[0].name, **ours},
        "peer": {"name": contenders[1].name, **peer},
        "ratio": ours[key] / peer[key],
        "ratio_without_resets": ours[f"{key}_without_resets"] / peer[f"{key}_without_resets"],
    }
    show(figures)
    write_json(json_file, with_origin("throughput", figures, ("highway-env", "eclipse-sumo", "libsumo", "numpy")))


def show(figures: dict[str, Any]) -> None:
    """Print the two and their ratio."""
    view = Table(title=f"decisions per second, {figures['step_s']} s a step, {figures['decision_s']} s a decision")
    for column in ("environment", "with resets", "without", "episodes", "vehicles"):
        view.add_column(column, justify="left" if column == "environment" else "right")
    for each in (figures["ours"], figures["peer"]):
        rates = (each["decisions_per_s"], each["decisions_per_s_without_resets"])
        view.add_row(
            each["name"], *(f"{rate:.0f}" for rate in rates), str(each["episodes"]), f"{each['mean_vehicles']:.1f}"
        )
    view.add_row("ratio", f"{figures['ratio']:.1f}", f"{figures['ratio_without_resets']:.1f}", "", "")
    Console().print(view)


if __name__ == "__main__":
    throughput()
