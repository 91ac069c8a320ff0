"""What is made of mutmut's counts, and the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from benchmarks.mutation import summarise

ROOT = Path(__file__).resolve().parents[2]
NONE = dict.fromkeys(
    (
        "not_checked",
        "killed",
        "survived",
        "total",
        "no_tests",
        "skipped",
        "suspicious",
        "timeout",
        "check_was_interrupted_by_user",
        "segfault",
        "caught_by_type_check",
    ),
    0,
)


def test_a_mutant_that_hangs_is_killed_and_one_without_a_test_is_not() -> None:
    found = summarise(NONE | {"total": 10, "killed": 6, "timeout": 1, "survived": 2, "no_tests": 1})
    assert found["killed_share"] == 0.7 and found["survived"] == 2


def test_a_version_that_counts_less_is_understood() -> None:
    assert summarise({"total": 10, "killed": 9, "survived": 1})["killed_share"] == 0.9


@pytest.mark.parametrize("left", [{"not_checked": 1}, {"check_was_interrupted_by_user": 1}, {"total": 0}])
def test_an_unfinished_run_has_no_result(left: dict[str, int]) -> None:
    with pytest.raises(click.ClickException, match="were not tried; run it again"):
        summarise(NONE | {"total": 10, "killed": 9} | left)


def test_the_committed_share_is_that_of_the_counts_and_as_promised() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "safety" / "mutation.json").read_text(encoding="utf-8"))
    assert found["killed_share"] == summarise({name: found[name] for name in NONE if name in found})["killed_share"]
    assert found["killed_share"] >= 0.95


def test_the_docs_show_the_committed_figures() -> None:
    results = ROOT / "benchmarks" / "results" / "safety"
    fuzz, found = (json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in ("fuzz", "mutation"))
    killed = found["killed"] + found["timeout"]
    line = (
        f"{fuzz['escapes']} escapes in {fuzz['proposals']:,} proposals; "
        f"{killed:,} of {found['total']:,} mutants killed ({100.0 * found['killed_share']:.1f} %)"
    )
    assert line in " ".join((ROOT / "docs" / "gate.md").read_text(encoding="utf-8").split())
