"""Factors to and from the two files of PEFT's own format, without peft or torch.

PEFT's factors are the runtime's transposed: lora_A.weight (r, in), lora_B.weight (out, r). The scaling is in B, so
alpha equals the rank of every layer. The directory loads with `PeftModel.from_pretrained` on the part's module
(`factors.PARTS`) of the base agent.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from adawm_planner.adapters.factors import PARTS, Factors
from adawm_planner.adapters.manifest import LayerEntry
from adawm_planner.adapters.strict_json import canonical, parse
from adawm_planner.data_types import Float32

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
METADATA = {"format": "pt"}
"""What PEFT writes too."""

LENGTH_BYTES = 8
"""safetensors begins with the length of its JSON header, little-endian."""


def peft_config(part: str, layers: Mapping[str, LayerEntry]) -> bytes:
    """adapter_config.json of an adapter: a function of its layers alone, so that no setting can hide in it."""
    ranks = {_inner(part, layer): entry.rank for layer, entry in layers.items()}
    rank = max(ranks.values())
    other = {layer: each for layer, each in ranks.items() if each != rank}
    return canonical(
        {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": other,
            "alpha_pattern": other,
            "target_modules": sorted(ranks),
            "modules_to_save": None,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
            "use_dora": False,
        }
    )


def peft_tensors(part: str, factors: Factors) -> bytes:
    """adapter_model.safetensors of an adapter."""
    tensors = {}
    for layer, (down, up) in factors.items():
        tensors[_name(part, layer, "A")] = np.ascontiguousarray(down.T, np.float32)
        tensors[_name(part, layer, "B")] = np.ascontiguousarray(up.T, np.float32)
    return bytes(save(tensors, METADATA))


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Tensors by PEFT's name.

    Raises:
        ValueError: not a safetensors file, or one whose header has duplicate keys.
    """
    try:
        tensors: dict[str, np.ndarray] = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a safetensors file ({error})") from error
    (length,) = struct.unpack("<Q", content[:LENGTH_BYTES])
    parse(content[LENGTH_BYTES : LENGTH_BYTES + length])
    return tensors


def tensor_names(part: str, layers: Mapping[str, LayerEntry]) -> set[str]:
    """Names that the tensors of these layers must have."""
    return {_name(part, layer, side) for layer in layers for side in "AB"}


def factors_of(part: str, layer: str, tensors: Mapping[str, np.ndarray]) -> tuple[Float32, Float32]:
    """A (in, r) and B (r, out) of one layer."""
    down, up = (tensors[_name(part, layer, side)] for side in "AB")
    return np.ascontiguousarray(down.T), np.ascontiguousarray(up.T)


def _inner(part: str, layer: str) -> str:
    """A layer's name within the module that PEFT wraps."""
    return layer.removeprefix(f"{PARTS[part]}.")


def _name(part: str, layer: str, side: str) -> str:
    return f"{PREFIX}{_inner(part, layer)}.lora_{side}.weight"
