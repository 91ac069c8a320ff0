"""Where the base model's source rollouts lie, and how they come there. No torch: the finetuner's node looks too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.config.mapping import to_mapping
from adawm_planner.place_key import place_key


def source_file(name: str, config: AdaptationConfig, cache: Path) -> Path:
    """Where the source rollouts of a model (its digest) are kept. Raises ValueError as `place_key`."""
    rollouts = to_mapping(config.rollouts)
    driven = {key: place_key(rollouts[key]) for key in ("source_task", "source_vehicle")}
    settings = json.dumps({**rollouts, **driven, "decisions": 0, "train_seeds": 0}, sort_keys=True)
    key = hashlib.sha256(f"{name}{settings}".encode()).hexdigest()[:16]
    return cache / f"source-{key}.npz"


def source_there(name: str, config: AdaptationConfig, cache: Path, model_dir: Path) -> Path:
    """The source rollouts of the model in `model_dir`. Raises ValueError when there are none."""
    path = source_file(name, config, cache)
    if not path.is_file():
        raise ValueError(
            f"{path}: the base model's source rollouts are missing; {source_remedy(config, cache, model_dir)}"
        )
    return path


def source_remedy(config: AdaptationConfig, cache: Path, model_dir: Path) -> str:
    """What to do where they are missing or of no use."""
    return (
        f"run `adawm baseline --rollouts-only --preset {config.preset} --model-dir {model_dir} --cache {cache}`, or "
        "copy it from where there is a simulator"
    )
