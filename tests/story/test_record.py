"""What a story keeps and tells: phases with their own counts, time to recovery, a figure of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adawm_planner.config.story import load_story
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.story.events import Driving, Measured, Moved, Offered, Operated
from adawm_planner.story.phases import Phase, Turn
from adawm_planner.story.record import Record, Setting, World
from tests.story.results import drove

NOMINAL, SHIFTED = World("right_turn_moderate", "nominal"), World("right_turn_moderate", "worn_brakes")


def told(recovers: bool = True) -> Record:
    """A story with an adapter; ten seconds of driving, one on the clock per episode."""
    record = Record(Setting(NOMINAL, SHIFTED, 1000, load_story()))

    def drive(count: int, success: bool, *adapters: str) -> None:
        for _ in range(count):
            record.take(drove(success, *adapters, seed=1000 + record.episodes), float(record.episodes + 1))

    drive(4, True)
    record.turn(Turn(Phase.SHIFTED, "4 episodes driven"), 4.0)
    drive(5, False)
    record.take(Measured(1, 5.0, 0.2, 0.1, 0.05, "dynamics", "only the dynamics", "abc"), 8.0)
    record.take(Offered("dynamics-1", "dynamics", "abcdef", 1000), 8.5)
    record.take(Moved("dynamics", "abc", "probation", (("episodes", "0"),)), 9.0)
    record.take(Driving(("dynamics-1",), 1), 9.0)
    record.turn(Turn(Phase.ADAPTING, "an adapter drives"), 9.0)
    drive(6, recovers, "dynamics-1")
    if recovers:
        record.turn(Turn(Phase.RECOVERED, "6 of 6"), 15.0)
        drive(3, True, "dynamics-1")
    record.turn(Turn(Phase.ROLLED_BACK, "over"), float(record.episodes))
    record.take(Operated("rollback_adapter", "both parts", True, "drives now"), 18.5)
    record.take(Driving((), 2), 18.6)
    drive(2, False)
    return record


def test_every_phase_has_its_own_episodes_and_world() -> None:
    document = told().document({}, 20.0)
    rows = {row["phase"]: row for row in document["phases"]}
    assert list(rows) == [phase.value for phase in Phase]
    assert [row["episodes"] for row in rows.values()] == [4, 5, 6, 3, 2]
    assert [row["first_episode"] for row in rows.values()] == [0, 4, 9, 15, 18]
    assert [row["success_rate"] for row in rows.values()] == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert rows["shifted"]["success_ci95"] == list(wilson_interval(0, 5))
    assert {row["vehicle"] for name, row in rows.items() if name != "nominal"} == {"worn_brakes"}
    assert rows["nominal"]["vehicle"] == "nominal" and rows["nominal"]["mean_speed_mps"] == pytest.approx(5.0)
    assert rows["recovered"]["adapters"] == ["dynamics-1"] and rows["rolled_back"]["adapters"] == []
    assert [each["seed"] for each in document["episodes"]] == list(range(1000, 1020))
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_time_to_recovery_runs_from_the_shift() -> None:
    document = told().document({}, 20.0)
    assert document["recovered"]
    assert document["recovery"] == {"episodes": 11, "driving_s": 110.0, "wall_s": 11.0, "adapters": 1}
    without = told(recovers=False).document({}, 20.0)
    assert not without["recovered"] and without["recovery"] is None


def test_only_an_adapter_made_since_the_shift_counts() -> None:
    record = Record(Setting(NOMINAL, SHIFTED, 0, load_story()))
    record.take(Driving(("policy-1",), 1), 0.0)  # a false alarm before
    record.turn(Turn(Phase.SHIFTED, ""), 1.0)
    assert not record.facts().adapted
    record.take(Driving(("policy-1", "dynamics-1"), 2), 2.0)
    assert record.facts().adapted


def test_the_figure_is_drawn_from_the_document_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from adawm_planner.story.figure import draw, running, spans

    for name, record in (("whole", told()), ("not recovered", told(recovers=False))):
        draw(json.loads(json.dumps(record.document({}, 20.0))), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    early = Record(Setting(NOMINAL, SHIFTED, 0, load_story()))
    early.take(drove(True), 1.0)
    draw(early.document({}, 1.0), tmp_path / "early.png")
    rate, low, high = running([True, True, False, False], [0, 2], window=20)
    assert rate.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert (low <= rate).all() and (rate <= high).all()
    assert running([True, False, False], [0], window=2)[0].tolist() == [1.0, 0.5, 0.0]
    driving = [
        {"episode": 3, "adapters": ["dynamics-1"]},
        {"episode": 5, "adapters": ["dynamics-1", "policy-1"]},
        {"episode": 8, "adapters": ["dynamics-2", "policy-1"]},
    ]
    assert spans(driving, 9) == [("dynamics-1", 3, 8), ("policy-1", 5, 9), ("dynamics-2", 8, 9)]
    assert spans([*driving, {"episode": 9, "adapters": []}], 12)[-1] == ("dynamics-2", 8, 9)
