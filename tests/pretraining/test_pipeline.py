"""The whole chain with the debug preset, on a tiny crossing."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from rich.console import Console

from adawm_planner.config.presets import load_pretraining
from adawm_planner.policy.agent import load_agent
from adawm_planner.pretraining import pipeline
from adawm_planner.pretraining.collect import RoundReport
from adawm_planner.pretraining.fit import FitReport, Run
from adawm_planner.pretraining.model_card import write_card
from adawm_planner.pretraining.pipeline import FACTS_FILE, Pipeline, improve_by_imagination, pretrain, read_facts
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.export import export_model
from tests.pretraining.crossing import crossing_rig

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, folder of the trained agent)."""
    folder = tmp_path_factory.mktemp("pretraining")
    config = load_pretraining(preset="debug")
    return folder / "run", pretrain(config, folder / "data", folder / "run", crossing_rig, QUIET)


def test_rewards_that_the_model_could_not_tell_end_the_run_before_anything_is_trained(tmp_path: Path) -> None:
    config = load_pretraining(preset="debug")
    config = replace(config, world_model=replace(config.world_model, reward_limit=0.1))
    with pytest.raises(ValueError, match=r"a reward of -?\d.*, the model tells none beyond 0.1 apart"):
        pretrain(config, tmp_path / "data", tmp_path / "run", crossing_rig, QUIET)
    assert not list((tmp_path / "run").glob("clone-*"))


def test_every_stage_leaves_its_facts(trained: tuple[Path, Path]) -> None:
    facts = json.loads((trained[0] / FACTS_FILE).read_text())
    stages = [fact["stage"] for fact in facts if not fact["stage"].startswith("collect")]
    assert stages == [
        "clone-00",
        "clone-01",
        "score-clone",
        "world_model",
        "cloned",
        "score-cloned",
        "imagined-01",
        "score-imagined-01",
        "final",
    ]
    assert facts[-1]["chosen"] in ("cloned", "imagined-01")


def test_the_encoder_is_the_clone_s_and_was_not_touched_again(trained: tuple[Path, Path]) -> None:
    from adawm_planner.pretraining.clone import load_clone

    run, final = trained
    cloned, agent = load_clone(run / "clone-01").encoder.state_dict(), load_agent(final)
    assert all(torch.equal(value, cloned[name]) for name, value in agent.world_model.encoder.state_dict().items())


def test_a_second_call_does_nothing_again(trained: tuple[Path, Path]) -> None:
    run, final = trained
    before, kept = (final / "weights.safetensors").read_bytes(), (run / "config.yaml").stat()
    config = load_pretraining(preset="debug")
    pretrain(config, run.parent / "data", run, crossing_rig, QUIET)
    stages = [fact["stage"] for fact in json.loads((run / FACTS_FILE).read_text())]
    assert stages.count("world_model") == 1 and stages.count("imagined-01") == 1
    assert (final / "weights.safetensors").read_bytes() == before
    again = (run / "config.yaml").stat()
    assert (again.st_ino, again.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)


def test_a_resumed_run_is_the_run_that_was_never_stopped(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_pretraining(preset="debug")

    def killed(*stage: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("adawm_planner.pretraining.pipeline.model_world", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, tmp_path / "data", tmp_path / "run", crossing_rig, QUIET)
    torch.manual_seed(12345)  # what a process drew before must not matter
    final = pretrain(config, tmp_path / "data", tmp_path / "run", crossing_rig, QUIET)
    whole, resumed = load_agent(trained[1]).state_dict(), load_agent(final).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_run_is_not_continued_with_another_config(trained: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="another configuration"):
        pretrain(load_pretraining(preset="quick"), trained[0].parent / "data", trained[0], crossing_rig, QUIET)


def test_the_limit_of_minutes_is_of_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_pretraining(preset="debug")
    config = replace(config, imagination=replace(config.imagination, rounds=5, minutes=1.0))
    one = Pipeline(config, tmp_path / "data", Run(tmp_path, 0, 1, 1), None, QUIET)  # type: ignore[arg-type]

    def round_of_35_s(_: Pipeline, learner: object, replay: object, index: int, before: Path, folder: Path) -> None:
        facts = read_facts(tmp_path / FACTS_FILE)
        if any(fact["stage"] == folder.name for fact in facts):
            return
        facts += [
            {"stage": f"collect-{index:02d}", "seconds": 15.0},  # is in the round's
            {"stage": folder.name, "seconds": 25.0},
            {"stage": f"score-{folder.name}", "seconds": 10.0, "success": 0.5},
        ]
        (tmp_path / FACTS_FILE).write_text(json.dumps(facts))
        if index == 1:
            raise KeyboardInterrupt

    (tmp_path / FACTS_FILE).write_text('[{"stage": "score-cloned", "seconds": 5.0, "success": 0.1}]')
    for name in ("ActorCritic", "load_agent", "save_agent"):
        monkeypatch.setattr(pipeline, name, lambda *_: None)
    monkeypatch.setattr(pipeline, "_imagine_round", round_of_35_s)
    with pytest.raises(KeyboardInterrupt):
        improve_by_imagination(one, None, None)  # type: ignore[arg-type]
    for _ in range(2):
        improve_by_imagination(one, None, None)  # type: ignore[arg-type]
    facts = read_facts(tmp_path / FACTS_FILE)
    assert [fact["stage"] for fact in facts if fact["stage"].startswith("imagined")] == ["imagined-01", "imagined-02"]
    assert [fact["chosen"] for fact in facts if fact["stage"] == "final"] == ["imagined-02"] * 2


def test_a_killed_round_takes_what_all_its_calls_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_pretraining(preset="debug")
    one = Pipeline(config, tmp_path / "data", Run(tmp_path, 0, 1, 1), None, QUIET)  # type: ignore[arg-type]
    driven = [RoundReport(60, 60, 3, {"success": 3}, 40.0), RoundReport(60, 0, 3, {"success": 3}, 40.0)]
    report = FitReport("imagined-01", 5, 0.0, 100.0, "updates", {})  # most of it before the kill
    trained = iter([KeyboardInterrupt(), report, report])
    saved: list[Path] = []

    def train(*_: object) -> FitReport:
        outcome = next(trained)
        if isinstance(outcome, FitReport):
            return outcome
        raise outcome

    def save(_: object, folder: Path) -> None:
        saved.append(folder)
        if len(saved) == 1:
            raise KeyboardInterrupt  # before it is noted

    monkeypatch.setattr(pipeline, "collect_round", lambda *_: driven.pop(0) if len(driven) > 1 else driven[0])
    monkeypatch.setattr(pipeline, "train_policy", train)
    monkeypatch.setattr(pipeline, "save_agent", save)
    monkeypatch.setattr(pipeline, "_drive_and_note", lambda *_: None)
    some = SimpleNamespace(held_out=np.zeros(1, bool), select=lambda _: None)
    monkeypatch.setattr(pipeline, "load_rounds", lambda *_: some)
    learner: Any = SimpleNamespace(agent=None)
    replay: Any = MagicMock()
    folder = tmp_path / "imagined-01"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pipeline._imagine_round(one, learner, replay, 1, tmp_path, folder)
    pipeline._imagine_round(one, learner, replay, 1, tmp_path, folder)
    facts = [(fact["stage"], fact["seconds"]) for fact in read_facts(tmp_path / FACTS_FILE)]
    assert facts == [("collect-02", 40.0), ("imagined-01", 140.0)] and saved == [folder, folder]


def test_a_kill_while_the_config_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        pretrain(load_pretraining(preset="debug"), tmp_path / "data", tmp_path / "run", crossing_rig, QUIET)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="run: another process works on this run"):
            pretrain(load_pretraining(preset="debug"), tmp_path / "data", tmp_path / "run", crossing_rig, QUIET)
    assert not (tmp_path / "data").exists()


def test_a_run_does_not_take_another_run_s_episodes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    config = replace(load_pretraining(preset="debug"), seed=5)
    with pytest.raises(ValueError, match=r"round-00/claim.json: the seed of these episodes is 0 and not 5; .*--data"):
        pretrain(config, trained[0].parent / "data", tmp_path / "run", crossing_rig, QUIET)


def test_export_and_card(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, final = trained
    export_model(final, tmp_path / "model")
    result = {"task": "t", "vehicle": "nominal", "driver": "world_model", "episodes": 200, "seed": 5000}
    rates = {
        "success_rate": 0.97,
        "success_ci95": [0.936, 0.986],
        "collision_rate": 0.02,
        "timeout_rate": 0.01,
        "detail": [{"duration_s": 18.0}, {"duration_s": 20.0}],
    }
    (tmp_path / "score.json").write_text(json.dumps({**result, **rates}))
    write_card(tmp_path / "model", run, [tmp_path / "score.json"])
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "| t | nominal | world_model | 200 | 5000 | 0.970 [0.936, 0.986] | 0.020 | 0.010 | 19.0 |" in card
    assert OnnxEngine(tmp_path / "model", "cpu").digest in card
    (tmp_path / "score.json").write_text("{}")
    with pytest.raises(ValueError, match="score.json: not a result"):
        write_card(tmp_path / "model", run, [tmp_path / "score.json"])


@pytest.mark.parametrize("content", ["", "[", "3", "[1]", '[{"seconds": 1}]', "\x00"])
def test_damaged_facts_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / FACTS_FILE
    assert read_facts(path) == []
    path.write_text(content)
    with pytest.raises(ValueError, match="remove it to have the finished stages scored anew") as refused:
        read_facts(path)
    assert str(path) in str(refused.value)
