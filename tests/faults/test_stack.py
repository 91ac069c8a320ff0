"""A few faults in the real stack, by the campaign's own command: planner and gate as processes, real time, DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from adawm_planner.config.adaptation import load_adaptation
from adawm_planner.config.finetuning import TRAINING_PACKAGES
from adawm_planner.faults.table import PLANNER_LIMIT_S
from adawm_planner.paths import default_model_dir, share_dir
from adawm_planner.runtime.model_files import digest
from tests.patience import HANG_S

pytestmark = [pytest.mark.ros, pytest.mark.slow]
for _module in ("rclpy", "adawm_msgs", "libsumo", "onnxruntime"):
    pytest.importorskip(_module)

if not (default_model_dir() / "planner.onnx").is_file():
    pytest.skip("models/base holds no model", allow_module_level=True)

COMMAND = [sys.executable, "-m", "adawm_planner.cli.main", "faults", "--episodes", "0", "--speed", "4"]


def _faults(*names: str) -> list[str]:
    return [word for name in names for word in ("--fault", name)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Outcomes of one campaign."""
    folder = tmp_path_factory.mktemp("faults")
    measured = ("planner_kill", "odometry_kill", "waypoints_nan", "objects_duplicate")
    names = _faults(*measured, "proposal_nan", "manual_override_on", "everything_paused")
    words = [*COMMAND, *names, "--runs", str(folder / "runs"), "--json", str(folder / "faults.json")]
    done = subprocess.run(words, cwd=share_dir(), capture_output=True, text=True, timeout=400, check=False)
    assert "Traceback" not in done.stderr and "could not be measured" not in done.stdout + done.stderr, done.stderr
    document = json.loads((folder / "faults.json").read_text())
    assert document["schema"] == "adawm.benchmark/1" and document["settings"]["speed_mps"] == 4.0
    return {row["fault"]: row for row in document["rows"]}


def test_a_killed_planner_is_stopped_for_and_its_silence_is_the_reason(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["planner_kill"]
    assert row["broken"] == "" and row["braked_frames"] <= PLANNER_LIMIT_S / 0.05
    assert row["rule"] in ("proposal_missing", "proposal_repeated")
    assert row["last_state"] == "hold"


def test_a_topic_that_is_gone_ends_in_an_emergency_stop(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["odometry_kill"]
    assert row["broken"] == "" and row["rule"] == "input_stale"
    assert "odometry" in row["reason"] and "limit" in row["reason"]
    assert row["last_state"] == "emergency_stop"  # the gate cannot know that the vehicle stands


def test_a_route_that_cannot_be_is_a_stop_that_is_not_taken_back(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["waypoints_nan"]
    # The gate hears nothing else while it unpacks 1,001 points: a busy machine may call its inputs stale first.
    assert row["broken"] == "" and row["rule"] in ("route_missing", "proposal_missing", "input_stale")
    assert row["last_state"] == "hold"


def test_messages_that_come_twice_stop_nobody(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["objects_duplicate"]["state"] in ("passing", "responding")


def test_a_proposal_without_a_number_is_stopped_for(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["proposal_nan"]
    assert row["last_state"] == "hold" and row["rule"] in ("proposal_not_finite", "proposal_missing")


def test_a_person_who_takes_over_is_left_alone(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["manual_override_on"]
    assert row["last_state"] == "overridden" and row["standstill_s"] is None


def test_a_vehicle_whose_inputs_end_is_stopped_whoever_says_that_the_world_is_paused(
    rows: dict[str, dict[str, Any]],
) -> None:
    row = rows["everything_paused"]
    assert row["last_state"] == "emergency_stop" and row["rule"] == "input_stale"


def test_a_finetuner_that_is_killed_stops_nobody(tmp_path: Path) -> None:
    for module in TRAINING_PACKAGES:
        pytest.importorskip(module)
    from adawm_planner.adaptation.source_file import source_file
    from adawm_planner.pretraining.dataset import save_chunk
    from tests.adaptation.conftest import random_episodes

    source = source_file(digest(default_model_dir()), load_adaptation(), tmp_path)
    save_chunk(source, random_episodes(5, seed=1), {"outcomes": ["success"] * 5})
    words = [*COMMAND, *_faults("finetuner_out_of_memory"), "--runs", str(tmp_path / "runs")]
    words += ["--source-dir", os.path.relpath(tmp_path, share_dir()), "--json", str(tmp_path / "faults.json")]
    done = subprocess.run(words, cwd=share_dir(), capture_output=True, text=True, timeout=200, check=False)
    assert "could not be measured" not in done.stdout + done.stderr, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert row["state"] in ("passing", "responding")


def test_ctrl_c_ends_every_process_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = [*COMMAND, *_faults("planner_kill"), "--runs", str(tmp_path)]
    with subprocess.Popen(words, cwd=share_dir(), env=os.environ, stdout=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + HANG_S
        while len(nodes := psutil.Process(run.pid).children(recursive=True)) < 3:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=HANG_S)
    assert run.returncode == 128 + signal.SIGINT and "call this again to go on" in out
    assert not psutil.wait_procs(nodes, timeout=HANG_S)[1]
    assert not list(tmp_path.glob("planner_kill.*"))
