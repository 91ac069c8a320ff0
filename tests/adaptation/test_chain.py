"""The whole chain in the driving world with the debug preset: baseline, a run, a killed run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.evaluation.report import check_document

pytest.importorskip("libsumo")


def run(*words: str) -> None:
    result = CliRunner().invoke(adawm, ["--debug", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_adapt_from_baseline_to_result_and_again_after_a_kill(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shared = ("--preset", "debug", "--model-dir", str(model_dir))
    run("baseline", *shared)
    cell = ("--task", "left_turn_moderate", "--vehicle", "heavy", "--strategy", "alternate")
    run("adapt", *cell, *shared, "--run", "one", "--json", "one.json")
    document = json.loads(Path("one.json").read_text())
    assert document["schema"] == "adawm.adaptation/1"
    assert [each["updated"] for each in document["rounds"]] == [["policy"], ["dynamics"]]
    assert [point["round"] for point in document["curve"]] == [0, 1, 2]
    assert document["env_steps"] == document["curve"][-1]["env_steps"]
    for name in ("before", "after", "source_after"):
        check_document(document[name])
    assert (Path("one") / document["adapter"]).exists()
    for name in ("round-02.json", "round-02.safetensors", "evaluation-curve-02.json", "evaluation-after.json"):
        (Path("one") / name).unlink()
    run("adapt", *cell, *shared, "--run", "one", "--json", "two.json")
    again = json.loads(Path("two.json").read_text())
    assert _timeless(again["rounds"]) == _timeless(document["rounds"])
    assert _driven(again["after"]) == _driven(document["after"])


def _driven(evaluation: dict[str, Any]) -> list[tuple[int, str, int]]:
    """Outcome and length of every episode; times in seconds carry the rounding of a clock that runs on."""
    return [(each["seed"], each["outcome"], each["frames"]) for each in evaluation["detail"]]


def _timeless(value: object) -> object:
    """The same without anything that a clock wrote."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not k.startswith("seconds") and k != "wall_s"}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
