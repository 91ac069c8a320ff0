"""Low-rank factors as numpy arrays: which part a layer belongs to, how large a change is, where factors come from.

The layout is the runtime's (`runtime.export`): a layer computes W x + (x A) B more than its bias, A (in, r),
B (r, out), the scaling in B.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from adawm_planner.data_types import Float32

Factors = Mapping[str, tuple[Float32, Float32]]
"""Layer of the agent -> A (in, r), B (r, out), float32."""

PARTS = {"dynamics": "world_model", "policy": "actor"}
"""Part of a bundle -> module of the agent whose layers it changes. The parts share no layer."""


def part_of(layer: str) -> str | None:
    """The part that a layer belongs to, None for a layer that no adapter changes."""
    return next((part for part, module in PARTS.items() if layer.startswith(f"{module}.")), None)


def update_norm(down: Float32, up: Float32) -> float:
    """Frobenius norm of A B without forming it: the root of trace((A^T A) (B B^T)); inf where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = down.astype(np.float64), up.astype(np.float64)
        return float(np.sqrt(max(float(((a.T @ a) * (b @ b.T)).sum()), 0.0)))


def runtime_inputs(factors: Factors) -> dict[str, Float32]:
    """Factors under the names of planner.onnx's inputs, C-contiguous."""
    return {
        f"{layer}.lora_{side}": np.ascontiguousarray(factor)
        for layer, pair in factors.items()
        for side, factor in zip("AB", pair, strict=True)
    }


def read_run_factors(path: Path) -> tuple[dict[str, tuple[Float32, Float32]], str]:
    """Factors that `adawm adapt` wrote, and the digest of the base model they were made for.

    Layers whose factors have rank 0 were never adapted and are left out.

    Raises:
        ValueError: the file is not one of `adawm adapt`.
    """
    try:
        with safe_open(str(path), "numpy") as file:
            base = (file.metadata() or {}).get("base", "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except (OSError, SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: not the adapter_factors.safetensors of `adawm adapt` ({error})") from error
    layers = sorted(name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A"))
    wanted = {f"{layer}.lora_{side}" for layer in layers for side in "AB"}
    if not base or set(tensors) != wanted:
        raise ValueError(
            f"{path}: not the adapter_factors.safetensors of `adawm adapt` (base digest or one of a pair is missing)"
        )
    pairs = {layer: (tensors[f"{layer}.lora_A"], tensors[f"{layer}.lora_B"]) for layer in layers}
    return {layer: pair for layer, pair in pairs.items() if pair[0].size and pair[1].size}, base
