"""A console that fails, as a closed pipe or a full disk make it, takes no result with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("libsumo")
pytest.importorskip("torch")

from adawm_planner.cli import drive, faults
from adawm_planner.cli.main import adawm
from adawm_planner.evaluation.closed_loop import EvaluationConfig, evaluate
from adawm_planner.faults.outcome import Outcome
from adawm_planner.faults.run import Settings
from adawm_planner.origin import Start
from adawm_planner.pretraining.collect import RoundReport

FULL = "No space left on device"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be printed."""

    def failing(*_: object, **__: object) -> None:
        raise OSError(28, FULL)

    monkeypatch.setattr(Console, "print", failing)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "result.json"


@pytest.mark.usefixtures("full")
def test_drive(file: Path) -> None:
    episodes = list(evaluate(EvaluationConfig("right_turn_moderate", driver="blind", seed=5000)).episodes)
    settings = {"seed": 5000, "episodes": 1, "use_gate": True}
    run = drive.Run("right_turn_moderate", "nominal", settings, episodes=episodes)
    with pytest.raises(OSError, match=FULL):
        drive.finish(Console(), run, file)
    assert json.loads(file.read_text())["episodes"] == 1


@pytest.mark.usefixtures("full")
def test_collect(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = RoundReport(100, 100, 3, {"success": 3}, 1.0)
    asked: list[Any] = []
    monkeypatch.setattr(
        "adawm_planner.pretraining.collect.collect_round", lambda *given: asked.extend(given[1:4]) or report
    )
    words = ["collect", "--workers", "0", "--output", str(tmp_path / "kept"), "--json", str(file)]
    more = ["--decisions", "321", "--round", "4", "--seed", "77", "--weights", str(tmp_path), "--vehicle", "heavy"]
    result = CliRunner().invoke(adawm, [*words, *more])
    assert result.exit_code == 1 and json.loads(file.read_text())["decisions"] == 100
    plan, *rest = asked
    assert rest == [tmp_path / "kept", 321] and (plan.config.vehicle, plan.sample) == ("heavy", True)
    assert (plan.seed, plan.index, plan.weights) == (77, 4, str(tmp_path))


@pytest.mark.usefixtures("full")
def test_adapt(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(execute=lambda: {"rounds": []})
    monkeypatch.setattr("adawm_planner.adaptation.harness.Adaptation", lambda *_: done)
    words = ["adapt", "--run", str(tmp_path / "run"), "--cache", str(tmp_path / "cache"), "--json", str(file)]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and json.loads(file.read_text()) == {"rounds": []}


@pytest.mark.usefixtures("full")
def test_faults(file: Path, tmp_path: Path) -> None:
    row = asdict(Outcome("planner_kill", 0.2, 4, 9, "hold", "hold", 2.0, 15.0, "input_stale", "why", 0.05, 0, ""))
    rows, page = [{**row, "tries": 1}], tmp_path / "page.md"
    campaign = SimpleNamespace(settings=Settings(), rows=lambda chosen: rows, normal=lambda: None)
    with pytest.raises(OSError, match=FULL):
        faults.report(campaign, [], page, file, Start.now())  # type: ignore[arg-type]
    assert json.loads(file.read_text())["rows"][0]["fault"] == "planner_kill" and page.is_file()
