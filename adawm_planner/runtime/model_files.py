"""The files of a model folder and what must agree before one of them is used.

`config.yaml` says what the model's inputs and actions mean; a model made for others is refused here, before any
weight is read. No torch: the planner reads it too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from adawm_planner import dims

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "weights.safetensors"
PLANNER_FILE = "planner.onnx"
IMAGINE_FILE = "imagine.onnx"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, PLANNER_FILE, IMAGINE_FILE)

SCHEMA = "adawm.model/1"


def interface() -> dict[str, Any]:
    """What a model must share with the installation that runs it."""
    return {
        "schema": SCHEMA,
        "decision_s": dims.DECISION_S,
        "bev_channels": list(dims.BEV_CHANNELS),
        "bev_size": dims.BEV_SIZE,
        "bev_cell_m": dims.BEV_CELL_M,
        "state_features": list(dims.STATE_FEATURES),
        "acceleration_bins": list(dims.ACCELERATION_BINS),
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Values of a model's config.yaml.

    Raises ValueError when it is missing or unreadable, or differs from `interface()`, naming the first difference.
    """
    path = folder / CONFIG_FILE
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold a mapping")
    for name, ours in interface().items():
        if values.get(name) != ours:
            raise ValueError(f"{path}: {name} is {values.get(name)}, this installation needs {ours}")
    for name in ("world_model", "policy"):
        if not isinstance(values.get(name), dict):
            raise ValueError(f"{path}: section {name} is missing")
    return values


def digest(folder: Path) -> str:
    """sha256 over the names and contents of the model's files, hexadecimal. Raises ValueError when one is missing."""
    total = hashlib.sha256()
    for name in MODEL_FILES:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{folder / name}: cannot be read ({error.strerror}); `adawm export` writes it") from error
        total.update(name.encode())
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()
