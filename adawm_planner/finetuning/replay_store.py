"""Sealed decisions in, an append-only replay on disk, the same decisions out: across kills, full disks, flipped bits.

A store is a folder. Decisions are gathered in memory and written a chunk at a time: to a temporary name, flushed to
the disk, then renamed to a name that holds the checksum. So a chunk is whole or absent, and a kill at any moment loses
at most the one that was being gathered or written. What is torn or altered is never given out. Its writer moves it to
`quarantine/` beside a file with the reason: when it opens the store what a killed writer left and what is misnamed, and
when it reads (`ReplayStore.read`) a chunk that is damaged. A reader (`read_decisions`) leaves it in place, tells of it,
and finds it again the next time.

Size is bounded: quarantined files go first, then whole chunks, the oldest first, never the newest. So the replay
forgets old driving; against forgetting the source task there are the base model's own rollouts, which are no part of
this store and are never evicted.

| in the folder | what |
|---|---|
| `format.json` | schema of the store, and what observations and actions mean in it |
| `lock` | held by the one process that may write |
| `chunk-INDEX-DECISIONS-SHA256.npz` | closed chunks, see `chunk` |
| `chunk-INDEX.part` | the chunk being written |
| `quarantine/` | what must not be trained on, each with its `.reason.txt` |
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from adawm_planner.config.finetuning import ReplayConfig
from adawm_planner.durable import left_behind, lock, remove, replacing
from adawm_planner.finetuning.captured import Captured
from adawm_planner.finetuning.chunk import SCHEMA, ChunkFile, DamagedChunkError, chunk_name, encode, read
from adawm_planner.runtime.model_files import interface

_log = logging.getLogger(__name__)

FORMAT_FILE = "format.json"
LOCK_FILE = "lock"
QUARANTINE = "quarantine"
QUARANTINED_MOST = 100
"""Quarantined files that are kept; the oldest go."""

_REASON = ".reason.txt"
_INDEX = re.compile(r"chunk-(\d+)")


class StoreBusyError(RuntimeError):
    """Another process writes to this store."""


class StoreWriteError(RuntimeError):
    """A chunk could not be written; its decisions are lost, and all earlier ones can be read."""


class ReplayStore:
    """A store opened for writing by this process alone, from one thread. Use as a context, or call `close`."""

    def __init__(self, folder: Path, config: ReplayConfig | None = None) -> None:
        """Open a store, or make one in a new or empty folder; what a killed writer left torn is quarantined.

        Raises:
            ValueError: the folder holds something else, or a store of another format.
            StoreBusyError: another process has it open for writing.
            OSError: the folder cannot be made or written.
        """
        self.folder, self.config = folder, config or ReplayConfig()
        folder.mkdir(parents=True, exist_ok=True)
        check_format(folder)  # before the lock, which is a file: whatever else is there stays as it was
        self._lock = _take_lock(folder)
        self.evicted = 0  # chunks, since this was opened
        self.lost = 0  # decisions that could not be written, since this was opened
        self.problem = ""  # why the newest chunk could not be written; empty: it was
        self.quarantined: list[str] = []  # reasons, since this was opened
        self._pending: list[Captured] = []
        self._sizes: dict[Path, int] = {}  # of closed chunks [bytes]
        try:
            for path in left_behind(folder / FORMAT_FILE):
                remove(path)
            if not check_format(folder):  # again: who had the lock may have made it
                with replacing(folder / FORMAT_FILE) as staged:
                    staged.write_text(_format_text())
            (folder / QUARANTINE).mkdir(exist_ok=True)  # now, because on a full disk it could not be made
            self._next = self._sweep()
            self._files = [file for file in chunk_files(folder) if file.path in self._sizes]
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> ReplayStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def decisions(self) -> int:
        """Decisions on disk."""
        return sum(file.count for file in self._files)

    @property
    def chunks(self) -> int:
        """Closed chunks."""
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        """Size of all closed chunks [bytes]."""
        return sum(self._sizes.values())

    @property
    def pending(self) -> int:
        """Decisions that are only in memory: what a kill would lose now."""
        return len(self._pending)

    def append(self, one: Captured) -> bool:
        """Add a decision; returns whether this closed a chunk.

        Raises StoreWriteError as `flush`.
        """
        self._pending.append(one)
        if len(self._pending) < self.config.chunk_decisions:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Close the chunk in memory now, if it holds anything.

        Raises:
            StoreWriteError: the disk is full or refuses. The chunk's decisions are given up and counted in `lost`, so
                that memory stays bounded; the store stays readable, and the next chunk is tried anew.
        """
        if not self._pending:
            return
        decisions, self._pending = self._pending, []
        data = encode(decisions)
        part = self.folder / f"chunk-{self._next:08d}.part"
        final = self.folder / chunk_name(self._next, len(decisions), data)
        try:
            self._make_room(len(data))
            with replacing(final, part):
                part.write_bytes(data)
        except OSError as error:
            if not os.path.lexists(final):
                self.lost += len(decisions)
                self.problem = (
                    f"{self.folder}: a chunk of {len(data)} bytes cannot be written ({error}); {len(decisions)} "
                    f"decisions are lost, {self.decisions} can still be read; free disk space or lower "
                    f"replay.most_bytes ({self.config.most_bytes})"
                )
                raise StoreWriteError(self.problem) from error
            # It is there, whole, with its content on the disk: only its name may still be lost with the power.
            _log.warning("%s: %s would not survive a loss of power now (%s)", self.folder, final.name, error)
        file = ChunkFile.of(final)
        assert file is not None, final
        self._files.append(file)
        self._sizes[final] = len(data)
        self._next += 1
        self.problem = ""

    def read(self, newest: int | None = None) -> Iterator[Captured]:
        """Decisions on disk in the order in which they came; damaged chunks are quarantined and left out.

        Args:
            newest: at least so many of the newest, in whole chunks; None for all.

        Raises:
            OSError: a file cannot be read, though it is there.
        """
        yield from _read_files(_newest(self._files, newest), self._set_aside)

    def close(self) -> None:
        """Write what is in memory and let others write; raises StoreWriteError as `flush`."""
        if self._lock < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._lock)
            self._lock = -1

    def _sweep(self) -> int:
        """Take up closed chunks, quarantine what is none though named like one; returns the next chunk's index."""
        for path in sorted(self.folder.glob("chunk-*")):
            if path.suffix == ".part":
                self._quarantine(path, f"{path.name} was being written when its writer ended")
            elif ChunkFile.of(path) is None:
                self._quarantine(path, f"{path.name} is not a chunk's name, must be chunk-INDEX-DECISIONS-SHA256.npz")
            else:
                self._take_up(path)
        names = [path.name for path in (*self.folder.glob("chunk-*"), *(self.folder / QUARANTINE).glob("chunk-*"))]
        return max((int(match[1]) for match in map(_INDEX.match, names) if match), default=-1) + 1

    def _take_up(self, path: Path) -> None:
        """Note the size of a closed chunk; one that the disk tells nothing of is left out, and stays."""
        try:
            found = path.lstat()
        except OSError as error:
            _log.warning("%s: left out: %s cannot be looked at (%s)", self.folder, path.name, error)
            return
        if stat.S_ISREG(found.st_mode):
            self._sizes[path] = found.st_size
        else:
            what = "a link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            self._quarantine(path, f"{path.name} is {what}, must be a file")

    def _set_aside(self, file: ChunkFile, reason: str) -> None:
        self._quarantine(file.path, reason)
        self._files = [other for other in self._files if other is not file]
        self._sizes.pop(file.path, None)

    def _quarantine(self, path: Path, reason: str) -> None:
        """Move a file aside; its name stays, so that its place in the replay is known."""
        target = self.folder / QUARANTINE
        with contextlib.suppress(OSError):  # on a full disk the reason is in the log alone
            (target / f"{path.name}{_REASON}").write_text(f"{reason}\n")
        os.replace(path, target / path.name)
        self.quarantined.append(reason)
        _log.warning("%s: quarantined: %s", self.folder, reason)
        for old in self._quarantined_files()[:-QUARANTINED_MOST]:
            _remove_quarantined(old)

    def _quarantined_files(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in (self.folder / QUARANTINE).glob("chunk-*") if not path.name.endswith(_REASON))

    def _make_room(self, size: int) -> None:
        """Keep the bound before `size` more bytes come; the chunk that was written last stays."""
        aside = [(path, path.lstat().st_size) for path in self._quarantined_files()]
        total = self.size_bytes + size + sum(length for _, length in aside)
        for path, length in aside:
            if total <= self.config.most_bytes:
                return
            _remove_quarantined(path)
            total -= length
        while total > self.config.most_bytes and len(self._files) > 1:
            oldest = self._files[0]
            oldest.path.unlink(missing_ok=True)  # first: where it fails, the chunk still counts, and goes later
            del self._files[0]
            total -= self._sizes.pop(oldest.path)
            self.evicted += 1


def read_decisions(
    folder: Path, newest: int | None = None, damaged: Callable[[str], None] = lambda reason: None, after: int = -1
) -> Iterator[Captured]:
    """Decisions of a store that another process may be writing; changes nothing on disk.

    Args:
        folder: of the store.
        newest: at least so many of the newest, in whole chunks; None for all.
        damaged: told why a chunk is left out: it is not what was written, or the disk does not give it.
        after: index of a chunk; it and those before it are not read.

    Raises:
        ValueError: the folder is not a store, or one of another format.
    """
    if not folder.is_dir() or not check_format(folder):
        raise ValueError(f"{folder}: is not a replay store; the finetuner makes one when it starts")
    files = _newest([file for file in chunk_files(folder) if file.index > after], newest)
    # One bad sector must not keep a learner from all the rest for ever.
    yield from _read_files(files, lambda _, reason: damaged(reason), leave_unreadable=True)


def chunk_files(folder: Path) -> list[ChunkFile]:
    """Closed chunks of a store in the order in which they were written."""
    found = [ChunkFile.of(path) for path in folder.glob("chunk-*.npz")]
    return sorted((file for file in found if file is not None), key=lambda file: (file.index, file.path.name))


def check_format(folder: Path) -> bool:
    """Whether a folder is a store that this installation can use; False where it is empty and may become one.

    Raises:
        ValueError: it holds something else, or a store of another version or of other observations or actions.
    """
    path = folder / FORMAT_FILE
    names = {entry.name for entry in folder.iterdir()}  # one look: another process may be making it
    if FORMAT_FILE not in names:
        others = names - {LOCK_FILE, *(each.name for each in left_behind(path))}
        if others:
            raise ValueError(f"{folder}: holds {min(others)} but no {FORMAT_FILE}: not a replay store; name another")
        return False
    try:
        values: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); name another folder") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold an object, holds {type(values).__name__}; name another folder")
    for name, ours in json.loads(_format_text()).items():
        if values.get(name) != ours:
            raise ValueError(
                f"{path}: {name} is {values.get(name)}, this installation needs {ours}; "
                "name another folder, or use the installation that wrote this one"
            )
    return True


def _format_text() -> str:
    return json.dumps({**interface(), "schema": SCHEMA}, indent=2) + "\n"


def _take_lock(folder: Path) -> int:
    """Lock a store for writing; the lock goes with the process, however that ends."""
    descriptor = lock(folder / LOCK_FILE)
    if descriptor is None:
        owner = (folder / LOCK_FILE).read_bytes()[:20].decode(errors="replace").strip() or "unknown"
        raise StoreBusyError(f"{folder}: is being written by process {owner}; stop that one, or name another folder")
    with contextlib.suppress(OSError):  # the number is for people: a full disk must not forbid reading
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _newest(files: list[ChunkFile], decisions: int | None) -> list[ChunkFile]:
    """The last chunks that hold at least so many decisions."""
    if decisions is None:
        return list(files)
    first = len(files)
    while first > 0 and decisions > 0:
        first -= 1
        decisions -= files[first].count
    return files[first:]


def _read_files(
    files: list[ChunkFile],
    damaged: Callable[[ChunkFile, str], None],
    leave_unreadable: bool = False,
) -> Iterator[Captured]:
    for file in files:
        try:
            decisions = read(file)
        except FileNotFoundError:
            continue  # evicted since it was listed
        except DamagedChunkError as error:
            damaged(file, str(error))
            continue
        except OSError as error:
            if not leave_unreadable:
                raise
            damaged(file, f"{file.path.name} cannot be read ({error})")
            continue
        yield from decisions


def _remove_quarantined(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.with_name(f"{path.name}{_REASON}").unlink(missing_ok=True)
