"""From a YAML file to checked config dataclasses.

A file holds one value for every field and, under `presets`, named patches of them. The result goes to the
pretraining pipeline, the model section also to whoever loads a saved model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from adawm_planner.config.mapping import from_mapping
from adawm_planner.config.pretraining import PretrainingConfig
from adawm_planner.config.yaml_file import read_mapping

PRETRAINING_FILE = Path(__file__).with_name("pretraining.yaml")

Config = TypeVar("Config")


def load_pretraining(path: Path | None = None, preset: str = "default") -> PretrainingConfig:
    """Config of the pretraining pipeline.

    `path` None takes the packaged file; a run's own config.yaml can be given with the run's preset. Raises ValueError
    for an unknown preset or one that is not the file's own, and as `from_mapping`.
    """
    return load_config(PretrainingConfig, path or PRETRAINING_FILE, preset)


def load_config(kind: type[Config], path: Path, preset: str) -> Config:
    """The dataclass `kind` from a file with presets; raises ValueError as `load_pretraining` does."""
    raw = read_mapping(path)
    # What a run keeps has its preset already in its values, and no patches.
    kept = {preset: dict[str, Any]()} if "preset" in raw and "presets" not in raw else {}
    patches, own = raw.pop("presets", {}), raw.pop("preset", preset)
    if not isinstance(patches, dict) or not all(isinstance(patch, dict) for patch in patches.values()):
        raise ValueError(f"{path}: presets must be a mapping of names to mappings of sections")
    if own != preset:
        raise ValueError(f"{path}: preset is {own!r}, '{preset}' was asked for; ask for {own!r}, or remove the entry")
    presets: dict[str, dict[str, Any]] = {"default": {}, **kept, **patches}
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
