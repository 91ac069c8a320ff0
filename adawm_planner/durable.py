"""Writes that survive a loss of power: content first, then its name, each made durable before the next step."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER_MODE = 0o755


def create_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a new file and make it durable. Raises FileExistsError when the name is taken, by a link too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """As `create_file`, but the name appears with all of its content: after a kill it is whole, or not there."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # of a process that was killed
    create_file(part, content, mode)
    try:
        os.link(part, path)  # never in place of another file, as a renaming would be
    finally:
        part.unlink()
    sync(path.parent)


def staged_beside(path: Path) -> Path:
    """A hidden name beside `path`, the process's own, because two may fill one cache."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def replacing(path: Path, staged: Path | None = None) -> Iterator[Path]:
    """Where to write what `path` shall hold: after a kill or a loss of power it is the old file or the new one.

    Args:
        path: to be replaced or made; its folder exists.
        staged: on the same file system, written to until all is there; default `staged_beside`.
    """
    staged = staged or staged_beside(path)
    try:
        yield staged
        sync(staged)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_json(path: Path, values: Any) -> None:
    """Put values in place of what `path` holds, as JSON. Raises OSError, and ValueError for a number not finite."""
    content = json.dumps(values, indent=1, allow_nan=False) + "\n"
    with replacing(path) as staged:
        staged.write_text(content)


def lock(path: Path) -> int | None:
    """Take a lock file, made if missing: the open file, or None where another process has it.

    The kernel gives it back when the file is closed or the process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def left_behind(path: Path) -> list[Path]:
    """What processes that were killed while they replaced `path` left beside it; or what one that lives writes now."""
    staged = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    return sorted(each for each in path.parent.iterdir() if staged.fullmatch(each.name))


def remove(path: Path) -> str:
    """Remove a file, a link (never what it leads to) or a folder; returns why it is still there, empty when it is not.

    For what lies where nobody put it: that it cannot be removed is no reason not to work.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes to an open file."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_folder(path: Path, files: Mapping[str, bytes], staging: Path) -> None:
    """Make a folder with these files appear at once, or not at all.

    Args:
        path: of the new folder.
        files: name -> content; plain names.
        staging: folder that does not exist yet, on the same file system; gone afterwards.

    Raises:
        ValueError: `path` exists and is not empty.
        OSError: it cannot be written; nothing is left behind.
    """
    staging.mkdir(FOLDER_MODE)
    try:
        for name, content in files.items():
            create_file(staging / name, content)
        sync(staging)
        try:
            os.rename(staging, path)
        except OSError as error:
            if path.exists():
                raise ValueError(f"{path}: exists already; choose another folder or remove it") from error
            raise
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync(path.parent)
