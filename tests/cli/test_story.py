"""`adawm story` before anything is started: what it refuses is not in the way of its next try."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

pytest.importorskip("libsumo")

from adawm_planner.cli import story
from adawm_planner.cli.main import adawm


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
