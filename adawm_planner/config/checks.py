"""Limits of configuration values, told with section, name and value. NaN is outside every limit."""

from __future__ import annotations

import math
from typing import Any

NAME_RULE = "must be a letter or underscore followed by letters, digits and underscores, because it is part of topics"


def is_name(text: str) -> bool:
    """Whether a text can be one part of a topic's name."""
    return text.isascii() and text.isidentifier()


def finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold; a bool is none, nor is a whole number of 400 digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def above(section: str, config: Any, least: float, *names: str) -> None:
    """Raises ValueError unless the named fields are above `least`."""
    for name in names:
        if not getattr(config, name) > least:
            raise ValueError(f"{section}.{name} is {getattr(config, name)}, must be above {least:g}")


def not_negative(section: str, config: Any, *names: str) -> None:
    """Raises ValueError for a named field below 0."""
    for name in names:
        if not getattr(config, name) >= 0.0:
            raise ValueError(f"{section}.{name} is {getattr(config, name)}, must be at least 0")


def share(section: str, config: Any, *names: str) -> None:
    """Raises ValueError unless the named fields are in [0, 1]."""
    for name in names:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{section}.{name} is {getattr(config, name)}, must be in [0, 1]")
