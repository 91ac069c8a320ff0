"""Which commit and machine a result names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adawm_planner import origin
from adawm_planner.origin import Start, checkout
from adawm_planner.pretraining.pipeline import repository_commit
from benchmarks.record import COMMAND, with_origin


def test_a_result_names_load_and_commit_of_its_command_s_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (64.0, 64.0, 64.0))  # the benchmark's own, by its end
    monkeypatch.setattr(origin, "git", lambda folder, *words: "a commit that was made meanwhile")
    document = with_origin("any", {"rows": []}, ())
    assert document["commit"] == COMMAND.checkout["commit"] and document["machine"]["load_before"] == COMMAND.load
    one_of_many = with_origin("any", {"rows": []}, (), Start.now())
    assert one_of_many["commit"] == "a commit that was made meanwhile" and one_of_many["machine"]["load_before"] == 64.0


def test_where_there_is_no_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout() == {"commit": None, "clean_checkout": False}
    assert repository_commit() == "unknown"


def test_an_installed_copy_has_no_commit_whatever_repository_is_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "git", lambda folder, *words: "somebody else's")
    assert checkout() == {"commit": None, "clean_checkout": False}
