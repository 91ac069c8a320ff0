"""The command that a result names is the one that made it."""

from __future__ import annotations

import pytest

from adawm_planner.origin import without_json


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--json", "a.json", "--seed", "1"],
        ["evaluate", "--json=a.json", "--seed", "1"],
        ["evaluate", "--seed", "1", "--json"],
        ["evaluate", "--seed", "1", "--json="],
    ],
)
def test_where_the_result_went_is_left_out_however_it_was_written(words: list[str]) -> None:
    assert without_json(words) == ["evaluate", "--seed", "1"]


def test_other_words_stay() -> None:
    assert without_json(["drive", "--jsonish=1", "json", "--task=--json"]) == [
        "drive",
        "--jsonish=1",
        "json",
        "--task=--json",
    ]
