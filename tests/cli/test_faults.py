"""`adawm faults`: what is measured is kept, mistakes are one line, results and page come from what is there."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

pytest.importorskip("libsumo")

from adawm_planner.cli import faults as command
from adawm_planner.cli.faults import Campaign
from adawm_planner.cli.main import adawm
from adawm_planner.faults.outcome import Outcome
from adawm_planner.faults.run import Settings
from adawm_planner.faults.table import FAULTS
from adawm_planner.paths import default_model_dir
from adawm_planner.processes import Children
from adawm_planner.runtime.model_files import digest
from adawm_planner.simulator.tasks import TASKS_DIR


def _run(*words: str) -> Result:
    return CliRunner().invoke(adawm, ["faults", *words])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign in which two faults have been measured; nothing more can be."""
    monkeypatch.setattr(command, "require_ros", lambda: None)
    model = digest(default_model_dir())
    campaign = {"settings": asdict(Settings()), "task": "right_turn_moderate", "seed": 5000, "model": model}
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "campaign.json").write_text(json.dumps(campaign))
    for name, broken in (("planner_kill", ""), ("odometry_kill", "no standstill")):
        row = asdict(Outcome(name, 0.2, 4, 9, "hold", "hold", 2.0, 15.0, "input_stale", "why", 0.05, 0, broken))
        (folder / f"{name}.json").write_text(json.dumps({**row, "tries": 1}))
    return folder


def test_list_shows_every_fault_and_starts_nothing() -> None:
    result = _run("--list")
    assert result.exit_code == 0
    assert all(fault.name[:12] in result.output for fault in FAULTS)


@pytest.mark.parametrize("word", ["--json", "--page"])
def test_a_list_measures_nothing_that_could_be_written(tmp_path: Path, word: str) -> None:
    result = _run("--list", word, str(tmp_path / "faults"))
    assert result.exit_code == 2 and "--list measures nothing" in result.output
    assert not (tmp_path / "faults").exists()


def test_what_was_measured_is_not_measured_again(runs: Path, tmp_path: Path) -> None:
    json_file, page = tmp_path / "faults.json", tmp_path / "faults.md"
    words = ["--fault", "planner_kill", "--episodes", "0", "--runs", str(runs)]
    result = _run(*words, "--json", str(json_file), "--page", str(page))
    assert result.exit_code == 0, result.output
    document = json.loads(json_file.read_text())
    assert [row["fault"] for row in document["rows"]] == ["planner_kill"]
    assert document["benchmark"] == "faults" and document["commit"] and document["normal"] is None
    assert (
        "| planner_kill | SIGKILL | stop | 0.25 | 0.20 | 4 | hold | 2.0 | 15.0 | `input_stale` | 1 | kept |"
        in page.read_text()
    )


def test_a_broken_promise_is_told_and_ends_the_command_with_1(runs: Path) -> None:
    result = _run("--fault", "planner_kill", "--fault", "odometry_kill", "--episodes", "0", "--runs", str(runs))
    assert result.exit_code == 1 and "Promises not kept: odometry_kill." in result.output


def test_runs_of_a_fault_are_one_row_and_only_those_that_lack_are_measured(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = json.loads((runs / "planner_kill.json").read_text())
    (runs / "planner_kill.2.json").write_text(json.dumps({**measured, "braked_s": 0.24, "tries": 2}))
    writer = tmp_path / "writer.py"
    late = {**measured, "braked_s": 0.31, "braked_frames": 6, "broken": "braked after 6 frames, limit 5"}
    writer.write_text(f"import sys, pathlib\npathlib.Path(sys.argv[-1]).write_text({json.dumps(late)!r})\n")
    started: list[list[str]] = []
    start = Children.start

    def instead(self: Children, name: str, words: list[str], env: dict[str, str]) -> int:
        started.append(words)
        return start(self, name, [sys.executable, str(writer), words[-1]], env)

    monkeypatch.setattr(Children, "start", instead)
    json_file, page = tmp_path / "faults.json", tmp_path / "faults.md"
    words = ["--fault", "planner_kill", "--episodes", "0", "--runs", str(runs), "--json", str(json_file)]
    assert _run(*words, "--repeats", "3", "--page", str(page)).exit_code == 1
    (third,) = started
    assert third[third.index("planner_kill") + 1] == "2"  # counted from 0
    assert third[-1] == str(runs / "planner_kill.3.part")
    (row,) = json.loads(json_file.read_text())["rows"]
    assert (row["braked_s"], row["braked_frames"], row["tries"]) == (0.31, 6, 2)
    assert [each["braked_s"] for each in row["repeats"]] == [0.2, 0.24, 0.31]
    assert "| 0.31 | 6 | hold | 2.0 | 15.0 | `input_stale` | 2 | kept in 2 of 3: braked after 6" in page.read_text()
    assert "1 faults in 3 runs, 1 of which broke their promise." in page.read_text()
    started.clear()
    assert _run(*words).exit_code == 1 and not started  # who asks for fewer still sees the broken one
    assert len(json.loads(json_file.read_text())["rows"][0]["repeats"]) == 3


def test_every_fault_is_run_once_before_any_is_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(Campaign, "_measure", lambda self, name, module, words: names.append(name))
    campaign = Campaign(Settings(), "right_turn_moderate", 0, tmp_path / "runs", tmp_path, Console())
    campaign.run(FAULTS[:2], 0, 3)
    first, second = (fault.name for fault in FAULTS[:2])
    assert names == [first, second, f"{first}.2", f"{second}.2", f"{first}.3", f"{second}.3"]


def test_blocks_of_normal_episodes_are_added_up(runs: Path, tmp_path: Path) -> None:
    for first, needless in ((5000, 0), (5010, 1)):
        block = {"episodes": 10, "needless": needless, "stops": {"input_stale": needless}, "responses": {"speed": 2}}
        (runs / f"normal-right_turn_moderate-{first}-10.json").write_text(json.dumps(block))
    json_file = tmp_path / "faults.json"
    result = _run("--fault", "planner_kill", "--episodes", "20", "--runs", str(runs), "--json", str(json_file))
    assert result.exit_code == 0, result.output
    normal = json.loads(json_file.read_text())["normal"]
    assert (normal["episodes"], normal["needless"]) == (20, 1)
    assert normal["stops"] == {"input_stale": 1} and normal["responses"] == {"speed": 4}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fault", "planner_kill", "--speed", "8"), "holds a campaign of another model or with other options"),
        (("--fault", "planner_kill", "--task", "fly"), "fly"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], message: str, runs: Path) -> None:
    result = _run(*words, "--runs", str(runs))
    assert result.exit_code == 1 and message in result.output and result.output.count("\n") == 1


def test_a_campaign_with_the_finetuner_asks_for_its_rollouts_before_it_begins(runs: Path, tmp_path: Path) -> None:
    words = ["--fault", "planner_kill", "--fault", "finetuner_out_of_memory", "--source-dir", str(tmp_path / "none")]
    result = _run(*words, "--runs", str(runs))
    assert result.exit_code == 1 and "the finetuner cannot run" in result.output
    assert not (runs / "logs").exists()


def test_an_unknown_fault_is_a_mistake_in_the_call(runs: Path) -> None:
    result = _run("--fault", "planner_tired", "--runs", str(runs))
    assert result.exit_code == 2 and "no fault 'planner_tired'; there are planner_kill" in result.output


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000])
def test_a_campaign_that_is_none_is_refused_by_name(content: str, runs: Path) -> None:
    (runs / "campaign.json").write_text(content)
    result = _run("--fault", "planner_kill", "--episodes", "0", "--runs", str(runs))
    assert result.exit_code == 1 and str(runs / "campaign.json") in result.output and result.output.count("\n") == 1


def test_a_call_that_measured_nothing_is_not_in_the_way_of_the_next(runs: Path, tmp_path: Path) -> None:
    fresh = str(tmp_path / "fresh")
    Campaign(Settings(speed_mps=8.0), "right_turn_moderate", 0, Path(fresh), tmp_path, Console())
    result = _run("--fault", "planner_kill", "--task", "fly", "--runs", str(tmp_path / "none"))
    assert result.exit_code == 1 and not (tmp_path / "none").exists()
    (tmp_path / "fresh" / "campaign.json").write_text("")
    Campaign(Settings(), "right_turn_moderate", 0, Path(fresh), tmp_path, Console())
    assert json.loads((tmp_path / "fresh" / "campaign.json").read_text())["settings"] == asdict(Settings())


def test_a_seed_that_was_driven_in_two_blocks_counts_once(runs: Path, tmp_path: Path) -> None:
    for first, count in ((5000, 5), (5000, 10), (5010, 10)):
        block = {"episodes": count, "needless": 1, "stops": {"input_stale": 1}, "responses": {}}
        (runs / f"normal-right_turn_moderate-{first}-{count}.json").write_text(json.dumps(block))
    json_file = tmp_path / "faults.json"
    result = _run("--fault", "planner_kill", "--episodes", "20", "--runs", str(runs), "--json", str(json_file))
    assert result.exit_code == 0, result.output
    normal = json.loads(json_file.read_text())["normal"]
    assert (normal["episodes"], normal["needless"], normal["stops"]) == (20, 2, {"input_stale": 2})


def test_normal_episodes_of_a_task_file_are_kept_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tmp_path / "mine[1].yaml"
    shutil.copy(TASKS_DIR / "right_turn_moderate.yaml", task)
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import sys, pathlib\n"
        'text = \'{"episodes": 3, "needless": 0, "stops": {}, "responses": {}}\'\n'
        "pathlib.Path(sys.argv[-1]).write_text(text)\n"
    )
    start = Children.start
    monkeypatch.setattr(
        Children,
        "start",
        lambda self, name, words, env: start(self, name, [sys.executable, str(driver), words[-1]], env),
    )
    campaign = Campaign(Settings(), str(task), 5000, tmp_path / "runs", tmp_path, Console())
    campaign.run([], 3)
    normal = campaign.normal()
    assert campaign.failed == [] and normal is not None and normal["episodes"] == 3
    assert (tmp_path / "runs" / "normal-mine[1]-5000-3.json").is_file()
