"""The training benchmark measures what it says; no figure is judged here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from adawm_planner.adaptation.rollouts import Rollouts
from adawm_planner.adaptation.select_part import Part
from adawm_planner.cli.main import adawm
from adawm_planner.config.adaptation import ADAPTATION_FILE, AdaptationConfig
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.dataset import save_chunk
from benchmarks import training
from tests.adaptation.conftest import random_episodes


def test_the_first_update_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 7.0, 8.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(times))
    clock = training.Clock()
    for done in (1, 11, 13):
        clock(done, "")
    assert clock.per_update == pytest.approx(3.0 / 12)


def test_all_four_are_timed_in_every_block(agent: Agent, config: AdaptationConfig) -> None:
    contenders = training.timed(agent, config, random_episodes(12, 1), blocks=2, updates=3)
    found = {key: contender.figures() for key, contender in contenders.items()}
    assert len(found) == 4
    for values in found.values():
        assert len(values["blocks"]) == 2
        assert min(values["blocks"]) <= values["seconds_per_update"] <= max(values["blocks"])
        assert values["optimizer_bytes"] == 12 * (values["trainable"] + values["trainable_critic"])
    for part in training.PARTS:
        assert found[part, "low_rank"]["trainable"] < found[part, "full"]["trainable"]
    labels = training.count(agent.world_model.label_head)
    assert found[Part.DYNAMICS, "full"]["trainable"] == training.count(agent.world_model) - labels
    assert found[Part.POLICY, "full"]["trainable"] == training.count(agent.actor)


def test_memory_is_measured_in_another_process(model_dir: Path, config: AdaptationConfig, tmp_path: Path) -> None:
    save_chunk(tmp_path / "episodes.npz", random_episodes(8, 1), {"outcomes": ["success"] * 8})
    growth = training.peak_growth(model_dir, config, tmp_path / "episodes.npz", Part.DYNAMICS, low_rank=False)
    assert (growth is not None and growth > 0) or not os.access("/proc/self/clear_refs", os.W_OK)


def test_the_command_gives_ratios(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "driven", lambda *_: Rollouts(random_episodes(8, 1), ("success",) * 8))
    content = yaml.safe_load(ADAPTATION_FILE.read_text())
    content["presets"]["debug"]["fit"]["starts"] = 40  # more than the 32 rows of a batch
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content))
    words = [
        "--preset",
        "debug",
        "--model-dir",
        str(model_dir),
        "--blocks",
        "1",
        "--updates",
        "2",
        "--no-memory",
        "--config",
        str(tmp_path / "more.yaml"),
    ]
    result = CliRunner().invoke(
        adawm, ["--debug", "benchmark", "training", *words, "--json", str(tmp_path / "x.json")], catch_exceptions=False
    )
    assert result.exit_code == 0 and "at least 3 is needed" in result.output
    document: dict[str, Any] = json.loads((tmp_path / "x.json").read_text())
    assert document["benchmark"] == "training"
    assert document["imagined"] == [40, 4]
    for part in ("dynamics", "policy"):
        low, full = (document[part][kind]["seconds_per_update"] for kind in ("low_rank", "full"))
        assert document[part]["ratio"]["seconds_per_update"] == pytest.approx(full / low)
        assert "peak_growth_bytes" not in document[part]["ratio"]
