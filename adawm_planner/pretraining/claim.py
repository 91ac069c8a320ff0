"""Whose episodes a round's folder holds: a note beside the chunks, and the refusal to mix them with others.

`collect` asks before it drives; everything that decides which episodes a round brings is in the note.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adawm_planner.config.mapping import to_mapping
from adawm_planner.config.pretraining import CollectionConfig
from adawm_planner.place_key import place_key
from adawm_planner.result_file import write_json

CLAIM_FILE = "claim.json"
SCHEMA = "adawm.collection_claim/1"
SIZES = ("workers", "first_decisions", "rounds", "round_decisions")
"""Settings that say how much is driven and by how many processes; which episodes come first is the same with all."""


def claim_values(config: CollectionConfig, seed: int, round_index: int, weights: str, sample: bool) -> dict[str, Any]:
    """What a round's episodes follow from; a policy is told by its weights, so that its run may move."""
    settings = {key: value for key, value in to_mapping(config).items() if key not in SIZES}
    places = {key: place_key(settings[key]) for key in ("task", "vehicle")}
    policy = _digest(Path(weights)) if weights else "none"
    return {
        "schema": SCHEMA,
        **settings,
        **places,
        "seed": seed,
        "round": round_index,
        "policy": policy,
        "sample": sample,
    }


def claim_round(folder: Path, values: Mapping[str, Any], stored: bool) -> None:
    """Note in a round's folder whose episodes it holds.

    Args:
        folder: of the round.
        values: `claim_values`.
        stored: whether it holds episodes already; they must be of the same claim then.

    Raises:
        ValueError: they are not, or nothing tells.
    """
    path = folder / CLAIM_FILE
    remedy = f"store elsewhere (--data, or --output of `adawm collect`) or remove {folder.parent}"
    if not stored:
        write_json(path, dict(values))
        return
    if not path.exists():
        raise ValueError(f"{folder}: holds episodes of an earlier version, and no {CLAIM_FILE} tells whose; {remedy}")
    found = _read(path, remedy)
    for key, value in values.items():
        if found.get(key) != value:
            raise ValueError(f"{path}: the {key} of these episodes is {found.get(key)} and not {value}; {remedy}")


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: damaged (must hold a mapping); {remedy}")
    return found


def _digest(weights: Path) -> str:
    """Of all weights in a folder, first twelve digits."""
    files = "".join(_sha256(path) for path in sorted(weights.glob("*.safetensors")))
    return hashlib.sha256(files.encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
