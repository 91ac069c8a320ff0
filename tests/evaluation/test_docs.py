"""docs/evaluation.md names the committed results that have the old time to collision, and counts what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = " ".join((ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8").split())
OF_BODIES_S = 0.05
"""One frame [s]: bodies that collide come nearer than that, circles around them need not."""

REFERENCE = ("reference/drivers.json", "reference/world_model.json")


def collisions(value: Any) -> Iterator[dict[str, Any]]:
    """Episodes anywhere in a document that ended in a collision and tell their time to it."""
    if isinstance(value, dict):
        if value.get("outcome") == "collision" and "ttc_min_s" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from collisions(each)


def counts(file: Path) -> tuple[int, int]:
    """How many of a result's collisions the old definition missed, and how many there are."""
    ttc = [each["ttc_min_s"] for each in collisions(json.loads(file.read_text(encoding="utf-8")))]
    return sum(each is None or each > OF_BODIES_S for each in ttc), len(ttc)


def test_the_results_with_the_old_time_to_collision_are_those_that_the_page_names() -> None:
    paragraph = PAGE[PAGE.index("Committed results from before") : PAGE.index("Do not compare `ttc_min_s`")]
    named = {*REFERENCE, "adaptation/**/runs/*.json"}
    assert {word[len("benchmarks/results/") :] for word in paragraph.split("`") if "results/" in word} == named
    files = {file for pattern in named for file in RESULTS.glob(pattern)}
    old = {file for file in RESULTS.rglob("*.json") if counts(file)[0]}
    assert old <= files, f"name them in docs/evaluation.md: {sorted(old - files)}"
    for name in REFERENCE:
        assert RESULTS / name in old, f"{name} was measured anew: no longer name it in docs/evaluation.md"


def test_the_count_of_the_page_is_that_of_the_results() -> None:
    missed, all_of_them = (sum(each) for each in zip(*(counts(RESULTS / name) for name in REFERENCE), strict=True))
    assert f"in which {missed:,} of the {all_of_them:,} episodes that ended in a collision have" in PAGE
