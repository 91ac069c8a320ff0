"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from adawm_planner.cli.main import adawm

ONE = ["evaluate", "--driver", "blind", "--episodes", "1", "--json"]


def test_json_goes_into_a_folder_that_is_made_first(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "result.json"
    assert CliRunner().invoke(adawm, [*ONE, str(file)]).exit_code == 0
    assert file.is_file()


def test_json_that_cannot_be_written_is_refused_before_the_run() -> None:
    result = CliRunner().invoke(adawm, [*ONE, "/proc/nowhere/result.json"])
    assert result.exit_code == 2
    assert "folder /proc/nowhere cannot be made" in result.output
    assert "closed-loop evaluation" not in result.output
