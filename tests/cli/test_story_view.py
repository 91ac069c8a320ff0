"""What a story shows: one line per event everywhere, a panel on a terminal."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("libsumo")

from adawm_planner.cli.story_view import EVERY, Now, View, counted, line, panel, summary, verdict
from adawm_planner.config.story import load_story
from adawm_planner.evaluation.metrics import wilson_interval
from adawm_planner.processes import ChildDied, Children, held, release
from adawm_planner.story.events import Driving, Event, Measured, Moved, Offered, Operated, Refused
from adawm_planner.story.phases import Phase, Tally, Turn
from adawm_planner.story.record import Record, Setting, World
from tests.story.results import drove

EVENTS: list[tuple[Event, tuple[str, ...]]] = [
    (Measured(3, 5.294, 0.2, 0.021, 0.03, "dynamics", "only [one] part", "ab"), ("5.29 +- 0.20", "dynamics", "[one]")),
    (Offered("policy-1", "policy", "ab" * 32, 145_000), ("policy-1, 145 kB", "abababababab")),
    (Moved("policy", "abc", "probation", (("shadow_decisions", "25"), ("probation_bound", "0.7"))), ("bound 0.7",)),
    (Driving(("dynamics-1", "policy-1"), 2), ("base model + dynamics-1 + policy-1", "2 swaps")),
    (Refused(1, "pinned: [policy] is pinned"), ("pinned: [policy] is pinned",)),
    (Operated("pin_adapter", "policy", False, "on probation"), ("pin_adapter (policy) -> no: on probation",)),
]


def begun() -> Record:
    worlds = World("right_turn_moderate", "nominal"), World("right_turn_moderate", "worn_brakes")
    return Record(Setting(*worlds, 1000, load_story()))


@pytest.mark.parametrize(("event", "words"), EVENTS, ids=lambda each: type(each).__name__)
def test_every_event_is_one_line_that_says_what_matters(event: Event, words: tuple[str, ...]) -> None:
    console = Console(file=io.StringIO(), width=500, record=True)
    console.print(line(event))
    text = console.export_text()
    assert text.count("\n") == 1
    for word in words:
        assert word in text


def test_without_a_terminal_there_are_plain_lines_and_no_panel() -> None:
    out, record = io.StringIO(), begun()
    with View(Console(file=out, width=60), record) as view:
        for k in range(2 * EVERY):
            view.event(record.take(drove(k % 2 == 0), float(k)))
            view.now(Now(), float(k))
        turn = Turn(Phase.SHIFTED, "driven")
        record.turn(turn, 30.0)
        view.turn(turn, 30.0)
    lines = out.getvalue().splitlines()
    low, high = wilson_interval(5, 10)
    assert sum("newest episodes: success 5 of 10" in each for each in lines) == 2
    assert f"{low:.2f}-{high:.2f}" in lines[1] and "\x1b" not in out.getvalue()
    assert "phase nominal over: success 10 of 20" in lines[3] and lines[4].startswith("2 shifted")


def test_the_panel_shows_the_state_and_the_missed_ticks() -> None:
    record, out = begun(), io.StringIO()
    record.take(drove(True, waited=1), 1.0)
    record.take(EVENTS[0][0], 1.0)
    Console(file=out, width=120).print(panel(record, Now("updating: 3 of 40", "dynamics abc shadow", 2, 900), 12.0))
    text = out.getvalue()
    for words in (
        "1 of 1",
        "dynamics 5.29",
        "updating: 3 of 40",
        "dynamics abc shadow",
        "2 of 900",
        "1 frames without",
    ):
        assert words in text


def test_a_story_that_did_not_recover_says_so() -> None:
    record = begun()
    record.take(drove(True), 1.0)
    document = record.document({}, 1.0)
    assert "has not recovered" in verdict(document)
    assert summary(document).row_count == 1
    assert counted("x", Tally(0, 0)) == "x: no episode"


def test_the_second_bridge_waits_for_its_turn_and_can_be_ended_before_it(tmp_path: Path) -> None:

    gates = [tmp_path / name for name in ("first", "second", "third")]
    for gate in gates:
        os.mkfifo(gate)
    with Children(tmp_path) as children:
        for gate in gates[:2]:
            children.start(gate.name + "-held", held(["sh", "-c", f"echo begun > {gate}.out"], gate), os.environ)
        children.check()
        while True:  # the shell may not have opened its end yet
            try:
                release(gates[0], "first")
                break
            except ChildDied:
                continue
        while children.ended("first-held") is None:
            pass
        assert Path(f"{gates[0]}.out").read_text() == "begun\n" and not Path(f"{gates[1]}.out").exists()
    assert not Path(f"{gates[1]}.out").exists()
    with pytest.raises(ChildDied, match="third ended before its turn"):
        release(gates[2], "third")
