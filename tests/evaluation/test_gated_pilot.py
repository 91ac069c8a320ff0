"""A pilot under the gate: it is held off others, counted rule by rule, the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("libsumo")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.data_types import Command, EgoState, Objects, Outcome, Route, VehicleInfo
from adawm_planner.evaluation import gated_pilot
from adawm_planner.evaluation.closed_loop import EvaluationConfig, evaluate
from adawm_planner.evaluation.gated_pilot import GatedPilot
from adawm_planner.evaluation.report import read_json, to_document
from adawm_planner.observation.route import project, route_from_points

NOBODY = Objects(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(8)))
CONFIG = EvaluationConfig("right_turn_dense", episodes=3, seed=2004, gate=True)


def test_the_gate_prevents_collisions_and_counts_what_it_did() -> None:
    free = evaluate(EvaluationConfig("right_turn_dense", episodes=3, seed=2004))
    held = evaluate(CONFIG)
    assert free.count(Outcome.COLLISION) > held.count(Outcome.COLLISION)
    assert free.interventions() == {} and "interventions" not in to_document(free)
    counted = to_document(held)["interventions"]
    assert counted["braking_distance"]["frames"] >= counted["braking_distance"]["episodes"] > 0
    frames = sum(episode.interventions.get("braking_distance", 0) for episode in held.episodes)
    assert counted["braking_distance"]["frames"] == frames
    again = evaluate(CONFIG)
    assert [one.to_json() for one in again.episodes] == [one.to_json() for one in held.episodes]


@dataclass
class Lap:
    """A world whose route crosses itself, with the ego at the crossing."""

    speed: float = 5.0
    near: int | None = None

    @property
    def route(self) -> Route:
        """A straight road, a loop, and across the road again at right angles."""
        angle = np.linspace(0.0, 1.5 * np.pi, 100)
        x, y = 30.0 * np.sin(angle) + 60.0, 30.0 * (1.0 - np.cos(angle))
        return route_from_points(np.r_[0.0:60.0, x, [30.0] * 59], np.r_[np.zeros(60), y, 29.0:-30.0:-1.0])

    @property
    def vehicle_info(self) -> VehicleInfo:
        return VehicleInfo(0.61, 2.8, 4.7, 1.85, 1600.0)

    def frame(self) -> Any:
        """On the second pass, where the first one is as near."""
        return Mock(ego=EgoState(30.0, 0.0, -0.5 * np.pi, self.speed, 0.0, 0.0, 0.0), objects=NOBODY, route=self.route)

    def scene(self, frame: Any) -> Any:
        return Mock(near=self.near)


def held(world: Any) -> Command:
    """What the gate makes of a pilot that goes on."""
    pilot = Mock(digest=None, command=Mock(return_value=Command(throttle=0.1)))
    return GatedPilot(pilot).command(world, world.frame())


def test_a_route_that_comes_back_is_followed_in_order_as_by_the_node() -> None:
    lap = Lap()
    again = project(lap.route, 30.0, 1.0, len(lap.route.x) - 60).index
    assert held(Lap(near=again)).throttle == pytest.approx(0.1)
    assert held(Lap(near=None)).brake > 0.0, "where the route is entered the first pass counts"


@pytest.mark.parametrize("speed", [5.0, -5.0])
def test_the_rules_hear_the_speed_of_the_wheels(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Mock(side_effect=gated_pilot.step)
    monkeypatch.setattr(gated_pilot, "step", heard)
    held(Lap(speed=speed))
    assert heard.call_args.args[0].reading.wheel_speed == 5.0


def test_the_command_line_says_what_the_gate_did(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    words = ["evaluate", "--task", "right_turn_dense", "--driver", "blind", "--episodes", "2", "--seed", "1000"]
    done = CliRunner().invoke(adawm, [*words, "--gate", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "right_turn_dense, gate: braking_distance changed" in done.output
    assert read_json(file)[0]["gate"] is True
