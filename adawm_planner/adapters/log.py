"""An append-only log of JSON lines, each holding its own sha256 and that of the line before, durable before it counts.

A loss of power can leave a torn last line, without its line feed, which never counted; it is cut off and reported.
Damage anywhere else is an error: what follows would mean something else without it, and a last line that was whole did
count. Lines that were written before a line held its own sha256 are taken without one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adawm_planner.adapters.strict_json import canonical, parse_canonical
from adawm_planner.durable import create_file, sync, write_all

PREVIOUS = "previous"
OWN = "line_sha256"
"""sha256 of the line as it is without this key, hex."""

START = "0" * 64


@dataclass(frozen=True)
class LogContent:
    """What a log holds."""

    records: Sequence[Mapping[str, Any]]
    length: int  # bytes of whole lines
    torn: int  # bytes after them
    head: str  # sha256 of the last whole line, hex


def read_log(path: Path) -> LogContent:
    """Read a log; a file that does not exist is an empty one.

    Raises:
        ValueError: a line that is not torn is damaged, missing or exchanged; the message names it.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = [line + b"\n" for line in content.split(b"\n")]
    torn = lines.pop()[:-1]  # nothing, unless the last line has no line feed
    records: list[Mapping[str, Any]] = []
    length, head = 0, START
    for number, line in enumerate(lines, 1):
        record = _record(line, head)
        if record is None:
            raise _damage(path, number)
        records.append(record)
        length, head = length + len(line), hashlib.sha256(line).hexdigest()
    if _record(torn[:-1] + b"\n", head) is not None:  # whole, but for what stands in the place of its line feed
        raise _damage(path, len(lines) + 1)
    return LogContent(records, length, len(torn), head)


class AppendLog:
    """A log open for writing, by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the log, and cut off a torn last line; `torn` tells its bytes. Raises as `read_log`."""
        found = read_log(path)
        if not path.exists():
            create_file(path, b"")
            sync(path.parent)
        self.records, self.torn = found.records, found.torn
        self._length, self._head = found.length, found.head
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self.torn:
            try:
                os.ftruncate(self._descriptor, self._length)
                os.fsync(self._descriptor)
            except BaseException:
                self.close()
                raise

    def append(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add a record, and return it once it is durable. After an OSError the log is as before."""
        record: dict[str, Any] = {**values, PREVIOUS: self._head}
        record[OWN] = _own(record)
        line = canonical(record)
        try:
            write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._length)
            raise
        self._length, self._head = self._length + len(line), hashlib.sha256(line).hexdigest()
        return record

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _record(line: bytes, head: str) -> Mapping[str, Any] | None:
    """A line's record, None when the line is damaged or does not follow `head`."""
    try:
        record = parse_canonical(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get(PREVIOUS) != head:
        return None
    return record if record.get(OWN) in (None, _own(record)) else None


def _own(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({name: value for name, value in record.items() if name != OWN})).hexdigest()


def _damage(path: Path, number: int) -> ValueError:
    return ValueError(
        f"{path}: line {number} is damaged or does not follow the line before; the store cannot be used: "
        "move the folder away, the planner then starts with the base model"
    )
