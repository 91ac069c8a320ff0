"""Verdicts: the stricter wins, each is one line, and docs/gate.md holds the tables that the code makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from adawm_planner.safety import states, verdict
from adawm_planner.safety.verdict import RULES, Response, Rule, Verdict, strictest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gate.md"


def test_the_hardest_brake_wins_then_the_weightier_response_then_the_first() -> None:
    cut, cut_too = Verdict(Rule.JERK, 1.0, 0.0), Verdict(Rule.SPEED, 1.0, 0.0)
    gentle = Verdict(Rule.OVERSPEED, 1.0, 0.0, 2.5)
    fault = Verdict(Rule.ROUTE_MISSING, 0.0, 1.0, 2.5)
    hard = Verdict(Rule.BRAKING_DISTANCE, 1.0, 2.0, 8.0)
    assert strictest([]) is None
    assert strictest([cut, cut_too]) is cut
    assert strictest([cut, gentle, fault]) is fault
    assert strictest([gentle, fault, hard, cut]) is hard


def test_every_rule_has_a_row_and_only_those_that_brake_ask_for_it() -> None:
    assert list(RULES) == list(Rule)
    assert [response.name for response in Response] == ["LIMIT", "BRAKE", "COMFORTABLE", "EMERGENCY"]
    assert Response.LIMIT < Response.BRAKE < Response.COMFORTABLE < Response.EMERGENCY


@pytest.mark.parametrize("rule", list(Rule))
def test_every_line_has_rule_measured_limit_and_action(rule: Rule) -> None:
    row, line = RULES[rule], Verdict(rule, 12.3456, 7.8912).line()
    unit = f" {row.unit}" if row.unit else ""
    assert line == f"{rule.value}: {row.measures} is 12.3{unit}, limit 7.89{unit}; {row.action}"
    assert "\n" not in line and row.action
    assert "(object 7) is" in Verdict(rule, 1.0, 2.0, about="object 7").line()


def test_the_documentation_holds_the_tables_of_the_code() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert verdict.markdown() in text
    assert states.mermaid() in text
