"""A model folder in, what an adapter of it must fit out: digest, layers with shapes, size of each layer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load_file

from adawm_planner.error_text import first_line
from adawm_planner.runtime.model_files import PLANNER_FILE, WEIGHTS_FILE, digest


@dataclass(frozen=True)
class Layer:
    """A layer that adapters may change."""

    inputs: int
    outputs: int
    norm: float  # Frobenius norm of the base's weights


@dataclass(frozen=True)
class BaseModel:
    """What adapters are checked against."""

    digest: str  # sha256 of the model's files, hex
    layers: Mapping[str, Layer]  # by the agent's layer name


def open_planner(folder: Path) -> Any:
    """An onnxruntime session of the folder's planner.onnx on one CPU thread, for checks.

    Raises ValueError when it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = folder / PLANNER_FILE
    try:
        # Resolved, because the weights lie beside the real file, not beside a link to it.
        return onnxruntime.InferenceSession(str(path.resolve()), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
        raise ValueError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from error


def read_base_model(folder: Path, session: Any = None) -> BaseModel:
    """Read a model folder.

    Args:
        folder: of a model that `adawm export` wrote.
        session: of its planner.onnx where the caller has one; None opens one.

    Raises:
        ValueError: a file is missing or does not fit the others.
    """
    name = digest(folder)
    session = open_planner(folder) if session is None else session
    shapes = {item.name: item.shape for item in session.get_overridable_initializers()}
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS_FILE}: cannot be read ({error})") from error
    layers = {}
    for each in (name.removesuffix(".lora_A") for name in shapes if name.endswith(".lora_A")):
        sizes = int(shapes[f"{each}.lora_A"][0]), int(shapes[f"{each}.lora_B"][1])
        if f"{each}.weight" not in weights:
            raise ValueError(f"{folder / WEIGHTS_FILE}: lacks the weights of layer {each}; run `adawm export` again")
        layers[each] = Layer(*sizes, float(np.linalg.norm(weights[f"{each}.weight"].astype(np.float64))))
    if not layers:
        raise ValueError(f"{folder / PLANNER_FILE}: takes no adapters; run `adawm export` again")
    return BaseModel(name, layers)
