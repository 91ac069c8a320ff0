"""A result in, the file that the user named out: the one way in which commands write what they found.

A regular file appears whole or not at all. What is none, such as /dev/stdout or a pipe, is written to as it is, and
a symbolic link is followed; neither is ever replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adawm_planner.durable import replacing, staged_beside

DEVICES = (Path("/dev"), Path("/proc"))
"""What lies here is the system's own: /dev/stdout is never replaced, even where it leads to a regular file."""


def write_json(path: Path | None, document: Any, indent: int = 2) -> None:
    """Write a document as JSON, nothing where `path` is None.

    Raises:
        ValueError: the file cannot be written, or a number of the document is not finite.
    """
    if path is not None:
        write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text; its folder is made if missing.

    Raises:
        ValueError: the file cannot be written; the message names it, and an earlier file of that name is whole.
    """
    with _named(path):
        if _written_in_place(path):
            with path.open("a", encoding="utf-8") as stream:
                stream.write(text)
            return
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as staged:
            staged.write_text(text, encoding="utf-8")
            if target.exists():
                shutil.copymode(target, staged)


def check_writable(path: Path) -> None:
    """Find out before long work whether `write_text` will find a place; makes the folder, leaves no file.

    Raises:
        ValueError: it will not; the message names the file or the folder, and why.
    """
    with _named(path):
        if path.is_dir():
            raise ValueError(f"{path} is a folder, must be a file")
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"{path} is not writable")
        if _written_in_place(path):
            return
        target = path.resolve()
        _make_folder(target.parent)
        staged = staged_beside(target)
        staged.touch()  # tried, because neither access rights nor being root say it of every file system
        staged.unlink()


def check_folder(folder: Path) -> None:
    """Find out before long work whether files can be made in a folder, which is then as it was before.

    Raises:
        ValueError: they cannot; the message names the folder, and why.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        _make_folder(folder)
        with _named(folder), tempfile.TemporaryFile(dir=folder):
            pass  # tried, as in `check_writable`
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be made ({error.strerror})") from error


def _written_in_place(path: Path) -> bool:
    """Whether the file is there and must stay the one it is."""
    inside = any(Path(os.path.abspath(path)).is_relative_to(folder) for folder in DEVICES)
    return path.exists() and (inside or not path.is_file())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
