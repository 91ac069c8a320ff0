"""`adawm benchmark kills`: what a kill must not do is seen, and two kills of a real finetuner."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context
from adawm_planner.finetuning.memory import Known, Made
from benchmarks.kills import Disk, look
from tests.adaptation.conftest import random_episodes
from tests.finetuning.workplace import Workplace, fill, make_workplace

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 300.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("kills"))


def looked(place: Workplace, before: Disk) -> Disk:
    context = Context(read_base_model(place.model_dir), read_trust([place.key.with_suffix(".pub")]))
    return look(place.state_dir, context, before)


def test_what_is_lost_or_damaged_is_a_problem(place: Workplace) -> None:
    nothing = Disk(known=Known(place.base))
    assert looked(place, nothing) == nothing
    fill(place, random_episodes(10, 0))
    whole = looked(place, nothing)
    assert whole.decisions > 20 and whole.problems == () and whole.quarantined == 0
    assert looked(place, replace(whole, decisions=whole.decisions + 5)).problems == (
        "the replay lost 5 decisions that it had",
    )
    further = Known(place.base, round=3, made=(Made("a" * 64, "dynamics", 1),))
    (problem,) = looked(place, replace(whole, known=further)).problems
    assert problem == "rounds went back from 3 to 0, or bundles were forgotten"
    chunk = sorted((place.state_dir / "replay").glob("*.npz"))[0]
    chunk.write_bytes(chunk.read_bytes()[:-9])
    torn = looked(place, whole)
    assert torn.quarantined == 1 and torn.decisions < whole.decisions and "lost" in torn.problems[0]
    (place.state_dir / "state.json").write_text("{")
    (problem,) = looked(place, nothing).problems
    assert problem.startswith("the memory cannot be read") and "state.json" in problem


@pytest.mark.ros
@pytest.mark.slow
def test_two_kills_beside_a_driving_planner(tmp_path: Path) -> None:
    for needed in ("rclpy", "adawm_msgs", "peft", "libsumo", "psutil"):
        pytest.importorskip(needed)
    place = make_workplace(tmp_path)
    home, file, params = place.model_dir.parent, tmp_path / "kills.json", tmp_path / "finetuner.yaml"
    values = {"config_file": str(home / "learning.yaml"), "round_decisions": 100, "chunk_decisions": 20, "nice": 0}
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    words = ["--kills", "2", "--longest", "6", "--preset", "debug", "--run", str(tmp_path / "killed")]
    words += ["--model-dir", str(place.model_dir), "--source-dir", str(home)]
    words += ["--finetuner-params", str(params), "--json", str(file)]
    command = [sys.executable, "-m", "adawm_planner.cli.main", "benchmark", "kills", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    assert document["kills"] == 2 and document["problems"] == [] and "2 kills" in done.stdout
    assert [0.0 <= life["lived_s"] <= 6.0 for life in document["lives"]] == [True, True]
    assert document["lives"][0]["frames"] < document["lives"][1]["frames"] < document["planner"]["frames"]
    assert sum(document["finetuning"]["rounds"].values()) > 0, "it goes on after the last one"
