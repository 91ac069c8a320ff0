"""The numbers in docs/adaptation.md are those of the committed results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.record import ROOT

PAGE = (ROOT / "docs" / "adaptation.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "adaptation"


def test_the_table_is_the_committed_one() -> None:
    table = (RESULTS / "rank16" / "table.md").read_text(encoding="utf-8").strip()
    assert table.count("\n|") > 2
    assert table in PAGE


def test_identification_is_the_committed_one() -> None:
    assert (RESULTS / "identify.md").read_text(encoding="utf-8").strip() in PAGE
    by_size = json.loads((RESULTS / "identify.json").read_text(encoding="utf-8"))["direct_by_rollouts"]
    for episodes, found in by_size.items():
        shares = (found[key]["share"] for key in ("identified_planted", "nothing_is_wrong"))
        words = f"{episodes} episodes " + " and ".join(f"{share:.2f}" for share in shares)
        assert words in " ".join(PAGE.split()), words


@pytest.mark.parametrize("part", ["dynamics", "policy"])
def test_costs_are_the_committed_ones(part: str) -> None:
    figures = json.loads((RESULTS / "training.json").read_text(encoding="utf-8"))[part]
    cells = [f"{1e3 * figures[kind]['seconds_per_update']:.0f} ms" for kind in ("low_rank", "full")]
    cells.append(f"{figures['ratio']['seconds_per_update']:.1f}")
    cells += [f"{figures[kind]['trainable']:,}" for kind in ("low_rank", "full")]
    cells += [f"{figures[kind]['optimizer_bytes'] / 2**20:.2f}" for kind in ("low_rank", "full")]
    assert f"| {part} | {' | '.join(cells)} |" in PAGE


def test_rank_64_is_the_committed_runs() -> None:
    section = PAGE.split("### Rank 64")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(("| left", "| right", "| roundabout"))]
    assert rows
    for row in rows:
        task = row.split("|")[1].strip()
        name = f"{task}-nominal-{{}}-0.json"
        low, high, full = (
            json.loads((RESULTS / folder / name.format(strategy)).read_text(encoding="utf-8"))
            for folder, strategy in (("rank16/runs", "adawm"), ("runs", "adawm"), ("runs", "full"))
        )
        assert (low["config"]["actor_lora"]["rank"], high["config"]["actor_lora"]["rank"]) == (16, 64)
        after = [_success(document["after"]) for document in (low, high, full)]
        home = [f"{d['source_after']['success_rate']:.2f}" for d in (low, high)]
        cells = [task, f"{high['before']['success_rate']:.2f}", *after, *home]
        assert row == f"| {' | '.join(cells)} |"


def test_worn_brakes_are_the_committed_runs() -> None:
    section = PAGE.split("### A vehicle that brakes worse")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) >= 4
    for row in rows:
        name = row.split("`")[1]
        path = RESULTS / "runs" / f"right_turn_moderate-worn_brakes-{name}-0.json"
        run = json.loads(path.read_text(encoding="utf-8"))
        assert run["config"]["actor_lora"]["rank"] == 64
        home, minutes = run["source_after"]["success_rate"], run["wall_s"] / 60.0
        cells = [f"`{name}`", _success(run["after"]), f"{run['updates']:,}", f"{minutes:.0f} min", f"{home:.2f}"]
        assert row == f"| {' | '.join(cells)} |"


def test_other_vehicles_are_the_committed_runs() -> None:
    section = PAGE.split("### A vehicle that brakes worse")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(("| overloaded", "| late_brakes"))]
    assert len(rows) == 2
    for row in rows:
        vehicle = row.split("|")[1].strip()
        none, adawm, alternate, full = (
            json.loads((RESULTS / "runs" / f"right_turn_moderate-{vehicle}-{name}-0.json").read_text(encoding="utf-8"))
            for name in ("none", "adawm", "alternate", "full")
        )
        home = f"{adawm['source_after']['success_rate']:.2f}"
        others = [_success(each["after"]) for each in (alternate, full)]
        cells = [vehicle, _success(none["after"]), _success(adawm["after"]), f"{adawm['updates']:,}", *others, home]
        assert row == f"| {' | '.join(cells)} |"
        assert alternate["updates"] == full["updates"] == 2400


def _success(found: dict[str, Any]) -> str:
    low, high = found["success_ci95"]
    return f"{found['success_rate']:.2f} ({low:.2f}-{high:.2f})"
