"""An export replaces a model as a whole: what is interrupted leaves the old one, or one that nothing loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.policy.agent import Agent, load_agent, save_agent
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.export import export_model
from adawm_planner.runtime.model_files import MODEL_FILES, UNFINISHED, digest, replaced
from tests.adapters.conftest import Maker


class Killed(BaseException):
    """Ends what runs, as a signal would."""


@pytest.fixture
def model(maker: Maker, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(maker.model_dir, folder)
    return folder


@pytest.fixture
def other(agent: Agent, tmp_path: Path) -> Path:
    """An agent with other weights."""
    changed = {name: value + 1.0 for name, value in agent.state_dict().items()}
    save_agent(agent, tmp_path / "other")
    unlike = load_agent(tmp_path / "other")
    unlike.load_state_dict(changed)
    save_agent(unlike, tmp_path / "other")
    return tmp_path / "other"


@pytest.mark.parametrize("moves", range(len(MODEL_FILES) + 1))
def test_a_kill_between_any_two_files_leaves_nothing_that_loads(
    moves: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, left = Path.replace, [moves]

    def at_most(file: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return move(file, target)

    monkeypatch.setattr(Path, "replace", at_most)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed), replaced(model) as staged:
        for name in MODEL_FILES:
            (staged / name).write_text("new")
    for load in (lambda: OnnxEngine(model, "cpu"), lambda: load_agent(model), lambda: digest(model)):
        with pytest.raises(ValueError, match=r"an export into it was interrupted.* --overwrite"):
            load()


def test_a_kill_before_the_files_are_whole_leaves_the_old_model_and_again_gives_the_new_one(
    model: Path, other: Path, tmp_path: Path
) -> None:
    before, names = digest(model), {each.name for each in model.iterdir()}

    def killed(_: Path) -> None:
        raise Killed

    with pytest.raises(Killed):
        export_model(other, model, killed)
    assert digest(model) == before and OnnxEngine(model, "cpu").digest == before
    with pytest.raises(Killed):
        export_model(other, tmp_path / "new", killed)
    assert not (tmp_path / "new").exists()
    (model / UNFINISHED).touch()
    export_model(other, model)
    assert OnnxEngine(model, "cpu").digest == digest(model) != before
    assert {each.name for each in model.iterdir()} == names


def test_a_model_is_overwritten_only_where_that_is_asked_for(model: Path, other: Path) -> None:
    before, words = digest(model), ["export", "--agent", str(other), "--output", str(model)]
    refused = CliRunner().invoke(adawm, words)
    assert refused.exit_code == 2 and f"{model} is not empty" in refused.output and digest(model) == before
    done = CliRunner().invoke(adawm, [*words, "--overwrite"])
    assert done.exit_code == 0 and digest(model) != before, done.output


def test_pretraining_does_not_write_over_a_model_that_it_was_not_told_to(model: Path, tmp_path: Path) -> None:
    before = digest(model)
    words = ["pretrain", "--preset", "debug", "--data", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    refused = CliRunner().invoke(adawm, [*words, "--output", str(model)])
    assert refused.exit_code == 2 and f"{model} is not empty" in refused.output and digest(model) == before
    assert not (tmp_path / "data").exists() and not (tmp_path / "run").exists()


def test_a_card_that_cannot_be_made_leaves_the_old_model(model: Path, other: Path, tmp_path: Path) -> None:
    run, before = tmp_path / "run", digest(model)
    shutil.copytree(other, run / "final")
    result = CliRunner().invoke(adawm, ["export", "--run", str(run), "--output", str(model), "--overwrite"])
    assert result.exit_code == 1 and "holds no finished stages" in result.output and result.output.count("\n") == 1
    assert digest(model) == before


def test_pretraining_whose_card_cannot_be_made_leaves_the_old_model(
    model: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, run = digest(model), tmp_path / "run"
    monkeypatch.setattr("adawm_planner.pretraining.pipeline.pretrain", lambda *_: other)  # and no facts
    words = ["pretrain", "--preset", "debug", "--run", str(run), "--output", str(model), "--overwrite"]
    result = CliRunner().invoke(adawm, words)
    assert result.exit_code == 1 and "holds no finished stages" in result.output
    assert digest(model) == before
