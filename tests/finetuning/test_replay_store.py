"""The store gives back what was put in, and nothing else: damage, other formats and other writers are kept out."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adawm_planner import durable
from adawm_planner.config.finetuning import ReplayConfig
from adawm_planner.data_types import RewardTerms
from adawm_planner.durable import left_behind
from adawm_planner.finetuning import replay_store
from adawm_planner.finetuning.captured import Captured, seal
from adawm_planner.finetuning.chunk import ChunkFile, chunk_name, encode
from adawm_planner.finetuning.replay_store import (
    ReplayStore,
    StoreBusyError,
    StoreWriteError,
    chunk_files,
    read_decisions,
)
from tests.finetuning.decisions import ADAPTER, decision, first, same

ROOT = Path(__file__).resolve().parents[2]
SMALL = ReplayConfig(chunk_decisions=4)


def filled(folder: Path, count: int = 20, config: ReplayConfig = SMALL) -> list[Captured]:
    """A closed store of decisions 0..count."""
    ones = [first(0), *(decision(k, adapters=(ADAPTER,) * (k % 3)) for k in range(1, count))][:count]
    with ReplayStore(folder, config) as store:
        for one in ones:
            store.append(one)
    return ones


def sequences(folder: Path) -> list[int]:
    return [one.experience.sequence for one in read_decisions(folder)]


def test_what_was_put_in_comes_out_bit_for_bit(tmp_path: Path) -> None:
    ones = filled(tmp_path / "store", 18)
    back = list(read_decisions(tmp_path / "store"))
    assert len(back) == 18 and all(same(mine, its) for mine, its in zip(ones, back, strict=True))
    assert [file.count for file in chunk_files(tmp_path / "store")] == [4, 4, 4, 4, 2]
    with pytest.raises(ValueError, match="read-only"):
        back[0].experience.observation.bev[0, 0, 0] = 1


def test_it_goes_on_where_it_was_closed(tmp_path: Path) -> None:
    filled(tmp_path)
    with ReplayStore(tmp_path, SMALL) as store:
        assert (store.decisions, store.chunks, store.pending) == (20, 5, 0)
        assert not store.append(decision(20)) and store.pending == 1
        store.flush()
        store.flush()
        assert (store.decisions, store.chunks, store.pending) == (21, 6, 0)
    assert sequences(tmp_path) == list(range(21))


@pytest.mark.parametrize(("newest", "begins"), [(1, 16), (4, 16), (5, 12), (1000, 0), (0, 20)])
def test_newest_are_whole_chunks(tmp_path: Path, newest: int, begins: int) -> None:
    filled(tmp_path)
    assert [one.experience.sequence for one in read_decisions(tmp_path, newest)] == list(range(begins, 20))
    with ReplayStore(tmp_path, SMALL) as store:
        assert [one.experience.sequence for one in store.read(newest)] == list(range(begins, 20))


@pytest.mark.slow
def test_a_hundred_thousand_decisions_are_what_they_were(tmp_path: Path) -> None:
    count = int(os.environ.get("ADAWM_DECISIONS", "100000"))
    seals = []
    with ReplayStore(tmp_path, ReplayConfig(chunk_decisions=1000)) as store:
        for k in range(count):
            one = decision(k)
            seals.append(one.seal)
            store.append(one)
    with ReplayStore(tmp_path) as store:
        assert [one.seal for one in store.read()] == seals  # `read` has checked that the values still make them
        assert store.quarantined == []


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_flipped_bit_quarantines_its_chunk_and_no_other(tmp_path: Path, where: float) -> None:
    filled(tmp_path)
    victim = chunk_files(tmp_path)[2].path
    data = bytearray(victim.read_bytes())
    data[round(where * (len(data) - 1))] ^= 1
    victim.write_bytes(data)
    reasons: list[str] = []
    rest = [*range(8), *range(12, 20)]
    assert [one.experience.sequence for one in read_decisions(tmp_path, damaged=reasons.append)] == rest
    assert victim.exists() and len(reasons) == 1 and "sha256" in reasons[0]
    with ReplayStore(tmp_path, SMALL) as store:
        assert [one.experience.sequence for one in store.read()] == rest
        assert store.quarantined == reasons and store.decisions == 16
    aside = tmp_path / "quarantine" / victim.name
    assert not victim.exists() and aside.read_bytes() == data
    assert (tmp_path / "quarantine" / f"{victim.name}.reason.txt").read_text() == f"{reasons[0]}\n"


def damaged_names(tmp_path: Path, data: bytes, count: int) -> list[str]:
    """Reasons for which a store with this one chunk, named as it should be, gives nothing."""
    filled(tmp_path, 0)
    (tmp_path / chunk_name(0, count, data)).write_bytes(data)
    reasons: list[str] = []
    assert list(read_decisions(tmp_path, damaged=reasons.append)) == []
    return reasons


def test_a_decision_that_was_altered_before_it_was_written_is_not_trained_on(tmp_path: Path) -> None:
    ones = [decision(k) for k in range(4)]
    wrong = replace(ones[2].experience, action=ones[1].experience.action)  # the previous step's, as in r2dreamer #9
    ones[2] = replace(ones[2], experience=wrong)
    [reason] = damaged_names(tmp_path, encode(ones), 4)
    assert "decision 2 (sequence 2) is not what was captured" in reason


def test_a_decision_that_is_refused_today_is_not_trained_on_because_it_was_taken_once(tmp_path: Path) -> None:
    ones = [decision(k) for k in range(4)]
    huge = replace(ones[2].experience, reward=RewardTerms(progress=1e30))
    ones[2] = Captured(huge, ones[2].base_digest, 1.5, seal(huge, ones[2].base_digest, 1.5))
    [reason] = damaged_names(tmp_path, encode(ones), 4)
    assert "decision 2 (sequence 2) cannot be one of this planner: reward_progress is" in reason


def test_chunks_up_to_one_may_be_left_out(tmp_path: Path) -> None:
    filled(tmp_path)
    assert [one.experience.sequence for one in read_decisions(tmp_path, 1000, after=2)] == list(range(12, 20))


@pytest.mark.parametrize("data", [b"", b"not a chunk", b"PK\x03\x04"])
def test_other_content_under_a_right_checksum_is_damage(tmp_path: Path, data: bytes) -> None:
    [reason] = damaged_names(tmp_path, data, 1)
    assert "is no chunk" in reason


def test_a_wrong_count_and_a_link_are_damage(tmp_path: Path) -> None:
    [reason] = damaged_names(tmp_path / "count", encode([decision(0)]), 2)
    assert "holds 1 decisions, must hold 2" in reason
    filled(tmp_path / "link", 4)
    file = chunk_files(tmp_path / "link")[0].path
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with ReplayStore(tmp_path / "link", SMALL) as store:
        assert list(store.read()) == [] and "is a link" in store.quarantined[0]


@pytest.mark.parametrize("kind", ["dangling link", "folder", "pipe"])
def test_what_is_no_file_is_set_aside_though_it_is_named_like_a_chunk(tmp_path: Path, kind: str) -> None:
    filled(tmp_path, 4)
    stranger = tmp_path / chunk_name(5, 4, b"")
    if kind == "dangling link":
        stranger.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        (stranger / "within").mkdir(parents=True)
    else:
        os.mkfifo(stranger)
    with ReplayStore(tmp_path, SMALL) as store:
        [reason] = store.quarantined
        what = "a link" if kind == "dangling link" else "no regular file"
        assert reason == f"{stranger.name} is {what}, must be a file"
        assert (store.chunks, store.decisions) == (1, 4)
        store.append(decision(4))
    assert [file.index for file in chunk_files(tmp_path)] == [0, 6]
    assert os.path.lexists(tmp_path / "quarantine" / stranger.name)
    small = ReplayConfig(chunk_decisions=4, most_bytes=4 * 16_384 + 1)
    (tmp_path / "chunk-00000009.part").write_bytes(bytes(small.most_bytes))
    with ReplayStore(tmp_path, small) as store:
        store.append(decision(5))
    assert list((tmp_path / "quarantine").iterdir()) == [], "and makes room like all that is there"


def test_a_chunk_that_the_disk_tells_nothing_of_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    victim, lstat = chunk_files(tmp_path)[2].path, Path.lstat

    def broken(path: Path) -> os.stat_result:
        if path == victim:
            raise OSError(5, "Input/output error")
        return lstat(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", broken)
        with ReplayStore(tmp_path, SMALL) as store:
            assert store.decisions == 16 and store.quarantined == [] and victim.exists()
    with ReplayStore(tmp_path, SMALL) as store:
        assert store.decisions == 20


def test_a_store_that_cannot_be_opened_is_not_busy_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    filled(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(replay_store, "chunk_files", broken)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                ReplayStore(tmp_path)
    ReplayStore(tmp_path).close()


def test_torn_and_misnamed_files_are_set_aside_and_their_numbers_not_used_again(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    (tmp_path / "chunk-00000007.part").write_bytes(b"torn")
    (tmp_path / "chunk-00000003-copy.npz").write_bytes(b"?")
    (tmp_path / "notes.txt").write_text("mine")
    with ReplayStore(tmp_path, SMALL) as store:
        assert len(store.quarantined) == 2
        store.append(decision(4))
    assert [file.index for file in chunk_files(tmp_path)] == [0, 8]
    assert (tmp_path / "quarantine" / "chunk-00000007.part").read_bytes() == b"torn"
    assert (tmp_path / "notes.txt").exists()


def test_the_oldest_chunks_go_and_the_bound_holds(tmp_path: Path) -> None:
    config = ReplayConfig(chunk_decisions=4, most_bytes=4 * 16_384 + 1)
    with ReplayStore(tmp_path, config) as store:
        for k in range(300):
            store.append(decision(k))
            files = sum(path.stat().st_size for path in tmp_path.rglob("chunk-*"))
            assert files == store.size_bytes <= config.most_bytes
        assert store.evicted > 0
        kept = [one.experience.sequence for one in store.read()]
    assert kept == list(range(kept[0], 300)) and 10 < len(kept) < 300


def test_quarantined_files_go_before_any_chunk(tmp_path: Path) -> None:
    config = ReplayConfig(chunk_decisions=4, most_bytes=4 * 16_384 + 1)
    filled(tmp_path, 4)
    (tmp_path / "chunk-00000005.part").write_bytes(bytes(4 * 16_384))
    with ReplayStore(tmp_path, config) as store:
        assert (tmp_path / "quarantine" / "chunk-00000005.part").exists()
        for k in range(4, 8):
            store.append(decision(k))
        assert store.evicted == 0
    assert list((tmp_path / "quarantine").iterdir()) == [] and sequences(tmp_path) == list(range(8))


def test_only_so_many_quarantined_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_store, "QUARANTINED_MOST", 3)
    filled(tmp_path, 0)
    for index in range(5):
        (tmp_path / f"chunk-{index:08d}.part").write_bytes(b"torn")
    ReplayStore(tmp_path).close()
    kept = {path.name for path in (tmp_path / "quarantine").iterdir()}
    assert kept == {f"chunk-{k:08d}.part{end}" for k in (2, 3, 4) for end in ("", ".reason.txt")}


def test_two_processes_cannot_write_to_one_store(tmp_path: Path) -> None:
    with ReplayStore(tmp_path) as store:
        store.append(first(0))
        with pytest.raises(StoreBusyError, match=f"written by process {os.getpid()}; stop that one"):
            ReplayStore(tmp_path)
        code = f"from pathlib import Path\nfrom {replay_store.__name__} import *\nReplayStore(Path({str(tmp_path)!r}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "StoreBusyError" in done.stderr
    store.close()
    with ReplayStore(tmp_path) as store:
        assert store.decisions == 1


def test_other_folders_and_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds photo.jpg but no format.json"):
        ReplayStore(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["photo.jpg"]
    with pytest.raises(ValueError, match="is not a replay store"):
        next(read_decisions(tmp_path / "absent"))
    filled(tmp_path / "store", 4)
    path = tmp_path / "store" / "format.json"
    values = json.loads(path.read_text())
    for change, reason in (
        ({"schema": "adawm.replay/2"}, "schema is adawm.replay/2, this installation needs adawm.replay/1"),
        ({"decision_s": 0.1}, "decision_s is 0.1, this installation needs 0.2"),
        ({"acceleration_bins": [0.0]}, "acceleration_bins"),
    ):
        path.write_text(json.dumps({**values, **change}))
        with pytest.raises(ValueError, match=reason):
            ReplayStore(tmp_path / "store")
        with pytest.raises(ValueError, match=reason):
            next(read_decisions(tmp_path / "store"))
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="must hold an object|cannot be read as JSON"):
            ReplayStore(tmp_path / "store")


KILLED_WHILE_MADE = """
import os, signal, sys
from pathlib import Path
from adawm_planner import durable
from adawm_planner.finetuning.replay_store import ReplayStore

durable.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
ReplayStore(Path(sys.argv[1]))
"""


def test_a_kill_while_a_store_is_made_leaves_a_folder_that_can_become_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_MADE, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(left_behind(tmp_path / "format.json")) == 1 and not (tmp_path / "format.json").exists()
    filled(tmp_path, 4)
    assert sequences(tmp_path) == list(range(4)) and not left_behind(tmp_path / "format.json")


def test_two_that_make_a_store_at_once_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = replay_store._take_lock

    def other_first(folder: Path) -> int:
        monkeypatch.setattr(replay_store, "_take_lock", take)
        filled(folder, 4)
        (folder / "format.json").write_text('{"schema": "adawm.replay/2"}')
        return take(folder)

    monkeypatch.setattr(replay_store, "_take_lock", other_first)
    with pytest.raises(ValueError, match=r"schema is adawm.replay/2"):  # and not replaced with ours
        ReplayStore(tmp_path, SMALL)
    assert "replay/2" in (tmp_path / "format.json").read_text()


FULL_DISK = """
import resource, sys
from pathlib import Path
from adawm_planner.config.finetuning import ReplayConfig
from adawm_planner.finetuning.replay_store import ReplayStore, StoreWriteError
from tests.finetuning.decisions import decision

store = ReplayStore(Path(sys.argv[1]), ReplayConfig(chunk_decisions=4))
for k in range(8):
    store.append(decision(k))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for k in range(8, 16):
    try:
        store.append(decision(k))
    except StoreWriteError as error:
        print(error)
print("lost", store.lost, "readable", [one.experience.sequence for one in store.read()])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for k in range(16, 20):
    store.append(decision(k))
print("after", [one.experience.sequence for one in store.read()])
"""


def test_a_full_disk_is_told_and_what_was_written_stays_readable(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *told, readable, after = done.stdout.splitlines()
    assert len(told) == 2 and all("cannot be written" in line and "4 decisions are lost" in line for line in told)
    assert "free disk space" in told[0]
    assert readable == f"lost 8 readable {list(range(8))}"
    assert after == f"after {[*range(8), *range(16, 20)]}"
    assert not list(tmp_path.glob("*.part")) and sequences(tmp_path) == [*range(8), *range(16, 20)]


def test_closing_on_a_full_disk_lets_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ReplayStore(tmp_path)
    store.append(first(0))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreWriteError, match="No space left"):
        store.close()
    monkeypatch.undo()
    ReplayStore(tmp_path).close()


def test_a_chunk_whose_name_is_not_durable_yet_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sync = durable.sync

    def no_folder(path: Path) -> None:
        if path.is_dir():
            raise OSError(5, "Input/output error")
        sync(path)

    with ReplayStore(tmp_path, SMALL) as store:
        with monkeypatch.context() as patched:
            patched.setattr(durable, "sync", no_folder)
            for k in range(8):
                store.append(decision(k))
        assert (store.decisions, store.chunks, store.lost) == (8, 2, 0)
        assert store.size_bytes == sum(file.path.stat().st_size for file in chunk_files(tmp_path))
        assert [one.experience.sequence for one in store.read()] == list(range(8))
    assert [file.index for file in chunk_files(tmp_path)] == [0, 1]
    assert len(caplog.messages) == 2 and "would not survive a loss of power now ([Errno 5]" in caplog.text


def test_a_chunk_that_could_not_be_evicted_goes_later_and_the_bound_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, unlink = ReplayConfig(chunk_decisions=4, most_bytes=4 * 16_384 + 1), Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".npz":
            raise OSError(30, "Read-only file system")
        unlink(path, missing_ok)

    with ReplayStore(tmp_path, config) as store:
        k = 0
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refused)
            while store.lost < 8:
                try:
                    store.append(decision(k))
                except StoreWriteError as error:
                    assert "Read-only file system" in str(error)
                k += 1
        assert store.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("chunk-*")) <= config.most_bytes
        assert store.evicted == 0 and store.decisions == k - 8
        for _ in range(4):
            store.append(decision(k))
            k += 1
        assert store.evicted > 0
        assert store.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("chunk-*")) <= config.most_bytes
        assert chunk_files(tmp_path)[0].index > 0


def test_a_chunk_evicted_while_it_is_read_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    reading = read_decisions(tmp_path, damaged=pytest.fail)
    assert next(reading).experience.sequence == 0
    chunk_files(tmp_path)[1].path.unlink()
    with caplog.at_level(logging.WARNING):
        assert [one.experience.sequence for one in reading] == [1, 2, 3, *range(8, 20)]
    assert caplog.records == []


def test_a_chunk_that_the_disk_does_not_give_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    victim, read_bytes = chunk_files(tmp_path)[2].path, Path.read_bytes

    def broken(path: Path) -> bytes:
        if path == victim:
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    reasons: list[str] = []
    rest = [one.experience.sequence for one in read_decisions(tmp_path, damaged=reasons.append)]
    assert rest == [*range(8), *range(12, 20)]
    assert reasons == [f"{victim.name} cannot be read ([Errno 5] Input/output error)"] and victim.exists()


def test_config_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="replay.chunk_decisions is 0, must be above 0"):
        ReplayConfig(chunk_decisions=0)
    with pytest.raises(ValueError, match="replay.most_bytes is 1000, must be above"):
        ReplayConfig(most_bytes=1000)


def test_names_tell_what_a_file_must_be(tmp_path: Path) -> None:
    file = ChunkFile.of(tmp_path / chunk_name(12, 34, b"data"))
    assert file is not None and (file.index, file.count) == (12, 34)
    assert ChunkFile.of(tmp_path / "chunk-00000012.part") is None
