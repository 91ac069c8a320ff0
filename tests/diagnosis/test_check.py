"""Levels, and the table of all findings in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adawm_planner.cli.doctor import installation_table
from adawm_planner.diagnosis.check import RULES, Check, rule_table, wrong

ROOT = Path(__file__).resolve().parents[2]


def test_levels_say_whether_the_command_fails() -> None:
    assert Check("a", True, "", "", "").level == "ok"
    assert Check("a", False, "", "", "").level == "error"
    assert Check("a", False, "", "", "", required=False).level == "warning"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_one_line_with_something_to_do(name: str) -> None:
    rule = RULES[name]
    assert rule.wrong and rule.fix and "\n" not in rule.wrong + rule.fix and "|" not in rule.wrong + rule.fix


def test_a_finding_takes_level_and_advice_from_its_rule() -> None:
    found = wrong("clock_paused", "/clock", "measured", "wanted")
    assert (found.level, found.fix) == ("warning", RULES["clock_paused"].fix)
    with pytest.raises(KeyError):
        wrong("no_such_rule", "", "", "")


def test_documentation_holds_the_current_tables() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert rule_table() in page
    assert installation_table() in page


def test_every_rule_is_used() -> None:
    files = [file for file in (ROOT / "adawm_planner" / "diagnosis").glob("*.py") if file.name != "check.py"]
    named = {word for file in files for word in re.findall(r'"(\w+)"', file.read_text())}
    named |= {f"qos_{policy}" for policy in ("reliability", "durability", "deadline", "liveliness")}
    assert set(RULES) <= named
