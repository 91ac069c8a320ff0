"""Benchmarks run and record where their figures come from; no figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from adawm_planner.cli.benchmark import BENCHMARKS
from adawm_planner.cli.main import adawm
from adawm_planner.paths import default_model_dir, share_dir
from adawm_planner.runtime.stages import GATE_STAGES, PLANNER_STAGES
from tests.patience import HANG_S


def _run(tmp_path: Path, *words: str) -> dict[str, object]:
    file = tmp_path / "result.json"
    result = CliRunner().invoke(adawm, ["--debug", "benchmark", *words, "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(file.read_text())
    assert document["schema"] == "adawm.benchmark/1" and document["benchmark"] == words[0]
    assert document["machine"]["cores"] == os.cpu_count()  # type: ignore[index]
    return document


def test_throughput_compares_at_the_same_step_and_decision_period(tmp_path: Path) -> None:
    for module in ("highway_env", "libsumo"):
        pytest.importorskip(module)
    document = _run(tmp_path, "throughput", "--blocks", "1", "--seconds", "0.2")
    assert (document["step_s"], document["decision_s"]) == (0.05, 0.2)
    ours, peer = document["ours"], document["peer"]
    assert peer["name"] == "intersection-v1"  # type: ignore[index]
    assert document["ratio"] == pytest.approx(ours["decisions_per_s"] / peer["decisions_per_s"])  # type: ignore[index]
    assert ours["mean_vehicles"] > 1 and peer["mean_vehicles"] > 1  # type: ignore[index]


def test_throughput_refuses_an_unknown_task_by_name() -> None:
    result = CliRunner().invoke(adawm, ["benchmark", "throughput", "--task", "nope"])
    assert result.exit_code == 2 and "'nope' is not one of 'right_turn_moderate'" in result.output


@pytest.mark.ros
@pytest.mark.slow
def test_latency_answers_every_frame_and_gives_ratios(tmp_path: Path) -> None:
    for module in ("rclpy", "adawm_msgs", "libsumo", "onnxruntime"):
        pytest.importorskip(module)
    if not (default_model_dir() / "planner.onnx").is_file():
        pytest.skip("models/base holds no model")
    file = tmp_path / "result.json"
    # A process of its own, because it opens ROS's one default context.
    words = [
        sys.executable,
        "-m",
        "adawm_planner.cli.main",
        "benchmark",
        "latency",
        "--gate",
        "--realtime",
        "--frames",
        "12",
        "--json",
        str(file),
    ]
    done = subprocess.run(words, cwd=share_dir(), capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert (document["frames"], document["lost"]) == (12, 0)
    for name in ("p50", "p99", "max"):
        expected = document["planner_ms"][name] / document["echo_ms"][name]
        assert document["ratio"][name] == pytest.approx(expected)
    for node, stages in (("planner", PLANNER_STAGES), ("gate", GATE_STAGES)):
        counts = {stage: found["count"] for stage, found in document["stages_ms"][node].items()}
        assert set(counts) == set(stages) and counts["receive"] >= 12, "each frame, and those of up to a second around"
        assert abs(counts["publish"] - counts["receive"]) <= 1, "one may wait for its proposal"
        assert all(0.0 < found["p50"] <= found["max"] for found in document["stages_ms"][node].values())
    mean = document["mean_ms"]
    assert sum(mean.values()) == pytest.approx(2.0 * mean["round trip"])
    assert set(document["period"]) == {"planner", "frames_to_planner", "echo", "frames_to_echo"}


@pytest.mark.ros
@pytest.mark.slow
def test_experience_gives_what_each_step_took_and_loses_nothing(tmp_path: Path) -> None:
    for module in ("rclpy", "adawm_msgs", "libsumo", "onnxruntime"):
        pytest.importorskip(module)
    if not (default_model_dir() / "planner.onnx").is_file():
        pytest.skip("models/base holds no model")
    file = tmp_path / "result.json"
    words = [sys.executable, "-m", "adawm_planner.cli.main", "benchmark", "experience", "--messages", "20"]
    done = subprocess.run(
        [*words, "--json", str(file)], cwd=share_dir(), capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert (document["messages"], document["received"]) == (20, 20)
    assert 0.0 < document["build_ms"]["p50"] <= document["both_ms"]["p50"]


def test_help_names_every_benchmark_of_the_folder() -> None:
    listed = CliRunner().invoke(adawm, ["benchmark", "--help"]).output
    for name in BENCHMARKS:
        assert name in listed and (share_dir() / "benchmarks" / f"{name}.py").is_file()


def test_an_installation_without_the_folder_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("adawm_planner.cli.benchmark.share_dir", lambda: tmp_path)
    result = CliRunner().invoke(adawm, ["benchmark", "latency"])
    assert result.exit_code == 1 and "source checkout" in result.output
