"""What the store remembers, in which order things may happen, and what is left of it after a kill at any step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adawm_planner.adapters import bundle
from adawm_planner.adapters.log import OWN, PREVIOUS, START, AppendLog, read_log
from adawm_planner.adapters.refusal import Reason, Refusal, Refused
from adawm_planner.adapters.store import BUNDLES, LOG_FILE, AdapterStore, entries, read_state
from adawm_planner.adapters.store_state import Status
from adawm_planner.adapters.strict_json import canonical
from adawm_planner.adapters.verify import VerifiedAdapter, verify
from adawm_planner.finetuning.memory import Memory
from tests.adapters.conftest import NOW, Maker

STEPS = ("mkdir", "open", "write", "fsync", "rename", "ftruncate", "rmdir", "unlink")
"""Functions of `os` through which everything of the store reaches the disk."""


@pytest.fixture(scope="module")
def adapters(maker: Maker) -> list[VerifiedAdapter]:
    """Four policy adapters with counters 7 to 10, and a dynamics adapter."""
    made = [maker.files(counter=7 + k, name=f"p{k}", factors=maker.factors(seed=k)) for k in range(4)]
    found = [verify(files, maker.context, NOW) for files in [*made, maker.files(part="dynamics", counter=1, name="d")]]
    assert all(isinstance(each, VerifiedAdapter) for each in found), found
    return [each for each in found if isinstance(each, VerifiedAdapter)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AdapterStore]:
    with AdapterStore(tmp_path / "store", NOW) as store:
        yield store


def committed(store: AdapterStore, adapter: VerifiedAdapter) -> None:
    store.install(adapter, NOW)
    store.activate(adapter.digest, NOW)
    store.commit(adapter.manifest.part, NOW)


def reason_of(act: Callable[[], Any]) -> Reason:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.refusal.reason


def test_only_what_was_committed_comes_back(tmp_path: Path, maker: Maker, adapters: list[VerifiedAdapter]) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        committed(store, adapters[0])
        store.install(adapters[1], NOW)
        store.activate(adapters[1].digest, NOW)
        assert store.part("policy").current == adapters[1].digest
    with AdapterStore(root, NOW) as store:
        assert [note for note in store.notes if "was on probation, rolled back" in note]
        found, refusals = store.restore("policy", maker.context, NOW)
        assert found is not None and found.digest == adapters[0].digest and refusals == []
        assert dict(found.files) == dict(adapters[0].files)
        assert store.restore("dynamics", maker.context, NOW) == (None, [])
    with AdapterStore(root, NOW) as store:
        assert store.notes == [], "and only the first restart finds it"


def test_rolling_back_goes_to_the_last_good_one_and_then_to_the_base(
    store: AdapterStore, adapters: list[VerifiedAdapter]
) -> None:
    for each in adapters[:3]:
        committed(store, each)
    one, two = adapters[1].digest, adapters[2].digest
    assert store.part("policy").good == (one, two)
    assert store.rollback("policy", NOW, "operator") == one
    assert store.rollback("policy", NOW, "operator") is None
    with pytest.raises(ValueError, match="drives with the base model already"):
        store.rollback("policy", NOW, "operator")
    statuses = {each.bundle.name: each.status for each in store.entries()}
    assert statuses == {"p0": Status.INSTALLED, "p1": Status.ROLLED_BACK, "p2": Status.ROLLED_BACK}


def test_to_the_base_at_once_and_the_other_part_stays(store: AdapterStore, adapters: list[VerifiedAdapter]) -> None:
    for each in (*adapters[:2], adapters[4]):
        committed(store, each)
    store.install(adapters[2], NOW)
    store.activate(adapters[2].digest, NOW)
    assert store.rollback("policy", NOW, "operator", to_base=True) is None
    assert store.part("policy").good == () and store.part("dynamics").current == adapters[4].digest


def test_order_of_steps(store: AdapterStore, adapters: list[VerifiedAdapter]) -> None:
    first, second = adapters[:2]
    assert reason_of(lambda: store.activate(first.digest, NOW)) is Reason.UNKNOWN_BUNDLE
    with pytest.raises(ValueError, match="nothing to commit"):
        store.commit("policy", NOW)
    store.install(first, NOW)
    assert reason_of(lambda: store.install(first, NOW)) is Reason.DUPLICATE
    store.activate(first.digest, NOW)
    store.install(second, NOW)
    assert reason_of(lambda: store.activate(second.digest, NOW)) is Reason.BUSY
    assert store.part("policy").current == first.digest
    with pytest.raises(ValueError, match="part 'encoder' is unknown"):
        store.pin("encoder", True, NOW)


def test_a_pin_survives_a_restart_and_keeps_the_base_too(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        store.install(adapters[0], NOW)
        store.pin("policy", True, NOW)
    with AdapterStore(root, NOW) as store:
        assert store.seen().pinned == {"policy"} and store.part("policy").current is None
        assert reason_of(lambda: store.activate(adapters[0].digest, NOW)) is Reason.PINNED
        store.pin("policy", False, NOW)
        store.activate(adapters[0].digest, NOW)


def test_counters_and_digests_outlive_the_files(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW, keep=2) as store:
        for each in adapters[:2]:
            committed(store, each)
        store.rollback("policy", NOW, "operator", to_base=True)
        for each in adapters[2:4]:
            store.install(each, NOW)
    with AdapterStore(root, NOW, keep=2) as store:
        held = {each.name for each in (root / BUNDLES).iterdir()}
        assert held == {each.digest for each in adapters[2:4]}
        assert store.seen().counters == {"policy": 10} and len(store.seen().known) == 4
        assert reason_of(lambda: store.activate(adapters[0].digest, NOW)) is Reason.UNKNOWN_BUNDLE


def test_what_drives_is_never_removed(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    with AdapterStore(tmp_path / "store", NOW, keep=1) as store:
        for each in adapters[:2]:
            committed(store, each)
        for each in adapters[2:4]:
            store.install(each, NOW)
        held = {path.name for path in (tmp_path / "store" / BUNDLES).iterdir()}
    assert held == {adapters[0].digest, adapters[1].digest, adapters[3].digest}


def test_a_damaged_adapter_gives_way_to_the_last_good_one(
    store: AdapterStore, maker: Maker, adapters: list[VerifiedAdapter]
) -> None:
    for each in adapters[:2]:
        committed(store, each)
    file = store.root / BUNDLES / adapters[1].digest / "planner.onnx_adapter"
    file.write_bytes(file.read_bytes()[:-1])
    found, refusals = store.restore("policy", maker.context, NOW)
    assert found is not None and found.digest == adapters[0].digest
    assert [each.reason for each in refusals] == [Reason.FILE_SIZE]
    assert store.part("policy").good == (adapters[0].digest,)


@pytest.mark.parametrize("why", ["other_base", "rank", "untrusted_key"])
def test_a_start_with_a_wrong_parameter_costs_no_adapter(
    store: AdapterStore, maker: Maker, adapters: list[VerifiedAdapter], why: str
) -> None:
    for each in adapters[:2]:
        committed(store, each)
    ours, before = maker.context, store.part("policy")
    wrong = {
        "other_base": replace(ours, base=replace(ours.base, digest="0" * 64)),
        "rank": replace(ours, limits=replace(ours.limits, rank=1)),
        "untrusted_key": replace(ours, trust={}),
    }[why]
    found, refusals = store.restore("policy", wrong, NOW)
    assert found is None and [each.reason.value for each in refusals] == [why, why]
    assert store.part("policy") == before
    found, refusals = store.restore("policy", ours, NOW)
    assert found is not None and found.digest == adapters[1].digest and refusals == []


def test_a_restart_asks_for_trust_but_not_for_freshness(
    store: AdapterStore, maker: Maker, adapters: list[VerifiedAdapter]
) -> None:
    committed(store, adapters[0])
    late = NOW + 10**9
    assert isinstance(store.load(adapters[0].digest, replace(maker.context, seen=store.seen()), late), VerifiedAdapter)
    refusal = store.load(adapters[0].digest, replace(maker.context, trust={}), NOW)
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.UNTRUSTED_KEY
    unknown = store.load("0" * 64, maker.context, NOW)
    assert isinstance(unknown, Refusal) and unknown.reason is Reason.UNKNOWN_BUNDLE


def test_one_process_at_a_time_and_readers_at_any_time(store: AdapterStore, adapters: list[VerifiedAdapter]) -> None:
    committed(store, adapters[0])
    with pytest.raises(ValueError, match="another process has this adapter store open"):
        AdapterStore(store.root, NOW)
    assert [each.status for each in entries(read_state(store.root))] == [Status.COMMITTED]
    with pytest.raises(ValueError, match="no adapter store"):
        read_state(store.root / BUNDLES)


@pytest.mark.parametrize("garbage", [b'{"event":"committed"', b"\x00" * 64, b"{}", b"\r"])
def test_a_torn_last_line_is_cut_off_and_reported(
    tmp_path: Path, adapters: list[VerifiedAdapter], garbage: bytes
) -> None:
    log = tmp_path / "store" / LOG_FILE
    with AdapterStore(tmp_path / "store", NOW) as store:
        committed(store, adapters[0])
    whole = log.read_bytes()
    log.write_bytes(whole + garbage)
    assert [each.status for each in entries(read_state(log.parent))] == [Status.COMMITTED]
    with AdapterStore(tmp_path / "store", NOW) as store:
        assert any(f"{len(garbage)} bytes of a line" in note for note in store.notes)
        assert store.part("policy").current == adapters[0].digest
        assert log.read_bytes() == whole


def test_any_flipped_bit_of_the_last_line_is_an_error(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    """It counted: without it counters would go back, and what an operator rolled back would drive again."""
    log = tmp_path / "store" / LOG_FILE
    with AdapterStore(tmp_path / "store", NOW) as store:
        store.install(adapters[0], NOW)
        store.pin("policy", True, NOW)
    whole = log.read_bytes()
    begin, number = whole[:-1].rindex(b"\n") + 1, whole.count(b"\n")
    own = whole.index(f'"{OWN}"'.encode(), begin)
    for place in range(begin, len(whole)):
        if own < place <= own + len(OWN):
            continue  # under another name it is a line of before, which says what it said
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            log.write_bytes(damaged)
            with pytest.raises(ValueError, match=f"line {number} is damaged"):
                read_log(log)


def test_a_log_whose_lines_do_not_hold_their_own_hash_is_still_read(
    tmp_path: Path, adapters: list[VerifiedAdapter]
) -> None:
    log, head, lines = tmp_path / "store" / LOG_FILE, START, []
    with AdapterStore(tmp_path / "store", NOW) as store:
        committed(store, adapters[0])
        records = [json.loads(line) for line in log.read_bytes().splitlines()]
    for record in records:
        old = {name: value for name, value in record.items() if name != OWN}
        lines.append(canonical({**old, PREVIOUS: head}))
        head = hashlib.sha256(lines[-1]).hexdigest()
    log.write_bytes(b"".join(lines))
    with AdapterStore(tmp_path / "store", NOW) as store:
        assert store.notes == [] and store.part("policy").current == adapters[0].digest
        store.rollback("policy", NOW, "operator")
    found = read_log(log).records
    assert [OWN in record for record in found] == [False, False, False, True]


@pytest.mark.parametrize("step", ["store._take", "log.os.ftruncate", "store.replay", "store.AdapterStore._tidy"])
def test_a_store_that_cannot_be_opened_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    AdapterStore(tmp_path, NOW).close()
    (tmp_path / LOG_FILE).write_bytes(b"{")  # torn
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(f"adawm_planner.adapters.{step}", broken)
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output error"):
                AdapterStore(tmp_path, NOW)
    assert len(os.listdir("/proc/self/fd")) == before
    AdapterStore(tmp_path, NOW).close()


@pytest.mark.parametrize("change", ["drop", "swap", "edit"])
def test_damage_before_the_last_line_is_an_error_that_names_the_line(
    tmp_path: Path, adapters: list[VerifiedAdapter], change: str
) -> None:
    with AdapterStore(tmp_path / "store", NOW) as store:
        committed(store, adapters[0])
        store.rollback("policy", NOW, "operator")
    log = tmp_path / "store" / LOG_FILE
    lines = log.read_bytes().splitlines(keepends=True)
    if change == "drop":
        del lines[1]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[1] = lines[1].replace(b"activated", b"committed")
    log.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"line [23] is damaged .* base model"):
        AdapterStore(tmp_path / "store", NOW)


@pytest.mark.parametrize("call", ["scandir", "fstat", "read"])
def test_a_bundle_that_the_disk_does_not_give_gives_way_and_stays_for_another_start(
    tmp_path: Path, maker: Maker, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def bad_sector(*arguments: Any, **options: Any) -> Any:
        raise OSError(5, "Input/output error")

    with AdapterStore(tmp_path / "store", NOW) as store:
        committed(store, adapters[0])
        with monkeypatch.context() as patched:
            if call == "read":
                patched.setattr(bundle, "open", bad_sector, raising=False)
            else:
                patched.setattr(os, call, bad_sector)
            found, refusals = store.restore("policy", maker.context, NOW)
        assert found is None and [each.reason for each in refusals] == [Reason.UNREADABLE]
        assert "Input/output error" in str(refusals[0])
        found, _ = store.restore("policy", maker.context, NOW)
        assert found is not None and found.digest == adapters[0].digest


def test_a_folder_whose_name_is_too_long_is_refused(maker: Maker) -> None:
    assert reason_of(lambda: bundle.read_bundle(Path("/" + 300 * "a"), maker.context.limits)) is Reason.UNREADABLE


def test_a_store_opens_on_a_full_disk_and_writes_later_what_it_rolled_back(
    tmp_path: Path, maker: Maker, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        committed(store, adapters[0])
        committed(store, adapters[1])
        store.install(adapters[2], NOW)
        store.activate(adapters[2].digest, NOW)
    next((root / BUNDLES / adapters[1].digest).glob("*.safetensors")).write_bytes(b"damaged")
    before = (root / LOG_FILE).read_bytes()
    for _ in range(2):  # what is not on disk yet is found again
        with monkeypatch.context() as patched:
            patched.setattr(AppendLog, "append", fail)
            with AdapterStore(root, NOW) as store:
                found, refusals = store.restore("policy", maker.context, NOW)
                assert found is not None and found.digest == adapters[0].digest and len(refusals) == 1
                assert store.part("policy").held == (adapters[0].digest,)
                with pytest.raises(OSError, match="No space left"):
                    store.pin("policy", True, NOW)
                assert (root / LOG_FILE).read_bytes() == before
    with monkeypatch.context() as patched:
        patched.setattr(AppendLog, "append", fail)
        store = AdapterStore(root, NOW)
        store.restore("policy", maker.context, NOW)
    store.pin("policy", True, NOW)
    store.close()
    records = read_log(root / LOG_FILE).records[-3:]
    assert [(each["event"], each["digest"]) for each in records] == [
        ("rolled_back", adapters[2].digest),
        ("rolled_back", adapters[1].digest),
        ("pinned", adapters[0].digest),
    ]
    assert [each.get("why") for each in records[:2]] == [
        "not committed before the restart",
        "refused at start: file_size",
    ]


def test_a_full_disk_leaves_the_store_as_it_was(
    store: AdapterStore, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(store, adapters[0])
    log, write = (store.root / LOG_FILE).read_bytes(), os.write

    def full(descriptor: int, content: bytes) -> int:
        monkeypatch.setattr(os, "write", fail)
        return write(descriptor, bytes(content)[: len(content) // 2])

    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    for act in (
        lambda: store.install(adapters[1], NOW),
        lambda: store.pin("policy", True, NOW),
    ):
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            act()
        monkeypatch.setattr(os, "write", write)
        assert (store.root / LOG_FILE).read_bytes() == log and not store.seen().pinned
    store.install(adapters[1], NOW)
    assert store.part("policy").current == adapters[0].digest


def fail(*arguments: Any, **options: Any) -> Any:
    raise OSError(28, "No space left on device")


def test_a_bundle_that_the_log_could_not_name_is_installed_later_as_if_never_tried(
    store: AdapterStore, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(AppendLog, "append", fail)
        with pytest.raises(OSError, match="No space left"):
            store.install(adapters[0], NOW)
        assert list((store.root / BUNDLES).iterdir()) == [] and store.entries() == []
        patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        with pytest.raises(OSError, match="No space left"):
            store.install(adapters[0], NOW)
    assert [path.name for path in (store.root / BUNDLES).iterdir()] == [adapters[0].digest], "it could not be removed"
    committed(store, adapters[0])
    assert store.part("policy").current == adapters[0].digest


def test_old_files_that_cannot_make_room_do_not_cost_the_new_bundle(
    tmp_path: Path, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = AppendLog.append

    def no_removal(log: AppendLog, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return fail() if values["event"] == "removed" else append(log, values)

    with AdapterStore(tmp_path / "store", NOW, keep=1) as store:
        store.install(adapters[0], NOW)
        with monkeypatch.context() as patched:
            patched.setattr(AppendLog, "append", no_removal)
            store.install(adapters[1], NOW)
        assert "No space left on device: the files of old bundles stay for now" in caplog.text
        assert len(list((tmp_path / "store" / BUNDLES).iterdir())) == 2
        store.install(adapters[2], NOW)
        assert [path.name for path in (tmp_path / "store" / BUNDLES).iterdir()] == [adapters[2].digest]


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that a folder holds: path in it -> content, None for a folder."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def test_what_others_put_there_is_told_and_stays_and_stops_nobody(
    tmp_path: Path, adapters: list[VerifiedAdapter]
) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        committed(store, adapters[0])
    (root / BUNDLES / ".DS_Store").write_text("x")
    (root / BUNDLES / "brakes-policy").mkdir()
    (root / BUNDLES / "brakes-policy" / "manifest.json").write_text("{}")
    (root / BUNDLES / ("a" * 64)).symlink_to(root / BUNDLES / "brakes-policy")
    (root / BUNDLES / ("b" * 64)).mkdir()
    (root / BUNDLES / ("b" * 64) / "notes.txt").write_text("x")
    (root / "staging").mkdir()
    (root / "staging" / "notes.txt").write_text("x")
    before = everything(root)
    with AdapterStore(root, NOW) as store:
        places = ("staging", *(f"{BUNDLES}/{name}" for name in (".DS_Store", "brakes-policy", "a" * 64, "b" * 64)))
        stays = "was not made by this store and stays; move it to another folder"
        assert set(store.notes) == {f"{place}: {stays}" for place in places}
        assert store.part("policy").current == adapters[0].digest
    assert everything(root) == before


def test_what_a_kill_left_is_removed_or_told_and_stops_nobody(
    tmp_path: Path, adapters: list[VerifiedAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, left = tmp_path / "store", (f"{BUNDLES}/{'a' * 64}", "staging")
    with AdapterStore(root, NOW) as store:
        committed(store, adapters[0])
    for place in left:
        (root / place).mkdir()
        (root / place / "manifest.json").write_text("{}")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with AdapterStore(root, NOW) as store:
            told = "of no adapter in the store, cannot be removed (No space left on device); remove it by hand"
            assert store.notes == [f"{place}: {told}" for place in left]
            assert store.part("policy").current == adapters[0].digest
    with AdapterStore(root, NOW) as store:
        assert store.notes == [f"{place}: of no adapter in the store, removed" for place in left]
    assert [path.name for path in (root / BUNDLES).iterdir()] == [adapters[0].digest]


def test_what_is_found_at_a_start_is_logged(
    tmp_path: Path, adapters: list[VerifiedAdapter], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        store.install(adapters[0], NOW)
        store.activate(adapters[0].digest, NOW)
    assert caplog.messages == []
    (root / LOG_FILE).open("ab").write(b"{")
    (root / BUNDLES / "mine").mkdir()
    with AdapterStore(root, NOW) as store:
        assert (
            len(store.notes) == 3 and f"policy: {adapters[0].digest[:12]} was on probation, rolled back" in store.notes
        )
        assert caplog.messages == [f"{root}: {note}" for note in store.notes]


@pytest.mark.parametrize("place", ["bundles/brakes-policy/manifest.json", "staging/notes.txt"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, place: str) -> None:
    """As where the store is put into the folder whose `bundles` an operator fills, see docs/adapters.md."""
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("x")
    before = everything(tmp_path)
    left = "/".join(place.split("/")[:-1])
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"holds {left} but no log.jsonl.* name another adapters.store"):
            AdapterStore(tmp_path, NOW)
    assert everything(tmp_path) == before


def test_a_lost_log_is_refused_and_nothing_is_removed(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    """A new one would forget counters, pins and what was committed."""
    root = tmp_path / "store"
    with AdapterStore(root, NOW) as store:
        committed(store, adapters[0])
        store.pin("policy", True, NOW)
    log = (root / LOG_FILE).read_bytes()
    (root / LOG_FILE).unlink()
    with pytest.raises(ValueError, match="but no log.jsonl.*restore log.jsonl, or move the folder away"):
        AdapterStore(root, NOW)
    (root / LOG_FILE).write_bytes(log)
    with AdapterStore(root, NOW) as store:
        assert store.notes == [] and store.part("policy").current == adapters[0].digest


def test_a_first_start_that_was_killed_before_there_was_a_log_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / BUNDLES).mkdir()
    (tmp_path / "lock").touch()
    AdapterStore(tmp_path, NOW).close()


def test_store_and_finetuner_never_share_a_folder(tmp_path: Path, adapters: list[VerifiedAdapter]) -> None:
    """Each would sweep the other's bundles away."""
    theirs, ours, base = tmp_path / "finetuner", tmp_path / "store", "b" * 64
    Memory(theirs, base)
    before = everything(theirs)
    with pytest.raises(ValueError, match=r"holds state.json, so it is a finetuner's state_dir; name another adapters"):
        AdapterStore(theirs, NOW)
    assert everything(theirs) == before
    with AdapterStore(ours, NOW) as store:
        committed(store, adapters[0])
    before = everything(ours)
    with pytest.raises(ValueError, match=r"holds log.jsonl, so it is a planner's adapters.store; name another state_d"):
        Memory(ours, base)
    assert everything(ours) == before


# Killed at every step


def life(root: Path, adapters: list[VerifiedAdapter], done: Callable[[str], None]) -> None:
    """A store's life, from nothing, over a restart, to the point where old files make room."""
    with AdapterStore(root, NOW, keep=2) as store:
        done("opened")
        committed(store, adapters[0])
        done("first committed")
        store.install(adapters[1], NOW)
        store.activate(adapters[1].digest, NOW)
        done("second active")
    with AdapterStore(root, NOW, keep=2) as store:
        store.install(adapters[2], NOW)
        store.activate(adapters[2].digest, NOW)
        store.commit("policy", NOW)
        done("third committed")
        store.rollback("policy", NOW, "operator")
        done("third rolled back")


EXPECTED: Mapping[str, tuple[int | None, ...]] = {
    "": (None,),
    "opened": (None, 0),
    "first committed": (0,),
    "second active": (0, 2),
    "third committed": (2, 0),
    "third rolled back": (0,),
}
"""Last thing known to be done -> what may drive after the kill, by number; what was begun may have happened."""


def in_child(act: Callable[[], None]) -> int:
    """Wait status of a fork that runs this and ends."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def kill_at(step: int, root: Path, adapters: list[VerifiedAdapter], marks: Path) -> None:
    """Live, and die before step number `step`; a write dies half-way."""
    count = 0

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            changes_nothing = name == "open" and not arguments[1] & os.O_CREAT
            count += not changes_nothing
            if count == step and not changes_nothing:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    real_open = os.open
    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))

    def done(what: str) -> None:
        descriptor = real_open(marks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        real_write(descriptor, json.dumps([what, count]).encode())
        os.close(descriptor)

    life(root, adapters, done)


real_write = os.write


@pytest.mark.slow
def test_a_kill_at_every_step_leaves_a_store_that_drives_with_what_was_committed(
    tmp_path: Path, maker: Maker, adapters: list[VerifiedAdapter]
) -> None:
    assert in_child(lambda: kill_at(0, tmp_path / "whole", adapters, tmp_path / "whole.marks")) == 0
    _, steps = json.loads((tmp_path / "whole.marks").read_text())
    assert steps > 60, f"only {steps} steps: the hook misses some"
    numbers = {each.digest: number for number, each in enumerate(adapters)} | {None: None}
    found_states = set()
    for step in range(1, steps + 1):
        root, marks = tmp_path / f"store-{step}", tmp_path / f"marks-{step}"
        status = in_child(lambda step=step, root=root, marks=marks: kill_at(step, root, adapters, marks))  # type: ignore[misc]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"step {step}"
        last = json.loads(marks.read_text())[0] if marks.exists() else ""
        with AdapterStore(root, NOW) as store:
            current = store.part("policy").current
            assert numbers[current] in EXPECTED[last], f"killed at step {step} after '{last}'"
            assert store.part("policy").active is None
            found, refusals = store.restore("policy", maker.context, NOW)
            assert refusals == [] and (found.digest if found else None) == current
            assert (root / BUNDLES).is_dir() and not list(root.glob("staging*"))
            committed(store, adapters[3])  # and it goes on
            assert store.part("policy").current == adapters[3].digest
        found_states.add(numbers[current])
    assert found_states == {None, 0, 2}
