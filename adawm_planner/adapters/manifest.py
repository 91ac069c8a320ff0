"""The typed manifest of a bundle and its canonical bytes, which are what is signed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any

from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.refusal import shown
from adawm_planner.adapters.strict_json import canonical, parse_canonical
from adawm_planner.config.checks import finite

SCHEMA = "adawm.adapter/1"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names are shown on terminals and put into folder names, so they hold nothing else."""

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""Layers, files, scores and outputs: keys that are shown as well, in messages too."""

VEHICLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
VEHICLE_RULE = "1 to 64 letters, digits, dots, dashes, underscores or colons"
HEX = re.compile(r"[0-9a-f]{64}")
LARGEST_COUNTER = 2**63 - 1


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle."""

    sha256: str  # hex
    bytes: int


@dataclass(frozen=True)
class LayerEntry:
    """One adapted layer."""

    inputs: int
    outputs: int
    rank: int
    dtype: str  # numpy's name; float32


@dataclass(frozen=True)
class Probe:
    """A batch whose outputs are known: the planner runs it with the adapter alone on the base before it drives."""

    seed: int  # of the inputs, see probe.probe_inputs
    count: int  # rows N
    inputs_sha256: str  # hex, of the inputs' bytes
    outputs: Mapping[str, tuple[float, ...]]  # name -> flattened values, see probe.PROBE_OUTPUTS


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself."""

    name: str
    part: str  # dynamics or policy
    base: str  # sha256 of the base model, hex
    counter: int  # grows with every bundle of a part
    created_unix_s: int  # s since 1970, wall clock
    layers: Mapping[str, LayerEntry]
    files: Mapping[str, FileEntry]
    probe: Probe
    parent: str | None = None  # digest of the bundle it was trained on top of
    expires_unix_s: int | None = None  # s since 1970, wall clock; None: never
    vehicle: str | None = None  # id of the vehicle it is for; None: any
    mismatch: Mapping[str, float] = field(default_factory=dict)  # score -> value, of the data it was made from
    data_sha256: str | None = None  # of the training data, hex
    gate: Mapping[str, Any] = field(default_factory=dict)  # the offline gate's report, free form
    acting: tuple[str, ...] | None = None  # digests of all adapters that drove when it was made; None: not told

    def to_bytes(self) -> bytes:
        """Canonical JSON. Raises ValueError when a number is not finite."""
        values = {name: value for name, value in asdict(self).items() if value is not None or name not in MAY_LACK}
        return canonical({"schema": SCHEMA, **values})


MAY_LACK = {"acting"}
"""Keys that the manifests of older bundles do not have."""


def bundle_digest(content: bytes) -> str:
    """sha256 of manifest.json, hex: that of the whole bundle, because the manifest holds those of its files."""
    return hashlib.sha256(content).hexdigest()


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest strictly.

    Raises:
        ValueError: not canonical JSON, an unknown or missing key, or a value of the wrong type or form; the message
            names the key.
    """
    wanted = {"schema", *(each.name for each in fields(Manifest))}
    values = _keys(parse_canonical(content), wanted, "manifest", MAY_LACK)
    if values.pop("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}")
    return Manifest(**{name: READERS[name](value, name) for name, value in values.items()})


def utc(unix_s: int) -> str:
    """A wall-clock time for people; one that no calendar has as the number it is."""
    try:
        return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s since 1970"


def _keys(value: Any, wanted: set[str], where: str, may_lack: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object")
    unknown, missing = sorted(set(value) - wanted), sorted(wanted - set(value) - set(may_lack))
    if unknown or missing:
        raise ValueError(f"{where}: unknown keys {unknown}, missing keys {missing}")
    return dict(value)


Reader = Callable[[Any, str], Any]


def _count(least: int) -> Reader:
    def read(value: Any, where: str) -> int:
        # bool is an int in Python, but not here.
        if type(value) is not int or not least <= value <= LARGEST_COUNTER:
            raise ValueError(f"{where} must be a whole number of at least {least} and below 2^63")
        return value

    return read


def _text(pattern: re.Pattern[str], meaning: str) -> Reader:
    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{where} must be {meaning}")
        return value

    return read


def _optional(reader: Reader) -> Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _number(value: Any, where: str) -> float:
    # Canonical JSON has already refused what is not finite, but not a whole number that no float holds.
    if not finite(value):
        raise ValueError(f"{where} must be a number")
    return float(value)


def _part(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in PARTS:
        raise ValueError(f"{where} must be one of {', '.join(PARTS)}")
    return value


def _table(reader: Reader) -> Reader:
    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object")
        for name in value:
            if not KEY.fullmatch(name):
                raise ValueError(
                    f"{where} has key '{shown(name)}', must be 1 to 128 letters, digits, dots, dashes or underscores"
                )
        return {name: reader(each, f"{where}.{name}") for name, each in value.items()}

    return read


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list of numbers")
    return tuple(_number(each, where) for each in value)


def _digests(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > len(PARTS):
        raise ValueError(f"{where} must be a list of at most {len(PARTS)} digests")
    return tuple(_DIGEST(each, where) for each in value)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object")
    return value


def _record(kind: Callable[..., Any], readers: Mapping[str, Reader]) -> Reader:
    def read(value: Any, where: str) -> Any:
        found = _keys(value, set(readers), where)
        return kind(**{name: reader(found[name], f"{where}.{name}") for name, reader in readers.items()})

    return read


_DIGEST = _text(HEX, "a sha256 in 64 lower-case hexadecimal digits")
_FLOAT32 = _text(re.compile("float32"), "float32")

READERS: dict[str, Reader] = {
    "name": _text(NAME, "1 to 64 letters, digits, dots, dashes or underscores"),
    "part": _part,
    "base": _DIGEST,
    "counter": _count(1),
    "created_unix_s": _count(0),
    "layers": _table(
        _record(LayerEntry, {"inputs": _count(1), "outputs": _count(1), "rank": _count(1), "dtype": _FLOAT32})
    ),
    "files": _table(_record(FileEntry, {"sha256": _DIGEST, "bytes": _count(0)})),
    "probe": _record(
        Probe, {"seed": _count(0), "count": _count(1), "inputs_sha256": _DIGEST, "outputs": _table(_numbers)}
    ),
    "parent": _optional(_DIGEST),
    "expires_unix_s": _optional(_count(0)),
    "vehicle": _optional(_text(VEHICLE, VEHICLE_RULE)),
    "mismatch": _table(_number),
    "data_sha256": _optional(_DIGEST),
    "gate": _object,
    "acting": _digests,
}
"""Key of the manifest -> what reads its value."""
