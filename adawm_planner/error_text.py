"""What another library's error says, in one line."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """First line of the error's text, or its type's name where it says nothing, as MemoryError does."""
    return next(iter(str(error).splitlines()), type(error).__name__)
