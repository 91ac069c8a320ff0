"""The table of faults: whole, without doubles, and every row has a promise that can be tested."""

from __future__ import annotations

import pytest

from adawm_planner.faults.table import (
    CLOCK,
    EVERYTHING,
    FAULTS,
    LATCHED,
    OVERRIDE,
    PLANNER,
    PROPOSALS,
    WORLD,
    Due,
    Fault,
    Kind,
    Promise,
    find,
)
from adawm_planner.runtime.frame_inputs import FRAME_PARTS


def test_names_are_unique_and_found() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert all(find(name).name == name for name in names)


@pytest.mark.parametrize("where", FRAME_PARTS)
def test_every_part_of_a_frame_fails_in_every_way(where: str) -> None:
    found = {fault.kind for fault in FAULTS if fault.where == where}
    wanted = {
        Kind.KILL,
        Kind.FREEZE,
        Kind.SLOW,
        Kind.DELAY,
        Kind.DUPLICATE,
        Kind.REORDER,
        Kind.NAN,
        Kind.WRONG_FRAME,
        Kind.TIME_FORWARD,
        Kind.TIME_BACKWARD,
        Kind.PLACE,
    }
    assert found >= wanted


@pytest.mark.parametrize("where", [CLOCK, WORLD])
def test_what_no_frame_needs_stops_nobody(where: str) -> None:
    found = {fault.kind: fault.promise.due for fault in FAULTS if fault.where == where}
    assert {Kind.KILL, Kind.FREEZE, Kind.SLOW, Kind.DELAY, Kind.DUPLICATE, Kind.REORDER} <= set(found)
    assert set(found.values()) == {Due.DRIVE}


def test_planner_clock_and_the_whole_bridge_fail_too() -> None:
    kinds = {(fault.where, fault.kind) for fault in FAULTS}
    planner = (Kind.KILL, Kind.STOP, Kind.BUSY, Kind.CALLBACK_ERROR, Kind.MODEL_ERROR, Kind.LATE)
    assert kinds >= {(PLANNER, kind) for kind in planner}
    assert kinds >= {(CLOCK, Kind.FREEZE), (CLOCK, Kind.TIME_BACKWARD), (EVERYTHING, Kind.LOSS)}


def test_proposals_fail_in_every_way_that_a_message_can() -> None:
    found = {fault.kind: fault for fault in FAULTS if fault.where == PROPOSALS}
    due = {kind: fault.promise.due for kind, fault in found.items() if kind not in (Kind.SLOW, Kind.DELAY)}
    stops = (Kind.FREEZE, Kind.NAN, Kind.TIME_FORWARD, Kind.TIME_BACKWARD)
    drives = (Kind.DUPLICATE, Kind.REORDER, Kind.WRONG_FRAME)
    assert due == dict.fromkeys(stops, Due.STOP) | dict.fromkeys(drives, Due.DRIVE)
    for kind in (Kind.SLOW, Kind.DELAY):
        found_due = {fault.promise.due for fault in FAULTS if (fault.where, fault.kind) == (PROPOSALS, kind)}
        assert found_due == {Due.STOP, Due.DRIVE}


@pytest.mark.parametrize("where", LATCHED)
def test_what_is_sent_once_goes_twice_or_wrong_too(where: str) -> None:
    kinds = {fault.kind for fault in FAULTS if fault.where == where}
    assert kinds >= {Kind.KILL, Kind.DUPLICATE, Kind.NAN, Kind.PLACE}


def test_a_person_takes_over_for_good_and_for_a_while() -> None:
    found = {fault.name: fault.promise.due for fault in FAULTS if fault.where == OVERRIDE}
    assert found == {"manual_override_on": Due.YIELD, "manual_override_on_passing": Due.DRIVE}


def test_a_pause_that_is_none_stops_a_vehicle_only_where_its_frames_end() -> None:
    found = {fault.where: fault for fault in FAULTS if fault.kind is Kind.PAUSED}
    assert {where: fault.promise.due for where, fault in found.items()} == {WORLD: Due.DRIVE, EVERYTHING: Due.STOP}
    assert [fault for fault in FAULTS if fault.on_vehicle] == [found[EVERYTHING]]


def test_faults_begin_with_a_frame_or_within_one() -> None:
    assert find("odometry_kill").in_bridge and find("vehicle_info_kill").in_bridge
    assert not any(find(name).in_bridge for name in ("planner_kill", "proposal_freeze", "disk_full", "model_cut"))


def test_an_unknown_name_is_told_with_those_like_it() -> None:
    with pytest.raises(ValueError, match="no fault 'planner_tired'; there are planner_kill, planner_sigstop"):
        find("planner_tired")


@pytest.mark.parametrize(("due", "limit"), [(Due.DRIVE, 0.1), (Due.YIELD, 0.1), (Due.STOP, 0.0), (Due.BRAKE, -1.0)])
def test_a_promise_without_sense_is_refused(due: Due, limit: float) -> None:
    with pytest.raises(ValueError, match=f"{due.value} has a limit of {limit}"):
        Promise(due, limit)


def test_a_fault_is_somewhere() -> None:
    with pytest.raises(ValueError, match="fault in 'moon', must be in one of"):
        Fault("moon", Kind.KILL, "", Promise(Due.DRIVE))
