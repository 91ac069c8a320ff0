"""Recorder, document, comparison: what is written can be read, and what is wrong is named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from adawm_planner.data_types import EgoState, Outcome, RewardTerms
from adawm_planner.evaluation.compare import Comparison, compare, matching
from adawm_planner.evaluation.episode import EpisodeRecorder, EpisodeResult
from adawm_planner.evaluation.report import (
    Evaluation,
    check_document,
    episode_line,
    read_json,
    table,
    to_document,
    write_evaluations,
)


@dataclass(frozen=True)
class Frame:
    """The fields of a WorldFrame that the recorder reads."""

    frame: int
    ego: EgoState
    route_s: float
    route: object = None
    goal_s: float = 50.0
    reward: RewardTerms = RewardTerms(progress=0.1)
    ttc: float = math.inf
    outcome: Outcome | None = None
    collision_id: int | None = None


def _episode(seed: int, outcome: Outcome, ttc: tuple[float, ...] = (math.inf,), reached: float = 50.0) -> EpisodeResult:
    recorder = EpisodeRecorder(seed)
    for i in range(101):
        s = reached * i / 100.0
        ego = EgoState(s, 0.0, 0.0, reached / 5.0, 0.0, 0.0, 0.0)
        frame = Frame(2000 + i, ego, s, ttc=ttc[i % len(ttc)], outcome=outcome if i == 100 else None)
        recorder.add(frame)  # type: ignore[arg-type]
    return recorder.result()


def _evaluation(*outcomes: Outcome, driver: str = "expert") -> Evaluation:
    episodes = tuple(_episode(5000 + i, outcome) for i, outcome in enumerate(outcomes))
    return Evaluation("right_turn_moderate", "nominal", driver, (), 5000, len(episodes), 1.5, episodes)


def test_recorder_measures_time_distance_completion_and_smallest_ttc() -> None:
    result = _episode(7, Outcome.COLLISION, ttc=(math.inf, 3.0, 1.5), reached=25.0)
    assert result.seed == 7
    assert result.frames == 100
    assert result.duration_s == 5.0
    assert result.distance_m == pytest.approx(25.0)
    assert result.mean_speed_mps == pytest.approx(5.0)
    assert result.route_completion == pytest.approx(0.5)
    assert result.ttc_min_s == 1.5
    assert result.driving_score == pytest.approx(50.0 / 1.7)
    assert result.reward.total == pytest.approx(10.0)  # 100 ticks, nothing for the first frame


def test_completion_is_of_the_route_that_was_planned_last() -> None:
    recorder, old, new = EpisodeRecorder(3), object(), object()
    ego = EgoState(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    for i, (route, route_s, goal_s) in enumerate([(old, 0.0, 100.0), (old, 90.0, 100.0), (new, 0.0, 20.0)]):
        recorder.add(Frame(i, ego, route_s, route, goal_s))  # type: ignore[arg-type]
    recorder.add(Frame(3, ego, 5.0, new, 20.0, outcome=Outcome.TIMEOUT))  # type: ignore[arg-type]
    assert recorder.result().route_completion == pytest.approx(0.25)


def test_recorder_refuses_frames_after_the_end_and_a_result_before_it() -> None:
    recorder = EpisodeRecorder(3)
    with pytest.raises(ValueError, match="3 has not ended"):
        recorder.result()
    ego = EgoState(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    recorder.add(Frame(0, ego, 0.0))  # type: ignore[arg-type]
    recorder.add(Frame(1, ego, 0.1, outcome=Outcome.TIMEOUT))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="already ended with timeout"):
        recorder.add(Frame(2, ego, 0.2))  # type: ignore[arg-type]


@pytest.mark.parametrize("ttc", [math.inf, 0.75])
def test_an_episode_survives_json_and_no_threat_is_null(ttc: float) -> None:
    episode = _episode(1, Outcome.OFF_LANE, ttc=(ttc,))
    text = json.dumps(episode.to_json(), allow_nan=False)
    assert json.loads(text)["ttc_min_s"] == (None if math.isinf(ttc) else ttc)
    assert EpisodeResult.from_json(json.loads(text)) == episode


@pytest.mark.parametrize("broken", [{"outcome": "won"}, {"seed_": 1}, {"reward": {"luck": 1.0}}])
def test_a_broken_episode_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"won|seed_|luck"):
        EpisodeResult.from_json({**_episode(1, Outcome.SUCCESS).to_json(), **broken})


def test_document_counts_each_outcome_and_keeps_designs_fields() -> None:
    document = to_document(_evaluation(Outcome.SUCCESS, Outcome.SUCCESS, Outcome.COLLISION, Outcome.TIMEOUT))
    rates = [document[name] for name in ("success_rate", "collision_rate", "off_lane_rate", "timeout_rate")]
    assert rates == [0.5, 0.25, 0.0, 0.25]
    low, high = document["success_ci95"]
    assert low < 0.5 < high
    assert document["ttc_min_mean_s"] is None
    assert document["ttc_episodes"] == 0
    assert [each["seed"] for each in document["detail"]] == [5000, 5001, 5002, 5003]
    assert "ros" not in document


def test_an_evaluation_without_episodes_is_refused() -> None:
    with pytest.raises(ValueError, match="no finished episode"):
        _evaluation()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "adawm.evaluation/2"),
        ("success_rate", 1.5),
        ("success_ci95", [0.9, 0.1]),
        ("ttc_min_mean_s", math.inf),
        ("episodes", 9),
        ("adapters", "none"),
        ("comfort", True),
        ("detail", [{}]),
        ("wall_s", 10**400),
        ("ros", {"latency_ms": {"p50": 1.0}, "missed_ticks": 0, "adapters_swapped": 0}),
    ],
)
def test_check_names_the_wrong_field(field: str, value: object) -> None:
    document = to_document(_evaluation(Outcome.SUCCESS))
    with pytest.raises(ValueError, match=field):
        check_document({**document, field: value})
    if field != "ros":
        with pytest.raises(ValueError, match=field):
            check_document({name: value for name, value in document.items() if name != field})


def test_files_hold_one_document_or_a_list_and_errors_name_the_file(tmp_path: Path) -> None:
    one, two = to_document(_evaluation(Outcome.SUCCESS)), to_document(_evaluation(Outcome.COLLISION))
    write_evaluations(tmp_path / "one.json", [one])
    write_evaluations(tmp_path / "two.json", [one, two])
    assert json.loads((tmp_path / "one.json").read_text())["schema"] == "adawm.evaluation/1"
    assert read_json(tmp_path / "two.json") == [one, two]
    wrong = {
        "{}": "schema",
        "[]": "holds no evaluation; it must be",
        "{ ": "must be the --json of",
        "[" * 100_000: "deep",
    }
    for text, words in wrong.items():
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=rf"bad\.json.*{words}"):
            read_json(tmp_path / "bad.json")


@pytest.mark.parametrize("outcome", [[], {}, 3, None, "arrived"])
def test_an_outcome_that_is_none_is_refused_by_name(outcome: object) -> None:
    document = to_document(_evaluation(Outcome.SUCCESS))
    document["detail"][0]["outcome"] = outcome
    with pytest.raises(ValueError, match=r"detail\[0\].outcome"):
        check_document(document)


def test_ros_block_is_kept() -> None:
    ros = {"latency_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0}, "missed_ticks": 0, "adapters_swapped": 0}
    document = to_document(replace(_evaluation(Outcome.SUCCESS), ros=ros))
    assert document["ros"] == ros


def test_table_and_line_show_the_numbers() -> None:
    console = Console(record=True, width=80)
    console.print(table([to_document(_evaluation(Outcome.SUCCESS, Outcome.COLLISION))]))
    console.print(table([to_document(_evaluation(*[Outcome.SUCCESS] * 200))]))
    console.print(episode_line(_episode(5001, Outcome.COLLISION, ttc=(0.5,))))
    text = console.export_text()
    assert "right_turn_moderate" in text and "50.0" in text and "9.5-90.5" in text and "carla-leaderboard-2.1" in text
    assert "98.1-100" in text and "comf." in text and "…" not in text
    assert "seed 5001" in text and "collision" in text and "0.50 s" in text


def test_compare_pairs_by_seed() -> None:
    first = to_document(_evaluation(Outcome.SUCCESS, Outcome.SUCCESS, Outcome.COLLISION, Outcome.SUCCESS))
    second = to_document(_evaluation(Outcome.SUCCESS, Outcome.COLLISION, Outcome.COLLISION))
    result = compare(first, second)
    assert (result.seeds, result.same, result.agreement) == (3, 2, pytest.approx(2 / 3))
    assert result.differing == ((5001, "success", "collision"),)
    assert (result.only_first_succeeds, result.only_second_succeeds) == (1, 0)
    assert result.to_json()["mcnemar_p"] == 1.0


def test_mcnemar_is_the_exact_binomial() -> None:
    first = to_document(_evaluation(*[Outcome.SUCCESS] * 6))
    second = to_document(_evaluation(*[Outcome.COLLISION] * 6))
    assert compare(first, second).p_value == pytest.approx(2.0 / 2**6)
    assert compare(first, first).p_value == 1.0


@pytest.mark.parametrize(("fewer", "changed"), [(0, 1024), (500, 1024), (2450, 5000)])
def test_mcnemar_is_exact_for_any_number_of_seeds(fewer: int, changed: int) -> None:
    exact = 2 * sum(Fraction(math.comb(changed, k), 2**changed) for k in range(fewer + 1))
    assert 0.0 < float(exact) < 1.0
    assert Comparison(changed, 0, (), fewer, changed - fewer).p_value == float(exact)


def test_compare_refuses_what_cannot_be_paired() -> None:
    document = to_document(_evaluation(Outcome.SUCCESS))
    with pytest.raises(ValueError, match="left_turn_dense"):
        compare(document, {**document, "task": "left_turn_dense"})
    with pytest.raises(ValueError, match="no seed in common"):
        compare(document, {**document, "detail": [{**document["detail"][0], "seed": 1}]})


def test_matching_prefers_the_same_driver() -> None:
    expert, blind = (to_document(_evaluation(Outcome.SUCCESS, driver=name)) for name in ("expert", "blind"))
    assert matching(blind, [expert, blind]) is blind
    assert matching(blind, [expert]) is expert
    assert matching(blind, [{**expert, "vehicle": "heavy"}]) is None
