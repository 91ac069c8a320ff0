"""The record that probation compares with: kept across restarts and roll backs, never a reason not to drive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap import records
from adawm_planner.runtime.swap.probation import EpisodeOutcome, Record
from adawm_planner.runtime.swap.records import KEEP, RECORD_FILE, Records
from tests.adapters.conftest import Maker
from tests.runtime.swap_rig import OPEN, Rig

ENDS = [True, False, False] * 4


def committed(rig: Rig, files: dict[str, bytes]) -> None:
    rig.push(files)
    rig.drive(4)
    rig.episodes(True, True, True)
    assert rig.stage == "committed"


def bound(rig: Rig) -> str:
    """What the next adapter is asked for: it is sent, and drives on probation."""
    rig.push(rig.maker.files(counter=50, name="next"))
    rig.drive(4)
    assert rig.stage == "probation"
    return rig.swap.report.figures["probation_bound"]


def required(ends: list[bool]) -> str:
    return f"{Record(tuple((each, 1.0) for each in ends)).bound(OPEN):.3f}"


@pytest.mark.parametrize("adapted", [False, True])
def test_after_a_restart_an_adapter_is_asked_for_what_drove_before(maker: Maker, tmp_path: Path, adapted: bool) -> None:
    before = Rig(maker, tmp_path / "store")
    if adapted:
        committed(before, maker.files())
    before.episodes(*ENDS)
    before.close()
    again = Rig(maker, tmp_path / "store")
    assert bound(again) == required([True, True, True, *ENDS] if adapted else ENDS) != required([])
    again.close()


def test_a_roll_back_brings_the_record_of_what_drives_afterwards(maker: Maker, tmp_path: Path) -> None:
    rig = Rig(maker, tmp_path / "store")
    rig.episodes(*ENDS)
    committed(rig, maker.files())
    rig.episodes(*[True] * 9)
    assert rig.ask(m.RollBack, "policy", False).success
    assert bound(rig) == required(ENDS)
    rig.close()


def test_after_a_roll_back_to_what_never_drove_nothing_is_on_record(maker: Maker, tmp_path: Path) -> None:
    rig = Rig(maker, tmp_path / "store")
    committed(rig, maker.files())
    rig.episodes(*ENDS)
    assert rig.ask(m.RollBack, "policy", False).success
    assert bound(rig) == required([])
    rig.close()


def test_the_record_of_another_vehicle_is_not_used_and_not_lost(maker: Maker, tmp_path: Path) -> None:
    def start(vehicle: str | None) -> Rig:
        there = copy(maker)
        there.context = replace(maker.context, vehicle=vehicle)
        return Rig(there, tmp_path / "store")

    for vehicle, found in (("car-7", []), ("car-8", []), ("car-7", ENDS)):
        rig = start(vehicle)
        assert rig.swap._good.record.results == tuple((each, 1.0) for each in found)
        rig.episodes(*(ENDS if vehicle == "car-7" and not found else [True]))
        rig.close()


def test_the_record_of_another_base_model_is_not_used(maker: Maker, tmp_path: Path) -> None:
    other = replace(maker.context, base=replace(maker.context.base, digest="f" * 64))
    Records(tmp_path, maker.context).keep([], Record(((True, 1.0),)))
    assert Records(tmp_path, other).of([]).episodes == 0
    assert Records(tmp_path, maker.context).of([]).episodes == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-40],
        lambda content: content.replace(b"true", b"null", 1),
        lambda content: content.replace(b"false", b"true", 1),
        lambda content: b"\xff" + content,
        lambda content: b"[]\n",
        lambda content: b"",
    ],
)
def test_a_damaged_file_is_told_once_and_begun_anew(
    maker: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[bytes], bytes]
) -> None:
    rig = Rig(maker, tmp_path / "store")
    rig.episodes(*ENDS)
    rig.close()
    path = tmp_path / "store" / RECORD_FILE
    path.write_bytes(spoil(path.read_bytes()))
    for told, found in (1, 0), (0, 1):
        caplog.clear()
        rig = Rig(maker, tmp_path / "store")
        assert sum(RECORD_FILE in each.getMessage() for each in caplog.records) == told
        assert rig.swap._good.record.episodes == found
        rig.episodes(True)
        rig.close()


def test_what_lies_in_the_files_place_costs_the_record_alone(
    maker: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "store" / RECORD_FILE).mkdir(parents=True)
    rig = Rig(maker, tmp_path / "store")
    rig.episodes(*ENDS)
    assert bound(rig) == required(ENDS), "it is only not kept"
    rig.close()
    told = [each.getMessage() for each in caplog.records if RECORD_FILE in each.getMessage()]
    assert len(told) == 2 and "begin anew" in told[0] and "a restart would lose" in told[1]


def test_a_full_disk_costs_what_could_not_be_written(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(maker, tmp_path / "store")
    rig.episodes(True)

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        rig.episodes(*[False] * 4)
        assert rig.swap.report.refusals == 0 and rig.swap.report.trouble == ""
    rig.close()
    assert {each.name for each in (tmp_path / "store").iterdir()} == {"bundles", "lock", "log.jsonl", RECORD_FILE}
    again = Rig(maker, tmp_path / "store")
    assert again.swap._good.record.results == ((True, 1.0),)
    again.close()


def test_the_driving_thread_writes_nothing(maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[str]()
    write = records.replacing
    monkeypatch.setattr(
        records, "replacing", lambda *more: (threads.append(threading.current_thread().name), write(*more))[1]
    )
    rig = Rig(maker, tmp_path / "store", threaded=True)
    rig.thread.post(m.EpisodeEnded(EpisodeOutcome((), True, True, "goal", 1.0)))
    rig.close()
    assert threads == ["adapter_swap"]


def test_the_newest_sets_are_kept_with_no_more_episodes_than_count(maker: Maker, tmp_path: Path) -> None:
    kept = Records(tmp_path, maker.context)
    for k in range(KEEP + 1):
        kept.keep([f"{k:064x}"], Record(((True, float(k)),)))
        kept.keep([f"{0:064x}", f"{99:064x}"], Record(((False, 1.0),)))
    found = Records(tmp_path, maker.context)
    assert [found.of([f"{k:064x}"]).episodes for k in range(KEEP + 1)] == [0, 0, *[1] * (KEEP - 1)]
    assert found.of([f"{99:064x}", f"{0:064x}"]).episodes == 1, "in any order"

    rig = Rig(maker, tmp_path / "store")
    rig.episodes(*[True] * 30)
    rig.close()
    fewer = Rig(maker, tmp_path / "store", replace(OPEN, record_episodes=4))
    assert fewer.swap._good.record.episodes == 8
    fewer.close()
