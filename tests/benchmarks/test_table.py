"""Whose commit a run of the table is: the one it was driven with, not the one at which it was collected."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("torch")

from adawm_planner.adaptation.harness import Cell
from adawm_planner.config.adaptation import load_adaptation
from benchmarks import table
from benchmarks.table import UNKNOWN, Wanted, Where, finish, finished, start

CELL = Cell("right_turn_dense", "nominal", "none", 0)
OLD, NEW = ({"commit": commit, "clean_checkout": True} for commit in ("old", "new"))


class Done:
    """A process that ended well."""

    returncode = 0


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setattr(table, "subprocess", SimpleNamespace(Popen=lambda *_, **__: Done(), STDOUT=None))
    return Where(tmp_path / "runs", tmp_path / "results")


def started(where: Where, monkeypatch: pytest.MonkeyPatch, now: dict[str, Any]) -> None:
    monkeypatch.setattr(table, "checkout", lambda: now)
    start(CELL, where, [])
    (where.runs / CELL.name).mkdir(exist_ok=True)


def ended(where: Where) -> dict[str, Any]:
    scored = {"success_rate": 0.5, "detail": []}
    document = {"schema": "adawm.adaptation/1", "before": scored, "after": scored, "source_after": scored}
    where.driven(CELL).write_text(json.dumps(document))
    process: Any = Done()
    assert finish(process, CELL, where, Console(quiet=True)) == []
    result: dict[str, Any] = json.loads(where.result(CELL).read_text())
    return result


def test_a_result_is_of_the_commit_that_drove_it(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    started(where, monkeypatch, OLD)
    result = ended(where)
    assert {key: result[key] for key in OLD} == OLD and "went_on_at" not in result
    where.result(CELL).unlink()
    started(where, monkeypatch, NEW)  # only collects what was driven
    result = ended(where)
    assert {key: result[key] for key in OLD} == OLD and "went_on_at" not in result


def test_a_run_that_went_on_with_another_commit_says_so(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (OLD, NEW, NEW, OLD):
        started(where, monkeypatch, now)
    result = ended(where)
    assert {key: result[key] for key in OLD} == OLD and result["went_on_at"] == [NEW]


def test_of_a_run_that_was_begun_without_noting_it_the_first_commit_is_not_known(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    (where.runs / CELL.name).mkdir(parents=True)
    started(where, monkeypatch, NEW)
    result = ended(where)
    assert {key: result[key] for key in UNKNOWN} == UNKNOWN and result["went_on_at"] == [NEW]


@pytest.mark.parametrize(
    ("field", "value"),
    [("task", "elsewhere/right_turn_dense.yaml"), ("vehicle", "mine/nominal.yaml"), ("strategy", "model"), ("seed", 1)],
)
def test_another_cells_result_is_not_taken_for_this_ones(where: Where, field: str, value: str | int) -> None:
    wanted, path = Wanted("digest", load_adaptation(preset="debug")), where.result(CELL)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**asdict(CELL), **wanted.settings(CELL.task, CELL.vehicle)}))
    assert finished([CELL], where, wanted) == {CELL}
    of = {**asdict(CELL), field: value}
    path.write_text(json.dumps({**of, **wanted.settings(str(of["task"]), str(of["vehicle"]))}))
    with pytest.raises(ValueError, match=f"of another run, its {field} is {value} and not") as refused:
        finished([CELL], where, wanted)
    assert str(path) in str(refused.value) and "--results or remove it" in str(refused.value)


@pytest.mark.parametrize("shift", ["foo", "a:b", "right_turn_dense:tank"])
def test_a_shift_is_judged_before_the_baseline_is_read(shift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "baseline_of", lambda *_: pytest.fail("read"))
    result = CliRunner().invoke(table.table, ["--shift", shift])
    assert result.exit_code == 2 and "Invalid value for '--shift': " in result.output
