"""Low-rank factors as numpy arrays: which part a layer belongs to, and how large a change is.

The layout is the runtime's (`runtime.export`): a layer computes W x + (x A) B more than its bias, A (in, r),
B (r, out), the scaling in B.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

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
