"""Reasons to refuse a bundle: one line each, none without a place in the code and in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_given_by_the_code_and_explained_in_the_docs(reason: Reason) -> None:
    code = (ROOT / "adawm_planner").rglob("*.py")
    users = [path for path in code if path.name != "refusal.py" and f"Reason.{reason.name}" in path.read_text("utf-8")]
    assert users, "nothing refuses for this reason"
    assert f"`{reason.value}`" in (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", list(Reason))
def test_a_refusal_is_one_line_with_reason_rule_measured_limit_and_remedy(reason: Reason) -> None:
    line = str(Refusal(reason, "ranks are small", "65", "at most 64", "Fit it with a smaller rank."))
    assert line == f"{reason.value}: ranks are small; found 65, allowed at most 64. Fit it with a smaller rank."


def test_what_strangers_wrote_is_shown_short_and_printable() -> None:
    with pytest.raises(Refused) as caught:
        refuse(Reason.FILE_NAME, "names are plain", "a\nb\x1b[31m" + "c" * 500, "letters", "Sign it anew.")
    line = str(caught.value)
    assert "\n" not in line and "\x1b" not in line and "\\x0a" in line and len(line) < 400
