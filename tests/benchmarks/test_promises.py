"""The table of promises: every test and figure that it names is there, and the page is what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import promises
from benchmarks.promises import PROMISES, Figure, Promise, Sense, State, functions, markdown

ROOT = Path(__file__).resolve().parents[2]
ROWS = {*range(1, 11), 15, 16, *range(19, 23)}
COMMANDS = ("adawm ", "make ", "ADAWM_")


def test_every_row_is_there_once_and_names_what_proves_it() -> None:
    assert [row.number for row in PROMISES] == sorted(ROWS)
    for row in PROMISES:
        assert row.tests and (row.figures or row.held), row.number
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
    missing = replace(figure, file="two.json")
    assert replace(row, figures=(figure, missing)).state is State.NOT_MEASURED
    assert replace(row, figures=(less, missing)).state is State.NOT_MET


def test_a_line_shows_value_target_and_origin_and_what_is_beyond(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"n": 2.0}))
    figure = Figure("way", lambda d: float(d["n"]), 2.0, "m", file="one.json")
    assert figure.line() == "way: 2.00 m, ≤ 2 m (`one.json`)"
    assert replace(figure, target=1.5, digits=1).line() == "way: **2.0 m, ≤ 1.5 m** (`one.json`)"
    assert replace(figure, file="two.json").line() == "way: not measured yet (`two.json`)"
    with pytest.raises(KeyError):
        replace(figure, read=lambda d: float(d["other"])).value()
