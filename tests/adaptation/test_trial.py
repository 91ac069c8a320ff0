"""Which student a run ends with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adawm_planner.adaptation.harness import Adaptation, Cell
from adawm_planner.adaptation.scores import Tally
from adawm_planner.adaptation.trial import Tried, sequential_halving, students_of
from adawm_planner.config.adaptation import load_adaptation


def record(index: int, success: float, repaired: bool = True, episodes: int = 10) -> dict[str, Any]:
    """What a round's record says of its rollouts and repairs."""
    updated = ["policy"] if repaired else []
    return {"round": index, "updated": updated, "rollout_success": success, "episodes": episodes}


def test_a_student_drives_from_the_round_after_its_own_until_another_repair() -> None:
    rounds = [
        record(1, 0.0),
        record(2, 1.0, repaired=False, episodes=4),
        record(3, 0.25, episodes=12),
        record(4, 0.4),
        record(5, 0.9, repaired=False),
    ]
    assert students_of(rounds) == [Tried(1, Tally(9, 16)), Tried(3, Tally(6, 10)), Tried(4, Tally(1, 10))]
    assert students_of(rounds[:1]) == [Tried(1, Tally(0, 0))], "the newest is undriven"
    assert students_of([record(1, 0.9, repaired=False)]) == students_of([]) == []


def test_the_worse_half_leaves_and_the_rest_drives_more_and_the_same_episodes() -> None:
    driven: dict[int, list[tuple[int, int]]] = {}

    def drive(student: int, first: int, count: int) -> Tally:
        driven.setdefault(student, []).append((first, count))
        return Tally(count if student < 5 else 0, count)

    found = sequential_halving([Tried(index, Tally(0, 0)) for index in range(1, 8)], 63, drive)
    assert [each.round for each in found] == [1, 2, 3, 4, 5, 6, 7], "of equals the newest is the best"
    short, long = [(0, 3)], [(0, 3), (3, 5), (8, 10)]
    assert driven == {1: short, 2: short, 3: short, 4: long[:2], 5: long[:2], 6: long, 7: long}
    assert sum(count for each in driven.values() for _, count in each) <= 63
    assert found[-1].trial == Tally(0, 18) and found[0].trial == Tally(3, 3)


def test_rollouts_count_with_the_episodes_of_the_trial() -> None:
    students = [Tried(1, Tally(0, 10)), Tried(2, Tally(10, 10)), Tried(3, Tally(0, 0))]
    found = sequential_halving(students, 1, lambda student, first, count: Tally(count if student == 1 else 0, count))
    assert found[-1].round == 3, "an undriven one is judged by what it drives"
    assert [each.success for each in found] == [pytest.approx(1 / 11), pytest.approx(10 / 12), 1.0]


def test_the_best_of_sixteen_is_mostly_found() -> None:
    """With the budget that is shipped, and rollouts of a dozen episodes."""
    rates = [0.83, 0.75, 0.77, 0.93, 0.92, 0.88, 0.9, 0.8, 0.76, 0.78, 0.7, 0.68, 0.67, 0.65, 0.6, 0.67]
    rng, budget = np.random.default_rng(0), load_adaptation().trial.episodes
    ended, newest = [], []
    for _ in range(300):
        students = [Tried(i, Tally(int(rng.binomial(11, 1.0 - rate)), 11)) for i, rate in enumerate(rates)]

        def drive(student: int, first: int, count: int) -> Tally:
            return Tally(int(rng.binomial(count, 1.0 - rates[student])), count)

        ended.append(rates[sequential_halving(students, budget, drive)[-1].round])
        tried = {i: drive(i, 0, budget // 5).failed for i in range(len(rates) - 5, len(rates))}
        newest.append(rates[min(tried, key=lambda i: tried[i])])
    assert np.mean(ended) > 0.88 > 0.72 > np.mean(newest), "trying only the newest cannot do that"


@pytest.mark.parametrize(
    ("repaired", "failing", "chosen"),
    [((1, 2, 3), (), 3), ((1, 2, 3), (3,), 2), ((1, 3), (3,), 1), ((2,), (), 2), ((), (), 0)],
    ids=["of equals the newest", "an earlier one", "rounds that repaired nothing", "only one", "none"],
)
def test_a_run_ends_with_the_best_of_its_students(
    repaired: tuple[int, ...], failing: tuple[int, ...], chosen: int
) -> None:
    config, loaded, drives = load_adaptation(), list[int](), list[tuple[str, int, int]]()

    def scored(name: str, place: object, seed: int, episodes: int) -> dict[str, Any]:
        drives.append((name, seed, episodes))
        success = 0.0 if loaded[-1] in failing else 1.0
        return {"success_rate": success, "detail": [{"frames": 9}, {"frames": 8}]}

    run: Any = SimpleNamespace(
        config=config,
        cell=Cell("left_turn_moderate", "nominal", "adawm", 3),
        rounds=[record(k, 0.5, k in repaired) for k in (1, 2, 3)],
        student=SimpleNamespace(load=loaded.append),
        _state=lambda index: index,
        _scored=scored,
    )
    trial = Adaptation._keep_best(run, object())  # type: ignore[arg-type]
    assert trial["chosen"] == chosen and loaded[-1:] == [chosen] * bool(repaired)
    assert [each["round"] for each in trial["students"]] == list(repaired)
    assert trial["env_steps"] == (3 + 2) * len(drives) and bool(drives) is (len(repaired) > 1)
    assert len({name for name, _, _ in drives}) == len(drives), "each is kept by a name of its own"
    low, high = config.rollouts.train_seeds
    assert all(low <= seed <= high - count for _, seed, count in drives)
