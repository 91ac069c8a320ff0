"""`make drive`: what it calls, and which variables exclude each other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GIVEN = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "TASK", "EPISODES", "SEED", "ARGS", "SHIFT")
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry_run(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "-n", "drive", *words]
    # What `make test ARGS=...` was called with is none of this call's.
    own = {name: value for name, value in os.environ.items() if name not in GIVEN}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("other", ["TASK=left_turn_dense", "EPISODES=3", "SEED=1", "ARGS=--no-gate"])
def test_a_shift_is_not_dropped_where_only_episodes_are_driven(other: str) -> None:
    done = dry_run("SHIFT=right_turn_moderate:worn_brakes", other)
    assert done.returncode != 0 and "adawm" not in done.stdout
    assert "SHIFT is of the story" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ((), "adawm story "),
        (("SHIFT=my task.yaml:worn_brakes",), 'adawm story --shift "my task.yaml:worn_brakes"'),
        (("TASK=my task.yaml",), 'adawm drive --task "my task.yaml"'),
        (("EPISODES=3", "ARGS=--vehicle heavy"), 'adawm drive  --episodes "3"'),
    ],
)
def test_a_name_with_a_space_stays_one_word(words: tuple[str, ...], called: str) -> None:
    done = dry_run(*words)
    assert done.returncode == 0 and called in done.stdout, done.stdout + done.stderr
