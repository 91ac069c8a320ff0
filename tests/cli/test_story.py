"""`adawm story` before anything is started: what it refuses is not in the way of its next try."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

pytest.importorskip("libsumo")

from adawm_planner.cli import story
from adawm_planner.cli.main import adawm


@pytest.mark.parametrize("option", ["--finetuner-params", "--planner-params"])
@pytest.mark.parametrize("content", ["root:x:0:0", "adawm_finetuner: {threads: 2}", "{a: {ros__parameters: {}}, b: 1}"])
def test_a_parameter_file_that_is_none_is_refused_before_anything_is_driven(
    option: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "prepare", lambda *_: pytest.fail("it drives"))
    file = tmp_path / "params.yaml"
    file.write_text(content)
    result = CliRunner().invoke(adawm, ["story", option, str(file), "--run", str(tmp_path / "run")])
    assert result.exit_code == 2 and f"Invalid value for '{option}': {file}: " in result.output, result.output
    assert not (tmp_path / "run").exists()


def test_a_shift_of_an_unknown_vehicle_is_a_mistake_in_the_call() -> None:
    result = CliRunner().invoke(adawm, ["story", "--shift", "right_turn_moderate:tank"])
    assert result.exit_code == 2 and "Invalid value for '--shift': " in result.output and "tank" in result.output


def test_a_first_try_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise click.ClickException("the source rollouts could not be made")

    for name in ("require_ros", "require_training"):
        monkeypatch.setattr(story, name, lambda: None)
    monkeypatch.setattr(story, "prepare", fails)
    (tmp_path / "no.pem").write_text("no key")
    (tmp_path / "no.pem").chmod(0o600)
    run = tmp_path / "run"
    for more, told in ([], "could not be made"), (["--signing-key", str(tmp_path / "no.pem")], "no unencrypted"):
        result = CliRunner().invoke(adawm, ["story", "--run", str(run), *more])
        assert result.exit_code == 1 and told in result.output and result.output.count("\n") == 1, result.output
        assert not run.exists()
