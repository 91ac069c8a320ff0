"""From a YAML file to checked config dataclasses.

A file holds one value for every field and, under `presets`, named patches of them. The result goes to the
pretraining pipeline, the model section also to whoever loads a saved model.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from adawm_planner.config.checks import finite
from adawm_planner.config.pretraining import PretrainingConfig
from adawm_planner.config.yaml_file import read_mapping

PRETRAINING_FILE = Path(__file__).with_name("pretraining.yaml")

Config = TypeVar("Config")


def load_pretraining(path: Path | None = None, preset: str = "default") -> PretrainingConfig:
    """Config of the pretraining pipeline.

    `path` None takes the packaged file. Raises ValueError for an unknown preset, an unknown or missing field,
    or a value that a dataclass refuses.
    """
    return load_config(PretrainingConfig, path or PRETRAINING_FILE, preset)


def load_config(kind: type[Config], path: Path, preset: str) -> Config:
    """The dataclass `kind` from a file with presets; raises ValueError as `load_pretraining` does."""
    raw = read_mapping(path)
    patches = raw.pop("presets", {})
    if not isinstance(patches, dict) or not all(isinstance(patch, dict) for patch in patches.values()):
        raise ValueError(f"{path}: presets must be a mapping of names to mappings of sections")
    presets: dict[str, dict[str, Any]] = {"default": {}, **patches}
    if preset not in presets:
        raise ValueError(f"{path}: no preset '{preset}', there are {', '.join(sorted(map(str, presets)))}")
    return from_mapping(kind, {**merge(raw, presets[preset]), "preset": preset}, str(path))


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `patch` put over it, recursively."""
    merged = dict(base)
    for key, value in patch.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def from_mapping(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build the dataclass `kind` from plain YAML values; every field must be given, none may be unknown."""
    hints = typing.get_type_hints(kind)
    unknown, missing = sorted(set(values) - set(hints), key=str), sorted(set(hints) - set(values))
    if unknown or missing:
        raise ValueError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    converted = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values of a config dataclass, fit for YAML."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: must be a mapping, is {value!r}")
        return from_mapping(hint, value, where)
    if isinstance(hint, types.GenericAlias):
        return _convert_list(typing.get_args(hint), value, where)
    kinds = (int, float) if hint is float else hint
    if not isinstance(value, kinds) or (hint is not bool and isinstance(value, bool)):
        raise ValueError(f"{where}: must be a {hint.__name__}, is {value!r}")
    if hint is not float:
        return value
    if not finite(value):
        raise ValueError(f"{where}: must be finite, is {value}")
    return float(value)


def _convert_list(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: must be a list, is {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where}: must hold {len(kinds)} values, is {value!r}")
    return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
