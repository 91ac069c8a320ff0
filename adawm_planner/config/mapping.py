"""Plain values, as YAML and JSON hold them, to dataclasses and back.

Every entry is checked against the annotated type of its field: what is unknown, missing or mistyped is told with the
file, the way to the entry, its value and what it must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from adawm_planner.config.checks import finite

Made = TypeVar("Made")


def from_mapping(kind: type[Made], values: Mapping[str, Any], where: str) -> Made:
    """Make a dataclass; entries whose field has a default may be left out.

    Args:
        kind: a dataclass of numbers, text, tuples (lists among plain values) and such dataclasses.
        values: entry -> plain value.
        where: begins every message; the file, and the way from its top.

    Raises:
        ValueError: an entry is unknown, missing or of another type, or `kind` refuses its values.
    """
    hints = get_type_hints(kind)
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ValueError(f"{where}: unknown entry {name!r}; known are {', '.join(known)}")
    for name, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING and name not in values:
            raise ValueError(f"{where}: entry {name!r} is missing")
    converted = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass, fit for YAML and JSON."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """One plain value as the annotated type of its field."""
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}, must be a mapping")
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return _convert_list(get_args(hint), value, where)
    if hint is float:
        if not finite(value):
            raise ValueError(f"{where} is {value!r}, must be a finite number")
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where} is {value!r}, must be of type {hint.__name__}")
    return value


def _convert_list(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is {value!r}, must be a list")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} is {value!r}, must be a list of {len(kinds)} values")
    return tuple(_convert(kind, one, f"{where}[{k}]") for k, (kind, one) in enumerate(zip(kinds, value, strict=True)))
