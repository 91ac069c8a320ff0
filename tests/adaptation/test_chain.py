"""The whole chain in the driving world with the debug preset: baseline, runs, killed runs that go on, benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adawm_planner.adaptation import harness
from adawm_planner.adaptation.adapt_step import adapt_step
from adawm_planner.adaptation.scores import BASELINE_FILE
from adawm_planner.cli.main import adawm
from adawm_planner.config.adaptation import load_adaptation
from adawm_planner.evaluation.report import check_document
from benchmarks import identify

pytest.importorskip("libsumo")
pytestmark = pytest.mark.slow

TOUCHED = ("round-02.json", "round-02.safetensors", "evaluation-curve-02.json", "evaluation-after.json")
"""What a run killed in its second round does not have yet."""


def run(*words: str) -> str:
    result = CliRunner().invoke(adawm, ["--debug", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def shared(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options of every command; the model has its baseline, and the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    options = ("--preset", "debug", "--model-dir", str(model_dir))
    run("baseline", *options)
    return options


@pytest.mark.parametrize(
    ("strategy", "updated"),
    [
        ("alternate", [["dynamics", "policy"]] * 2),
        ("full", [["dynamics", "policy"] * 2] * 2),
        ("adawm", [["dynamics", "policy"]] * 2),
        ("none", [[]] * 2),
    ],
)
def test_a_killed_run_called_again_ends_with_the_same_result(
    shared: tuple[str, ...], strategy: str, updated: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = list[tuple[int, float]]()

    def noted(index: int, *rest: Any) -> Any:
        rates.append((index, rest[3].config.fit.dynamics_rate))
        return adapt_step(index, *rest)

    monkeypatch.setattr(harness, "adapt_step", noted)
    _find_everything_wrong(Path(shared[-1]) / BASELINE_FILE)
    cell = ("--task", "left_turn_moderate", "--vehicle", "heavy", "--strategy", strategy)
    run("adapt", *cell, *shared, "--run", "one", "--json", "one.json")
    document = json.loads(Path("one.json").read_text())
    assert document["schema"] == "adawm.adaptation/1"
    assert [each["updated"] for each in document["rounds"]] == updated
    assert [point["round"] for point in document["curve"]] == [0, 1, 2]
    assert document["env_steps"] == document["curve"][-1]["env_steps"]
    for name in ("before", "after", "source_after"):
        check_document(document[name])
    first, second = document["rounds"]
    seen = second["steps"][0]["mismatch"]["scores"]["ego"]["episodes"]
    assert seen == second["episodes"] + (0 if first["updated"] else first["episodes"])
    assert (document["adapter"] is None) == (strategy == "full")
    for name in (*TOUCHED, "rollouts-01.npz"):  # rollouts that were lost are driven again
        (Path("one") / name).unlink()
    run("adapt", *cell, *shared, "--run", "one", "--json", "two.json")
    again = json.loads(Path("two.json").read_text())
    full = load_adaptation(preset="debug").fit.dynamics_rate
    assert rates == [(1, full), (2, full / 2), (2, full / 2)], "the first round is not run again"
    assert _timeless(again["rounds"]) == _timeless(document["rounds"])
    assert _driven(again["after"]) == _driven(document["after"])


def test_identify_judges_every_planted_cause(shared: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    one_each = {cause: conditions[:1] for cause, conditions in identify.PLANTED.items()}
    monkeypatch.setattr(identify, "PLANTED", one_each)
    words = ("--trials", "2", "--clean", "3", "--episodes", "2", "--sizes", "2,3", "--json", "identify.json")
    assert "planted cause (rows) against named cause" in run("benchmark", "identify", *shared, *words)
    document = json.loads(Path("identify.json").read_text())
    assert document["benchmark"] == "identify"
    for estimator in ("direct", "visitation"):
        trials = {cause: sum(named.values()) for cause, named in document[estimator]["confusion"].items()}
        assert trials == {"none": 3, "vehicle": 2, "task": 2, "both": 2}
        assert document[estimator]["nothing_is_wrong"]["trials"] == 3
    assert document["direct_by_rollouts"]["3"]["identified_planted"]["trials"] == 3


def test_a_table_keeps_its_finished_runs(shared: tuple[str, ...]) -> None:
    strategies = ("--strategy", "none", "--strategy", "policy")
    words = ("benchmark", "table", *shared, "--shift", "right_turn_moderate:heavy", "--seeds", "1", *strategies)
    assert run(*words, "--workers", "2").count("started") == 2
    folder = Path("runs/table/debug")
    for name in ("table.md", "table.json", "right_turn_moderate-heavy.png"):
        assert (folder / name).exists()
    assert "started" not in run(*words)
    run(*words[:-4], "--strategy", "none")  # a part never replaces the whole
    (row,) = json.loads((folder / "table.json").read_text())["rows"]
    assert list(row["strategies"]) == ["none", "policy"]
    (result,) = folder.glob("runs/*none*.json")
    document = json.loads(result.read_text())
    document["config"]["fit"]["updates"] = 7
    result.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="its config.fit.updates is 7 and not 6; choose another --results"):
        run(*words)
    document["config"]["fit"]["updates"], document["config"]["actor_lora"]["rank"] = 6, 99
    document["config"]["select"]["c"] = 7.0
    result.write_text(json.dumps(document))
    assert "started" not in run(*words), "a strategy that trains no policy has no rank for it and obeys no decision"
    (other,) = folder.glob("runs/*policy*.json")
    other.write_text(json.dumps(document | {"strategy": "policy"}))
    with pytest.raises(ValueError, match="its config.actor_lora.rank is 99 and not 2"):
        run(*words)


def _find_everything_wrong(baseline: Path) -> None:
    """Put the dynamics far above the baseline, and driving that never failed in it: `adawm` has both to repair."""
    values = json.loads(baseline.read_text())
    values["samples"]["dynamics_prediction"]["mean"] -= 20.0
    values["driving"] = {"failed": 0, "episodes": 100}
    baseline.write_text(json.dumps(values))


def _driven(evaluation: dict[str, Any]) -> list[tuple[int, str, int]]:
    """Outcome and length of every episode; times in seconds carry the rounding of a clock that runs on."""
    return [(each["seed"], each["outcome"], each["frames"]) for each in evaluation["detail"]]


def _timeless(value: object) -> object:
    """The same without anything that a clock wrote."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not k.startswith("seconds") and k != "wall_s"}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
