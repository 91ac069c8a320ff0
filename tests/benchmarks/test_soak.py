"""What a soak counts, how it ends, and a few seconds of a real one with a small random model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.patience import HANG_S

pytest.importorskip("libsumo")
pytest.importorskip("psutil")
pytest.importorskip("scipy")

from adawm_planner.cli.main import adawm
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.paths import install_extra
from adawm_planner.processes import ChildDied, Interrupted
from adawm_planner.story.events import Driving, Drove, Event, Measured, Moved, Offered, Operated, Refused
from benchmarks import soak
from benchmarks.page import SECTIONS, SOAK, read
from benchmarks.page_sections import soak as shown
from benchmarks.process_use import ProcessWatch
from benchmarks.soak import OVER, Account

ROOT = Path(__file__).resolve().parents[2]


def drove(outcome: Outcome) -> Drove:
    return Drove(SimpleNamespace(outcome=outcome), (), 0)  # type: ignore[arg-type]


def test_everything_that_happens_is_counted() -> None:
    account = Account()
    events: list[Event] = [
        *(drove(outcome) for outcome in (Outcome.SUCCESS, Outcome.COLLISION, Outcome.SUCCESS)),
        *(Measured(k, 1.0, 0.1, 0.0, 0.1, part, "", "") for k, part in enumerate(("nothing", "dynamics", "nothing"))),
        Offered("dynamics-1", "dynamics", "abc", 1000),
        Moved("dynamics", "abc", "shadow", ()),
        Moved("dynamics", "abc", "committed", ()),
        Driving(("dynamics-1",), 1),
        Driving((), 2),
        Refused(1, "expired: it is"),
        Refused(2, "pinned: it is"),
        Operated("pin_adapter", "", True, ""),
    ]
    for event in events:
        account.take(event)
    found = account.figures()
    assert found["episodes"] == {
        "count": 3,
        "outcomes": {"success": 2, "collision": 1},
        "success_rate": 2 / 3,
        "success_ci95": list(wilson_interval(2, 3)),
    }
    assert found["finetuning"] == {
        "rounds": {"nothing": 2, "dynamics": 1},
        "offered": 1,
        "came_to": {"shadow": 1, "committed": 1},
        "swaps": 2,
        "refusals": 2,
        "last_refusal": "pinned: it is",
    }


def test_nothing_counted_has_no_rate() -> None:
    assert Account().figures()["episodes"] == {"count": 0, "outcomes": {}, "success_rate": None, "success_ci95": None}


class ShortRun(soak.Run):
    """A run of 100 s in which nothing is started."""

    error: Exception | None = None
    began = True

    def drive(self, children: Any) -> None:
        """Pretend."""
        self._heard = {
            "planner": {"frames": 2000, "commands": 2000, "missed_ticks": 0},
            "model_digest": "abc",
            "frames_without_command": 0,
            "stages_ms": {},
            "finetuner_ended": None,
            "worker_deaths": 0,
            "gate": {"commands_in": 9, "commands_out": 9, "limited": 0, "stops": 0},
        }
        if self.began:
            self.watch, self.ran_s = ProcessWatch({"test": 0}), 100.0
        if self.error is not None:
            raise self.error


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Source rollouts, and runs that are over at once."""
    monkeypatch.setattr(soak, "Run", ShortRun)
    monkeypatch.setattr(soak, "require_ros", lambda: None)
    (tmp_path / "source-1.npz").touch()
    return tmp_path


def called(place: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        adawm, ["benchmark", "soak", "--run", str(place / "run"), "--source-dir", str(place), *words]
    )
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("error", "code", "ended"),
    [
        (None, 0, OVER),
        (Interrupted(2), 130, "interrupted by SIGINT"),
        (Interrupted(15), 143, "interrupted by SIGTERM"),
        (
            ChildDied("adawm_gate was ended by SIGKILL; the end of gate.log:\n  | its last words"),
            1,
            "adawm_gate was ended",
        ),
    ],
)
def test_however_it_ends_there_is_a_result_that_says_how_long_it_ran(
    error: Exception | None, code: int, ended: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShortRun, "error", error)
    file = place / "asked.json"
    found, told = called(place, "--minutes", "60", "--json", str(file))
    assert found == code, told
    document = json.loads(file.read_text())
    assert document == json.loads((place / "run" / "soak.json").read_text())
    assert (document["benchmark"], document["minutes"], document["ran_s"]) == ("soak", 60.0, 100.0)
    assert document["ended"].startswith(ended) and "\n" not in document["ended"]
    assert document["real_time_factor"] == 1.0
    assert code == 0 or ended in told


def test_what_ended_before_it_began_writes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShortRun, "error", Interrupted(2))
    monkeypatch.setattr(ShortRun, "began", False)
    found, told = called(place)
    assert found == 130 and "nothing to write" in told and not (place / "run" / "soak.json").exists()


def test_what_the_nodes_were_told_is_kept(place: Path) -> None:
    file = place / "finetuner.yaml"
    file.write_text("/**:\n  ros__parameters:\n    round_decisions: 200\n")
    found, told = called(place, "--finetuner-params", str(file))
    assert found == 0, told
    document = json.loads((place / "run" / "soak.json").read_text())
    assert document["parameters"] == {"adawm_finetuner": file.read_text()}


def test_a_run_goes_on_from_a_copy_of_an_earlier_one(place: Path) -> None:
    assert called(place)[0] == 0
    (place / "run" / "state" / "replay").mkdir()
    (place / "run" / "state" / "replay" / "chunk").write_text("driven")
    later, file = place / "later", place / "later.json"
    found, told = called(place, "--run", str(later), "--after", str(place / "run"), "--json", str(file))
    assert found == 0, told
    assert (later / "state" / "replay" / "chunk").read_text() == "driven"
    before, document = json.loads((place / "run" / "soak.json").read_text()), json.loads(file.read_text())
    assert before["after"] is None
    assert document["after"] == {name: before[name] for name in document["after"]} and "finetuning" in document["after"]
    assert "of an earlier run of 1.7 minutes of" in shown(document)[0]
    found, told = called(place, "--run", str(place / "third"), "--after", str(place))
    assert found == 1 and "soak.json is not the result of a soak" in told and not (place / "third").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "fly_to_moon"), "fly_to_moon"),
        (("--vehicle", "tank"), "tank"),
        (("--minutes", "0"), "--minutes"),
        (("--finetuner-params", "nowhere.yaml"), "nowhere.yaml"),
        (("--source-dir", "nowhere"), "no source rollouts in nowhere (`adawm baseline --rollouts-only` drives them)"),
    ],
)
def test_mistakes_are_one_line_before_anything_starts(words: tuple[str, ...], message: str, place: Path) -> None:
    found, told = called(place, *words)
    assert found != 0 and message in told and "Traceback" not in told
    assert not (place / "run").exists()


def test_runs_are_not_mixed_and_a_missing_package_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "run").mkdir()
    (place / "run" / "note").touch()
    assert "is not empty" in called(place)[1]
    monkeypatch.setattr(soak, "find_spec", lambda name: None)
    assert f"'psutil' is missing: {install_extra('dev')}" in called(place)[1]


def test_the_two_hours_in_the_docs_are_the_committed_ones() -> None:
    page = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results" / "soak"
    base, first, second = (
        json.loads((results / name).read_text(encoding="utf-8"))
        for name in ("base.json", "soak.json", "soak_after.json")
    )
    assert (base["gate"], base["seed"], base["vehicle"]) == (True, second["seed"], second["vehicle"])
    assert base["episodes"] == second["episodes"]["count"] and base["adapters"] == []
    assert {name: second["after"][name] for name in ("commit", "seed", "ran_s")} == {
        name: first[name] for name in ("commit", "seed", "ran_s")
    }
    for found in (base, first["episodes"], second["episodes"]):
        count = found["count"] if "count" in found else found["episodes"]
        low, high = found["success_ci95"]
        rate = found["success_rate"]
        assert f"{round(rate * count)} of {count}, {rate:.2f} ({low:.2f}-{high:.2f})" in page


@pytest.mark.ros
@pytest.mark.slow
def test_a_few_seconds_of_a_real_one(tmp_path: Path) -> None:
    for needed in ("rclpy", "adawm_msgs", "torch", "peft"):
        pytest.importorskip(needed)
    from tests.finetuning.workplace import make_workplace

    place = make_workplace(tmp_path)
    home, file, params = place.model_dir.parent, tmp_path / "soak.json", tmp_path / "finetuner.yaml"
    values = {"preset": "debug", "config_file": str(home / "learning.yaml"), "round_decisions": 20}
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    words = [
        "--minutes",
        "0.12",
        "--warm-up",
        "0",
        "--every",
        "0.5",
        "--model-dir",
        str(place.model_dir),
        "--source-dir",
        str(home),
        "--run",
        str(tmp_path / "soaked"),
        "--finetuner-params",
        str(params),
        "--json",
        str(file),
    ]
    command = [sys.executable, "-m", "adawm_planner.cli.main", "benchmark", "soak", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    assert document["ended"] == OVER and document["ran_s"] >= 7.2
    names = {"benchmark", "adawm_planner", "sim_bridge", "adawm_gate", "adawm_finetuner", "adawm_finetuner worker"}
    assert set(document["processes"]) == names
    for name, found in document["processes"].items():
        assert found["rss_mib"]["median"] > 20.0 and found["pss_mib"] > 5.0, name
        assert 0.0 < found["cpu_percent"]["mean"] <= found["cpu_percent"]["max"], name
    assert document["planner"]["frames"] >= document["planner"]["decisions"] > 0
    assert document["gate"]["commands_out"] > 0 and document["worker_deaths"] == 0
    assert (
        document["stages_ms"]["planner"]["receive"]["count"] > 0 and document["stages_ms"]["gate"]["gate"]["count"] > 0
    )
    assert set(document["parameters"]) == {"adawm_finetuner"} and document["finetuner_ended"] is None
    (section,) = [each for each in SECTIONS if each.file == SOAK]
    result = read(file, section)
    assert result is not None and any("each a process" in line for line in shown(result))
