"""The campaign of stories: seeds of its own, results that are never mixed, a summary by code."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("libsumo")

from adawm_planner.cli.story_view import summary, verdict
from adawm_planner.config.story import load_story
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.story.phases import Phase
from benchmarks.record import ROOT
from benchmarks.story import FIRST_SEED, RESULTS, SEEDS_APART, SHIFTS, Story, documents, summarise, to_markdown

PAGE = ROOT / "docs" / "story.md"
STORIES = [Story(shift, number) for number in range(5) for shift in SHIFTS]
SETTINGS = {"model_digest": "abc"}


def told(recovered: bool, wall_s: float = 100.0, pinned: bool = True) -> dict[str, Any]:
    def row(phase: Phase, successes: int) -> dict[str, Any]:
        return {"phase": phase.value, "episodes": 10, "successes": successes, "success_rate": successes / 10}

    phases = [row(Phase.NOMINAL, 10), row(Phase.SHIFTED, 3), row(Phase.ADAPTING, 6), row(Phase.ROLLED_BACK, 4)]
    load = {"service": "load_adapter", "message": "pinned: it is" if pinned else "in shadow"}
    return {
        "schema": "adawm.story/1",
        "model_digest": "abc",
        "seed": 5000,
        "commit": ("b" if recovered else "a") * 40,
        "shifted": {"task": "right_turn_moderate", "vehicle": "worn_brakes"},
        "phases": [*phases, row(Phase.RECOVERED, 9)] if recovered else phases,
        "recovery": {"episodes": 50, "driving_s": 500.0, "wall_s": wall_s, "adapters": 2} if recovered else None,
        "operator": [{"service": "pin_adapter", "message": "dynamics is pinned to the base model"}, load],
        "refusals": [{"text": "gate: worse"}, *[{"text": "pinned: it is"}] * (2 if pinned else 0)],
        "ros": {"missed_ticks": 1, "frames": 1000, "frames_without_command": 0},
    }


def test_no_two_stories_drive_the_same_episode_and_none_a_seed_for_tuning() -> None:
    spans = sorted((each.seed, each.seed + load_story().most_episodes) for each in STORIES)
    assert spans[0][0] == FIRST_SEED and load_story().most_episodes <= SEEDS_APART
    assert all(end <= begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))
    assert len({each.name for each in STORIES}) == len(STORIES)


def test_summary_pools_stories_and_counts_those_that_did_not_recover() -> None:
    found = {"a": told(True, 100.0), "b": told(True, 300.0), "c": told(False, pinned=False)}
    (row,) = summarise(found)["rows"]
    assert (row["stories"], row["recovered"], row["missed_ticks"]) == (3, 2, 3)
    assert (row["loads_met_pin"], row["pushes_met_pin"]) == (2, 2), "the operator's own load is no push"
    assert row["phases"]["shifted"]["success_ci95"] == list(wilson_interval(9, 30))
    assert row["phases"]["recovered"]["episodes"] == 20 and row["phases"]["recovered"]["by_story"] == [0.9, 0.9]
    assert row["recovery"]["wall_s"] == {"median": 200.0, "least": 100.0, "most": 300.0}
    text = to_markdown({"rows": [row]})
    assert "| aaaaaaa, bbbbbbb |" in text, "of which rules they may be"
    assert "| 2 of 3 |" in text and "200 s (100-300)" in text and "0.90 (0.70-0.97) [0.90-0.90]" in text
    (row,) = summarise({"c": told(False)})["rows"]
    assert row["recovery"] is None and row["phases"]["recovered"] is None
    assert "| 0 of 1 | - | - | - | 1 | 1 |" in to_markdown({"rows": [row]})


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not the result of a story"), (json.dumps(told(True) | {"model_digest": "x"}), "another model")],
)
def test_results_of_something_else_are_refused_by_name(content: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "stories"
    folder.mkdir()
    (folder / "good.json").write_text(json.dumps(told(True)))
    assert list(documents(tmp_path, SETTINGS)) == ["good"]
    (folder / "other.json").write_text(content)
    with pytest.raises(ValueError, match=f"other.json: .*{message}"):
        documents(tmp_path, SETTINGS)


def test_the_docs_show_the_committed_stories() -> None:
    found = {path.stem: json.loads(path.read_text()) for path in (RESULTS / "stories").glob("*.json")}
    assert found and to_markdown(summarise(dict(sorted(found.items())))) in PAGE.read_text(encoding="utf-8")


def test_the_readme_shows_the_committed_story() -> None:
    (file,) = (RESULTS / "present_rule").glob("*.json")
    document = json.loads(file.read_text())
    printed = io.StringIO()
    console = Console(width=132, file=printed, highlight=False)
    console.print(summary(document), verdict(document))
    ros = document["ros"]
    lines = [line.strip() for line in printed.getvalue().splitlines() if line.strip()]
    lines.append(
        f"missed ticks {ros['missed_ticks']} of {ros['frames']}, frames without a command "
        f"{ros['frames_without_command']}, {ros['adapters_swapped']} swaps"
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [line.strip() for line in readme.splitlines()]
    assert [line for line in lines if line not in shown] == []
    successes = [f"{row['successes']} of {row['episodes']}" for row in document["phases"] if row["phase"] != "adapting"]
    assert [words for words in successes if words not in " ".join(readme.split())] == []
    assert str(file.with_suffix(".png").relative_to(ROOT)) in readme
