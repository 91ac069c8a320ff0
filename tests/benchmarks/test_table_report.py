"""The headline table: its intervals, tests and marks on runs with known answers, and on the committed ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from adawm_planner.adaptation.strategies import STRATEGIES
from adawm_planner.evaluation.metrics import wilson_interval
from benchmarks.record import ROOT
from benchmarks.table import SHIFTS
from benchmarks.table_report import cell, paired, summarise, to_markdown

RESULTS = ROOT / "benchmarks" / "results" / "adaptation"
RANK_16 = RESULTS / "rank16"


def run(strategy: str, outcomes: Sequence[float], seed: int = 0, task: str = "t", **more: float) -> dict[str, Any]:
    """A document of one run with these successes on episode seeds from 5000 on."""
    detail = [{"seed": 5000 + i, "outcome": "success" if won else "collision"} for i, won in enumerate(outcomes)]
    rate = float(np.mean(outcomes))
    after = {"success_rate": rate, "episodes": len(outcomes), "collision_rate": 1.0 - rate, "timeout_rate": 0.0}
    return {
        "task": task,
        "vehicle": "v",
        "strategy": strategy,
        "seed": seed,
        "before": {"success_rate": more.get("before", 0.25)},
        "after": {**after, "detail": detail},
        "source_after": {"success_rate": more.get("home", 0.5)},
        "wall_s": 60.0,
    }


def lost(*which: int, of: int = 200) -> np.ndarray:
    """Successes of one run, all but these."""
    outcomes = np.ones(of)
    outcomes[list(which)] = 0.0
    return outcomes


@pytest.mark.parametrize(("k", "p"), [(0, 1.0), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_one_run_is_tested_exactly(k: int, p: float) -> None:
    """Where nearly all succeed, as with most of the table's best cells."""
    found = paired([run("adawm", lost()), run("x", lost(*range(k)))], "adawm", "x")
    assert found["p_value"] == p
    assert found["difference"] == pytest.approx(k / 200)
    low, high = found["ci95"]
    assert low < found["difference"] < high
    assert (low > 0.0) == (p < 0.05)


def test_ours_minus_the_other() -> None:
    pair = [run("adawm", lost(0, 1)), run("x", lost(*range(1, 11)))]
    found, turned = paired(pair, "adawm", "x"), paired(pair, "x", "adawm")
    assert found["difference"] == pytest.approx(8 / 200) and found["episodes"] == 200
    # 9 pairs that only ours wins, 1 that only the other does: 2 (1 + 10) / 2^10
    assert found["p_value"] == turned["p_value"] == 22 / 1024
    assert turned["difference"] == -found["difference"]
    assert turned["ci95"] == pytest.approx([-found["ci95"][1], -found["ci95"][0]])


def test_runs_that_all_succeed_leave_doubt() -> None:
    (low, high), three = wilson_interval(200, 200), [run("x", lost(), seed) for seed in range(3)]
    assert cell(three[:1])["ci95"] == [low, high]
    assert cell(three)["ci95"] == list(wilson_interval(600, 600))
    found = paired([*three, *(run("adawm", lost(), seed) for seed in range(3))], "adawm", "x")
    assert found["p_value"] == 1.0 and found["ci95"][0] < 0.0 < found["ci95"][1]


def test_what_differs_between_runs_widens_interval_and_test() -> None:
    def three(counts: Sequence[int]) -> list[dict[str, Any]]:
        rng = np.random.default_rng(0)
        return [run("x", lost(*rng.choice(200, count, replace=False)), seed) for seed, count in enumerate(counts)]

    even, uneven = three([20, 20, 20]), three([0, 0, 60])
    ours = [run("adawm", lost(), seed) for seed in range(3)]
    assert cell(even)["success_rate"] == cell(uneven)["success_rate"] == 0.9
    all_episodes = wilson_interval(540, 600)
    widths = [high - low for low, high in (all_episodes, cell(even)["ci95"], cell(uneven)["ci95"])]
    assert widths[0] <= widths[1] < widths[2] / 3.0
    assert paired([*ours, *even], "adawm", "x")["p_value"] < 1e-4
    assert paired([*ours, *uneven], "adawm", "x")["p_value"] > 0.3, "it lost in one run of three"


def test_the_one_run_of_none_stands_beside_every_run() -> None:
    none, ours = run("none", lost(*range(100))), [run("adawm", lost(*range(k)), k) for k in (10, 20, 60)]
    found = paired([none, *ours], "adawm", "none")
    assert (found["runs"], found["episodes"]) == (3, 600)
    assert found["difference"] == pytest.approx((90 + 80 + 40) / 600)
    assert found["p_value"] > paired([none, run("adawm", lost(*range(30)))], "adawm", "none")["p_value"]


def test_what_differs_between_episodes_widens_it_too() -> None:
    """Three runs that fail on the very same seeds say hardly more than one."""
    same = [run("x", lost(*range(20)), seed) for seed in range(3)]
    one, three = cell(same[:1])["ci95"], cell(same)["ci95"]
    assert three == pytest.approx(one, abs=2e-3)


def test_the_test_is_wrong_no_more_often_than_it_says() -> None:
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        documents = [
            run(name, rng.random(100) < rng.normal(0.7, 0.1), seed) for name in ("adawm", "x") for seed in range(3)
        ]
        wrong += paired(documents, "adawm", "x")["p_value"] < 0.05
    assert wrong <= 20


def test_a_cell_of_several_runs() -> None:
    outcomes = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    found = cell([run("x", each, seed, before=0.1 * seed, home=1.0) for seed, each in enumerate(outcomes)])
    assert (found["runs"], found["episodes"], found["success_rate"]) == (3, 12, 0.5)
    assert found["success_by_run"] == [0.75, 0.5, 0.25]
    assert found["run_standard_error"] == pytest.approx(0.25 / 3**0.5)
    assert (found["before"], found["source_after"], found["collision_rate"]) == (pytest.approx(0.1), 1.0, 0.5)
    assert cell([run("x", outcomes[0])])["run_standard_error"] is None


def test_marks_say_which_side_of_adawm_a_strategy_is_on() -> None:
    documents = [run("none", lost(*range(60))), run("alternate", lost(*range(19))), run("full", lost(0))]
    summary = summarise([*documents, run("adawm", lost(*range(20)), home=0.75)])
    (row,) = summary["rows"]
    assert list(row["adawm_against"]) == ["none", "alternate", "full"]
    assert row["adawm_against"]["none"]["difference"] == pytest.approx(0.2)
    header, _, line, *_ = to_markdown(summary).splitlines()
    assert header == "| task | vehicle | before | none | alternate | full | adawm | back home |"
    cells = [each.strip() for each in line.split("|")[1:-1]]
    assert cells[:3] == ["t", "v", "0.25"] and cells[-1] == "0.75"
    assert [each.split(" ")[0] for each in cells[3:7]] == ["0.70-", "0.91", "0.99+", "0.90"]
    assert cells[3] == "0.70- (0.63-0.76, 1)"


def test_the_mean_says_how_many_shifts_it_is_of() -> None:
    documents = [
        run("adawm", [1, 1]),
        run("none", [1, 0]),
        run("adawm", [0, 0], task="u"),
        run("none", [1, 1], task="w"),
        run("adawm", [1, 0], task="w"),
    ]
    summary = summarise(documents)
    assert summary["mean_over_shifts"] == {"shifts": 2, "success_rate": {"adawm": 0.75, "none": 0.75}}
    header, *_, last = [line for line in to_markdown(summary).splitlines() if line.startswith("|")]
    assert header == "| task | vehicle | before | none | adawm | back home |", "in the order of STRATEGIES"
    assert last == "| mean of 2 of 3 shifts | | | 0.750 | 0.750 | |"
    apart = summarise([documents[0], documents[3]])
    assert apart["mean_over_shifts"] == {"shifts": 0, "success_rate": {}}
    assert "mean of" not in to_markdown(apart)
    assert "| w | v | 0.25 | 1.00 (0.34-1.00, 1) |  |  |" in to_markdown(apart)


def committed_runs() -> list[dict[str, Any]]:
    """Runs of the committed table, in its order; without a policy adapter there is no rank, so those are shared."""
    found = []
    for task, vehicle in list(SHIFTS)[:4]:
        for strategy in STRATEGIES:
            name = f"{task}-{vehicle}-{strategy}-0.json"
            path = RANK_16 / "runs" / name
            path = path if path.exists() else RESULTS / "rank32" / "runs" / name
            found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def test_the_committed_table_is_that_of_the_committed_runs() -> None:
    committed, made = json.loads((RANK_16 / "table.json").read_text(encoding="utf-8")), summarise(committed_runs())
    for row in committed["rows"]:
        for values in row["strategies"].values():
            del values["ttc_min_mean_s"]  # no longer averaged, see docs/experiments.md
    assert {key: committed[key] for key in made} == json.loads(json.dumps(made))
    assert (RANK_16 / "table.md").read_text(encoding="utf-8") == to_markdown(made)
