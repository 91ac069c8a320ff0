"""`adawm drive`: the real stack, every process over DDS, ended in every way a run can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from adawm_planner.evaluation.compare import compare
from adawm_planner.evaluation.report import read_json
from adawm_planner.origin import checkout
from adawm_planner.paths import default_model_dir
from adawm_planner.ros.node_table import GUARDS, STACKS
from tests.patience import HANG_S

pytestmark = [pytest.mark.ros, pytest.mark.slow]
for _module in ("rclpy", "adawm_msgs", "libsumo", "onnxruntime"):
    pytest.importorskip(_module)
if not (default_model_dir() / "planner.onnx").is_file():
    pytest.skip("models/base holds no model", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
TASK = ["--task", "right_turn_moderate", "--seed", "5000"]
NODES = [node.name for node in (*STACKS["sim"], *GUARDS)]
REPORTED = 3
"""Episodes after which the planner, which reports every second, has been heard."""


@contextmanager
def _drive(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A run of the command in a session of its own, as from a terminal."""
    plain = ["drive", *TASK, "--no-finetuner", "--log-dir", str(tmp_path)]
    command = [sys.executable, "-u", "-m", "adawm_planner.cli.main", *plain, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as run:
        try:
            yield run
        finally:
            run.kill()


def _children(run: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """The run's nodes by name."""
    found = {}
    for child in psutil.Process(run.pid).children(recursive=True):
        line = " ".join(child.cmdline())
        found.update({name: child for name in NODES if f"__node:={name}" in line})
    return found


def _until(condition: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def _episodes(run: subprocess.Popen[str], count: int = 1) -> dict[str, psutil.Process]:
    """Wait until so many are finished; returns the running nodes."""
    assert run.stdout is not None
    line = next(line for line in run.stdout if f"seed {5000 + count - 1}" in line)
    assert "route" in line
    return _children(run)


def _gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=HANG_S)[1]


def test_drive_gives_the_same_outcomes_as_evaluate_and_every_frame_a_command(tmp_path: Path) -> None:
    driven, evaluated = tmp_path / "drive.json", tmp_path / "evaluate.json"
    with _drive(tmp_path, "--episodes", "3", "--json", str(driven)) as run:
        _until(lambda: len(_children(run)) == len(NODES), run)
        nodes = _children(run)
        out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    assert out.count("seed 500") == 3 and "closed-loop evaluation" in out
    assert _gone(list(nodes.values()))
    document = read_json(driven)[0]
    assert [episode["seed"] for episode in document["detail"]] == [5000, 5001, 5002]
    assert document["command"][:2] == ["adawm", "drive"] and str(driven) not in document["command"]
    assert document["commit"] == checkout()["commit"] and document["machine"]["cores"]
    assert document["ros"]["frames_without_command"] == 0  # missed_ticks counts wall time, which a busy machine lacks
    assert document["ros"]["commands"] >= sum(episode["frames"] for episode in document["detail"])
    words = ["evaluate", *TASK, "--gate", "--episodes", "3", "--json", str(evaluated)]
    assert CliRunner().invoke(adawm, words).exit_code == 0
    assert compare(document, read_json(evaluated)[0]).agreement == 1.0


@pytest.mark.parametrize("victim", NODES)
def test_death_of_a_node_ends_the_run_and_says_which_and_why(victim: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    with _drive(tmp_path, "--episodes", "1000", "--json", str(result)) as run:
        nodes = _episodes(run, REPORTED)
        nodes[victim].kill()
        _, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 1
    assert f"{victim} was ended by SIGKILL" in err
    assert f"{victim}.log" in err and "Traceback" not in err
    assert read_json(result)[0]["ros"]["frames"] > 0
    assert _gone(list(nodes.values()))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_reports_what_was_driven_and_leaves_no_process(signum: signal.Signals, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    with _drive(tmp_path, "--episodes", "1000", "--json", str(result)) as run:
        nodes = _episodes(run, REPORTED)
        os.killpg(run.pid, signum)
        out, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 128 + signum
    assert f"interrupted by {signum.name}" in out and "Traceback" not in err
    assert _gone(list(nodes.values()))
    document = read_json(result)[0]
    assert 0 < document["episodes"] < 1000
    assert document["ros"]["frames"] > 0 and document["ros"]["missed_ticks"] >= 0 and document["model_digest"]


def test_killed_command_leaves_no_process(tmp_path: Path) -> None:
    with _drive(tmp_path, "--episodes", "1000") as run:
        nodes = _episodes(run)
        run.kill()
        run.wait()
        assert _gone(list(nodes.values()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "fly_to_moon"], "fly_to_moon"),
        (["--vehicle", "tank"], "tank"),
        (["--model-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_one_line_before_anything_starts(words: list[str], message: str) -> None:
    result = CliRunner().invoke(adawm, ["drive", *words])
    assert result.exit_code != 0
    assert message in result.output and "logs in" not in result.output
