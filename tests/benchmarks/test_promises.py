"""The table of promises: every test and figure that it names is there, and the page is what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import page, promises
from benchmarks.promises import PROMISES, Figure, Promise, Sense, State, functions, markdown

ROOT = Path(__file__).resolve().parents[2]
ROWS = range(1, 24)
UNMEASURED = {17, 18}
COMMANDS = ("adawm ", "make ", "ADAWM_")


def test_every_row_is_there_once_and_names_what_proves_it() -> None:
    assert [row.number for row in PROMISES] == list(ROWS)
    assert {row.number for row in PROMISES if row.state is State.NOT_MEASURED} == UNMEASURED
    for row in PROMISES:
        assert row.lacking if row.number in UNMEASURED else row.tests, row.number
        assert all(command.startswith(COMMANDS) for command in row.commands), row.commands


@pytest.mark.parametrize("node", sorted({test for row in PROMISES for test in row.tests}))
def test_every_test_that_is_named_exists(node: str) -> None:
    file, name = node.split("::")
    assert name in functions(file)


def test_every_figure_whose_file_is_there_is_in_it() -> None:
    known = [each for row in PROMISES for each in row.figures if each.known]
    assert len(known) > 20 and all(each.value() == each.value() for each in known)


def test_the_page_is_what_is_printed() -> None:
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == markdown()


SAME = {
    "inference: mean, maximum": (2, "mean inference", "longest inference"),
    "period of the commands in real time: mean, RSD, largest gap": (1, "error of the mean period", "RSD"),
    "finetuner at full load: p99.9 over that without": (20, "p99.9 with, over without"),
    "the same, over that with a core that counts": (20, "the same, over a core that only counts"),
    "swap of adapters: longest flip, mixed decisions": (12, "longest flip"),
    "swaps beside a busy process: missed ticks": (12, "missed ticks beside a busy process"),
    "all those swaps: growth of memory in %": (21, "planner's memory grew over all swaps"),
    "an hour with the sidecar: growth of the planner's memory in % per hour": (21, "planner's memory grew in an hour"),
    "the hour after it with the sidecar: growth of the planner's memory in % per hour": (
        21,
        "planner's memory grew in the hour after it",
    ),
}
"""Promise of docs/performance.md -> row and figures of this page that are the same measurement."""


@pytest.mark.parametrize("text", SAME)
def test_a_measurement_has_one_verdict_on_both_pages(text: str) -> None:
    (there,) = [each for each in page.PROMISES if each.text == text]
    number, *names = SAME[text]
    (row,) = [each for each in PROMISES if each.number == number]
    figures = [each for each in row.figures if each.what in names]
    assert len(figures) == len(names)
    kept = [each.kept() for each in figures]
    document = json.loads((page.RESULTS / there.file).read_text(encoding="utf-8"))
    assert there.judge(document)[1] is (False if False in kept else None if None in kept else True)


def test_a_fault_that_the_campaign_counts_as_kept_is_kept_here() -> None:
    rows = json.loads((page.RESULTS / promises.FAULTS).read_text(encoding="utf-8"))["rows"]
    kept = {row["fault"]: not row["broken"] for row in rows}
    (row,) = [each for each in PROMISES if each.number == 22]
    assert [each.kept() for each in row.figures] == [kept["everything_loss"], kept["everything_time_backward"]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of its own."""
    monkeypatch.setattr(promises, "ROOT", tmp_path)
    (tmp_path / promises.RESULTS).mkdir(parents=True)
    return tmp_path / promises.RESULTS


def test_a_row_is_met_in_part_not_met_or_not_measured(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"n": 2.0}))
    figure = Figure("n", lambda d: float(d["n"]), 2.0, file="one.json")
    row = Promise(1, "p", "t", (), (figure,))
    assert row.state is State.MET
    assert replace(row, lacking="much").state is State.IN_PART
    less, more = replace(figure, target=1.9), replace(figure, target=2.1, sense=Sense.AT_LEAST)
    assert {replace(row, figures=(each,), lacking="much").state for each in (less, more)} == {State.NOT_MET}
    wide = replace(figure, ci95=lambda d: (1.0, 3.0))
    below, above = replace(wide, target=0.5), replace(wide, target=0.5, sense=Sense.AT_LEAST)
    assert replace(row, figures=(figure, wide), lacking="much").state is State.NOT_SHOWN
    assert (
        replace(row, figures=(figure, below)).state is State.NOT_MET
        and replace(row, figures=(above,)).state is State.MET
    )
    assert replace(row, figures=()).state is State.NOT_MEASURED
    assert replace(row, figures=(), held="all").state is State.MET
    missing = replace(figure, file="two.json")
    assert replace(row, figures=(wide, missing)).state is State.NOT_MEASURED
    assert replace(row, figures=(figure, missing)).state is State.NOT_MEASURED
    assert replace(row, figures=(less, missing)).state is State.NOT_MET


def test_a_line_shows_value_target_and_origin_and_what_is_beyond(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"n": 2.0, "commit": "0123456789"}))
    figure = Figure("way", lambda d: float(d["n"]), 2.0, "m", file="one.json")
    assert figure.line() == "way: 2.00 m, ≤ 2 m (`one.json` at 0123456)"
    assert replace(figure, target=1.5, digits=1).line() == "way: **2.0 m, ≤ 1.5 m** (`one.json` at 0123456)"
    wide = replace(figure, target=1.5, ci95=lambda d: (1.0, 3.0))
    assert wide.line() == "way: 2.00 (1.00 to 3.00) m, ≤ 1.5 m, not shown (`one.json` at 0123456)"
    assert replace(figure, file="two.json").line() == "way: not measured yet (`two.json`)"
    with pytest.raises(KeyError):
        replace(figure, read=lambda d: float(d["other"])).value()
