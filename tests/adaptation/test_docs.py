"""The numbers in docs/adaptation.md and docs/experiments.md are those of the committed results."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

from adawm_planner.adaptation.select_part import Part
from benchmarks.identify import PLANTED, Judgement, over_conditions
from benchmarks.record import ROOT

PAGE, EXPERIMENTS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("adaptation.md", "experiments.md"))
RESULTS = ROOT / "benchmarks" / "results" / "adaptation"
RUNS = RESULTS / "runs"


@pytest.mark.parametrize(
    ("folder", "page"), [("", PAGE), ("rank32", PAGE), ("rank16", EXPERIMENTS)], ids=["present", "rank32", "rank16"]
)
def test_the_tables_are_the_committed_ones(folder: str, page: str) -> None:
    table = (RESULTS / folder / "table.md").read_text(encoding="utf-8").strip()
    assert table.count("\n|") > 2
    assert table in page


def test_identification_is_the_committed_one() -> None:
    assert (RESULTS / "identify.md").read_text(encoding="utf-8").strip() in PAGE
    by_size = json.loads((RESULTS / "identify.json").read_text(encoding="utf-8"))["direct_by_rollouts"]
    for episodes, found in by_size.items():
        shares = (found[key]["share"] for key in ("identified_planted", "nothing_is_wrong"))
        words = f"{episodes} episodes " + " and ".join(f"{share:.2f}" for share in shares)
        assert words in " ".join(PAGE.split()), words


def test_the_interval_over_conditions_is_of_the_committed_trials() -> None:
    named = json.loads((RESULTS / "identify.json").read_text(encoding="utf-8"))["direct"]["by_condition"]
    rows = [
        Judgement(cause, word, Part.NOTHING, place)
        for cause, places in PLANTED.items()
        for place in places
        for word, trials in named[", ".join(place)].items()
        for _ in range(trials)
    ]
    low, high = over_conditions(rows)
    assert f"the interval of 0.90 is {low:.2f} to {high:.2f}" in " ".join(PAGE.split())


@pytest.mark.parametrize("part", ["dynamics", "policy"])
def test_costs_are_the_committed_ones(part: str) -> None:
    figures = json.loads((RESULTS / "training.json").read_text(encoding="utf-8"))[part]
    cells = [f"{1e3 * figures[kind]['seconds_per_update']:.0f} ms" for kind in ("low_rank", "full")]
    cells.append(f"{figures['ratio']['seconds_per_update']:.1f}")
    cells += [f"{figures[kind]['trainable']:,}" for kind in ("low_rank", "full")]
    cells += [f"{figures[kind]['optimizer_bytes'] / 2**20:.2f}" for kind in ("low_rank", "full")]
    assert f"| {part} | {' | '.join(cells)} |" in PAGE


def test_the_rule_before_is_the_committed_runs() -> None:
    section = EXPERIMENTS.split("## The rule before")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(("| left", "| right", "| roundabout"))]
    assert len(rows) == len(list((RESULTS / "rule_before" / "runs").glob("*-0.json")))
    for row in rows:
        task, vehicle = (cell.strip() for cell in row.split("|")[1:3])
        adawm, alternate, full = (
            _run(f"{folder}runs/{task}-{vehicle}-{name}-0.json")
            for folder, name in (("rule_before/", "adawm"), ("rank32/", "alternate"), ("rank32/", "full"))
        )
        assert adawm is not None and "recovery" not in adawm["config"]["select"]
        home = f"{adawm['source_after']['success_rate']:.2f}"
        others = [_success(each["after"]) if each else "" for each in (alternate, full)]
        before = f"{adawm['before']['success_rate']:.2f}"
        cells = [task, vehicle, before, _success(adawm["after"]), f"{adawm['updates']:,}", *others, home]
        assert row == "| " + " | ".join(cells).replace("|  |", "| |") + " |"


def test_the_readme_shows_the_committed_runs() -> None:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in RUNS.glob("*-adawm-*.json")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    words = " ".join(readme.split())
    for rounds, text in ((8, "8 rounds took {} to {} minutes"), (24, "24 rounds {} to {}")):
        minutes = [run["wall_s"] / 60 for run in found if len(run["rounds"]) == rounds]
        assert text.format(f"{min(minutes):.1f}", f"{max(minutes):.1f}") in words
    shifts = {(run["task"], run["vehicle"]) for run in found}
    for task, vehicle in shifts:
        runs = [run for run in found if (run["task"], run["vehicle"]) == (task, vehicle)]
        before = f"{runs[0]['before']['success_rate']:.2f}"
        after = ", ".join(f"{one:.2f}" for one in sorted((run["after"]["success_rate"] for run in runs), reverse=True))
        assert f"| {task} | {vehicle} | {before} | {after} |" in readme
    assert readme.count("| right_turn") + readme.count("| left_turn") + readme.count("| roundabout") == len(shifts)


def _run(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _success(found: dict[str, Any]) -> str:
    low, high = found["success_ci95"]
    return f"{found['success_rate']:.2f} ({low:.2f}-{high:.2f})"
