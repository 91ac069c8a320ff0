"""The tables in README and docs are those of the committed results, and those keep the tasks' promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from adawm_planner.config.seeds import EVALUATION_SEED
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.simulator.tasks import BUILT_IN_TASKS
from benchmarks.reference import committed, markdown, reference

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/tasks.md"])
def test_pages_show_the_committed_results(page: str) -> None:
    assert markdown(committed()) in (ROOT / page).read_text(encoding="utf-8")


def test_by_default_no_seed_of_training_is_driven() -> None:
    assert {option.name: option.default for option in reference.params}["seed"] == EVALUATION_SEED


def test_results_add_up() -> None:
    for one in committed():
        successes = sum(episode["outcome"] == "success" for episode in one["detail"])
        assert one["episodes"] == len(one["detail"]) == 200
        assert one["success_rate"] == pytest.approx(successes / 200)
        assert one["success_ci95"] == pytest.approx(wilson_interval(successes, 200), abs=1e-4)
        assert min(episode["seed"] for episode in one["detail"]) >= 5000


def test_every_task_needs_looking_and_can_be_done() -> None:
    rate = {(one["task"], one["driver"]): one["success_rate"] for one in committed()}
    for task in BUILT_IN_TASKS:
        assert rate[(task, "blind")] <= 0.40 and rate[(task, "random")] <= 0.40
        assert rate[(task, "expert")] >= 0.97
