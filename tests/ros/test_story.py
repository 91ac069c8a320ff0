"""`adawm story`: every process real, a small random model, seconds instead of minutes; what it tells, not how well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs")
pytest.importorskip("libsumo")
pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("matplotlib")

from adawm_planner.cli import story
from adawm_planner.cli.main import adawm
from adawm_planner.origin import checkout
from adawm_planner.simulator.tasks import load_task
from tests.finetuning.workplace import Workplace, make_workplace

pytestmark = [pytest.mark.ros, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
TASK_FILE = ROOT / "adawm_planner" / "simulator" / "tasks" / "right_turn_moderate.yaml"
SHORT_S = 3.0
"""Time limit of the shifted task [s]: there the gate has its held-out episodes soon."""


def parameters(file: Path, **values: object) -> str:
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return str(file)


def learn_clearly(config_file: Path) -> None:
    """More room and updates than other tests give: each round gains so much that no chance decides on its update."""
    values = yaml.safe_load(config_file.read_text())
    debug = values["presets"]["debug"]
    debug["lora"]["rank"], debug["fit"]["updates"] = 16, 240
    config_file.write_text(yaml.safe_dump(values))


def tell(place: Workplace, folder: Path) -> tuple[dict[str, Any], str]:
    """A story in debug settings. The limits of shadow driving are off: what a random model learns is no driving."""
    home, task = place.model_dir.parent, folder / "short.yaml"
    learn_clearly(home / "learning.yaml")
    task.write_text(yaml.safe_dump({**yaml.safe_load(TASK_FILE.read_text()), "limits": {"time": SHORT_S}}))
    finetuner = parameters(
        folder / "finetuner.yaml", preset="debug", config_file=str(home / "learning.yaml"), chunk_decisions=20, nice=0
    )
    free = {"shadow_decisions": 1, "shadow_disagreement": 1.0, "shadow_variation": 1.0, "shadow_violations": 100000}
    planner = parameters(folder / "planner.yaml", **{f"adapters.{name}": value for name, value in free.items()})
    words = [
        "--preset",
        "debug",
        "--strategy",
        "model",
        "--shift",
        f"{task}:nominal",
        "--run",
        str(folder / "told"),
        "--model-dir",
        str(place.model_dir),
        "--source-dir",
        str(home),
        "--finetuner-params",
        finetuner,
        "--planner-params",
        planner,
    ]
    command = [sys.executable, "-m", "adawm_planner.cli.main", "story", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "told" / "story.json").read_text()), done.stdout


def test_a_story_goes_through_its_phases_with_one_planner_and_one_finetuner(tmp_path: Path) -> None:
    document, told = tell(make_workplace(tmp_path), tmp_path)
    assert document["command"][:2] == ["adawm", "story"] and document["commit"] == checkout()["commit"]
    assert document["machine"]["cores"] and document["packages"]["torch"]
    phases = {row["phase"]: row for row in document["phases"]}
    assert list(phases) == ["nominal", "shifted", "adapting", "rolled_back"]
    assert all(row["episodes"] for row in phases.values())
    assert phases["nominal"]["task"] == "right_turn_moderate" and phases["shifted"]["task"].endswith("short.yaml")
    seeds = [episode["seed"] for episode in document["episodes"]]
    assert seeds == list(range(5000, 5000 + len(seeds)))  # the second bridge goes on where the first ended
    # One planner through all of it: its own counters span both bridges.
    frames = sum(round(episode["duration_s"] / 0.05) for episode in document["episodes"])
    assert document["ros"]["frames"] >= frames
    assert phases["adapting"]["adapters"][0] == "dynamics-1" and phases["nominal"]["adapters"] == []
    assert phases["rolled_back"]["adapters"] == []
    assert document["adapters"][0]["name"] == "dynamics-1"
    stages = [row["stage"] for row in document["stages"]]
    assert stages.index("shadow") < stages.index("probation")
    driving = [row["adapters"] for row in document["driving"]]
    assert driving[0] == ["dynamics-1"] and driving[-1] == []
    assert [row["phase"] for row in document["rounds"]][:2] == ["nominal", "shifted"]  # measured on either side of it
    operator = [(row["service"], row["request"], row["success"]) for row in document["operator"]]
    assert operator[0][::2] == ("run_round", True) and operator[1][::2] == ("rollback_adapter", True)
    assert [row[:2] for row in operator[2:4]] == [("pin_adapter", "dynamics"), ("pin_adapter", "policy")]
    assert [row[2] for row in operator] == [True, True, True, True, False]  # the last would load what drove before
    assert operator[4][0] == "load_adapter" and document["operator"][4]["message"].startswith("pinned:")
    last = [row["text"] for row in document["refusals"] if row["phase"] == "rolled_back"]
    assert any(text.startswith("pinned:") for text in last), last
    assert not document["recovered"] and "has not recovered" in told
    assert (tmp_path / "told" / "story.png").stat().st_size > 10_000
    assert (tmp_path / "told" / "state" / "keys" / "finetuner.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shift", "right_turn_moderate"], "is not TASK:VEHICLE"),
        (["--shift", "right_turn_moderate:nominal"], "is what the story begins with"),
        (["--shift", "fly_to_moon:nominal"], "fly_to_moon"),
        (["--shift", "right_turn_moderate:tank"], "tank"),
        (["--preset", "long"], "no preset 'long'"),
    ],
)
def test_mistakes_are_one_line_before_anything_starts(words: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(adawm, ["story", *words, "--run", str(tmp_path / "run")])
    assert result.exit_code != 0 and message in result.output
    assert not (tmp_path / "run").exists()


def test_stories_are_not_mixed_and_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "note").touch()
    result = CliRunner().invoke(adawm, ["story", "--run", str(tmp_path)])
    assert result.exit_code == 1 and "is not empty" in result.output
    monkeypatch.setattr(story, "find_spec", lambda name: None if name == "torch" else object())
    result = CliRunner().invoke(adawm, ["story", "--run", str(tmp_path / "new")])
    assert result.exit_code == 1 and "torch not installed" in result.output and not (tmp_path / "new").exists()


def test_a_vehicle_of_another_size_is_refused(tmp_path: Path) -> None:
    longer = tmp_path / "longer.yaml"
    longer.write_text("name: longer\ndescription: A bus.\nlength: 12.0\n")
    result = CliRunner().invoke(adawm, ["story", "--shift", f"right_turn_moderate:{longer}"])
    assert result.exit_code != 0 and "length 12.0 m" in " ".join(result.output.split())
    assert load_task("right_turn_moderate").limits.time > SHORT_S
