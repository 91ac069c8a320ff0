"""JSON that has exactly one meaning and one form: no duplicate keys, no NaN, canonical bytes to sign."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from adawm_planner.adapters.refusal import shown


def canonical(value: Any) -> bytes:
    """UTF-8 (ASCII) bytes: keys sorted, no spaces, one newline at the end. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def parse(content: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, nested too deeply, or with duplicate keys, NaN or infinity.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_canonical(content: bytes) -> Any:
    """As `parse`; raises ValueError also when the bytes are not the canonical form of their value."""
    value = parse(content)
    if canonical(value) != content:
        raise ValueError("not in canonical form (sorted keys, no spaces, one newline at the end)")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"duplicate key '{shown(name)}'")
    return values


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")
