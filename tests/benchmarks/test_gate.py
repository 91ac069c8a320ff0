"""Pairing with and without the gate, on made-up evaluations, and the committed result in the docs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("libsumo")

from adawm_planner.simulator.tasks import BUILT_IN_TASKS
from benchmarks.gate import duration_ratio, gate, markdown, row, without_gate
from benchmarks.reference import committed

ROOT = Path(__file__).resolve().parents[2]


def evaluation(*episodes: tuple[int, str, float]) -> dict[str, Any]:
    detail = [{"seed": seed, "outcome": outcome, "duration_s": took} for seed, outcome, took in episodes]
    return {"task": "t", "vehicle": "nominal", "driver": "world_model", "detail": detail, "interventions": {}}


def test_each_outcome_is_counted_over_the_common_seeds() -> None:
    without = evaluation(
        (1, "collision", 5), (2, "success", 10), (3, "success", 10), (4, "collision", 5), (9, "success", 1)
    )
    gated = evaluation((1, "success", 12), (2, "collision", 7), (3, "success", 11), (4, "timeout", 60))
    found = row(without, gated)
    assert (found["seeds"], found["collisions_prevented"], found["collisions_caused"]) == (4, 2, 1)
    assert (found["success_without"], found["success_with"]) == (0.5, 0.5)
    assert (found["collisions_without"], found["collisions_with"]) == (0.5, 0.25)
    assert found["duration_ratio"] is None, "one pair has no interval"


def test_durations_are_compared_where_both_arrive() -> None:
    without = evaluation((1, "success", 10.0), (2, "success", 20.0), (3, "collision", 1.0))
    found = duration_ratio(without, evaluation((1, "success", 11.0), (2, "success", 22.0), (3, "success", 30.0)))
    assert found is not None and found["pairs"] == 2 and math.isclose(found["ratio"], 1.1)
    assert math.isclose(found["ci95"][0], 1.1) and math.isclose(found["ci95"][1], 1.1)


@pytest.mark.parametrize(("seed", "missing"), [(0, 0), (5199, 5200), (5200, 5200)])
def test_seeds_without_a_committed_result_are_refused_before_the_drive(
    seed: int, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gate.digest", lambda folder: committed_digest())
    monkeypatch.setattr("benchmarks.gate.with_progress", lambda config: pytest.fail("it drives"))
    result = CliRunner().invoke(gate, ["--seed", str(seed), "--episodes", "2"])
    assert result.exit_code == 1
    assert f"is of seeds 5000 to 5199, seed {missing} is not among them" in result.output


def test_the_defaults_are_seeds_of_the_committed_result() -> None:
    default = {option.name: option.default for option in gate.params}
    for task in BUILT_IN_TASKS:
        without_gate(task, committed_digest(), range(default["seed"], default["seed"] + default["episodes"]))


def committed_digest() -> str:
    return next(str(one["model_digest"]) for one in committed() if one["driver"] == "world_model")


def test_the_docs_show_the_committed_result() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "safety" / "gate.json").read_text())["rows"]
    assert markdown(rows) in (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
