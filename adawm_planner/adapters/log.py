"""An append-only log of JSON lines, each holding the sha256 of the line before, each durable before it counts.

A loss of power can leave a torn last line, which never counted; it is cut off and reported. Damage anywhere else is
an error, because what follows would mean something else without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adawm_planner.adapters.durable import create_file, sync_folder, write_all
from adawm_planner.adapters.strict_json import canonical, parse_canonical

PREVIOUS = "previous"
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
        ValueError: a line before the last is damaged, missing or exchanged; the message names it.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    records: list[Mapping[str, Any]] = []
    length, head = 0, START
    for number, line in enumerate(lines, 1):
        record = _record(line, head)
        if record is None:
            if number < len(lines):
                raise ValueError(
                    f"{path}: line {number} is damaged or does not follow the line before; the store cannot be used: "
                    "move the folder away, the planner then starts with the base model"
                )
            break
        records.append(record)
        length, head = length + len(line), hashlib.sha256(line).hexdigest()
    return LogContent(records, length, len(content) - length, head)


class AppendLog:
    """A log open for writing, by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the log, and cut off a torn last line; `torn` tells its bytes. Raises as `read_log`."""
        found = read_log(path)
        if not path.exists():
            create_file(path, b"")
            sync_folder(path.parent)
        self.records, self.torn = found.records, found.torn
        self._length, self._head = found.length, found.head
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self.torn:
            os.ftruncate(self._descriptor, self._length)
            os.fsync(self._descriptor)

    def append(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add a record, and return it once it is durable. After an OSError the log is as before."""
        record = {**values, PREVIOUS: self._head}
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
    return record if isinstance(record, dict) and record.get(PREVIOUS) == head else None
