"""A pilot under the gate: it is held off others, counted rule by rule, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("libsumo")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.closed_loop import EvaluationConfig, evaluate
from adawm_planner.evaluation.report import read_json, to_document

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


def test_the_command_line_says_what_the_gate_did(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    words = ["evaluate", "--task", "right_turn_dense", "--driver", "blind", "--episodes", "2", "--seed", "1000"]
    done = CliRunner().invoke(adawm, [*words, "--gate", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "right_turn_dense, gate: braking_distance changed" in done.output
    assert read_json(file)[0]["gate"] is True
