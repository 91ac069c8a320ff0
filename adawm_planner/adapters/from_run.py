"""The folder of an adaptation run in, the factors and facts that a bundle is made of out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from adawm_planner.adapters.factors import Factors, part_of
from adawm_planner.data_types import Float32

FACTORS_FILE = "adapter_factors.safetensors"
RUN_FILE = "adaptation.json"
SCORES = ("dynamics_mismatch", "policy_mismatch")
EVALUATIONS = ("before", "after", "source_after")
FIGURES = ("task", "vehicle", "episodes", "success_rate", "success_ci95", "collision_rate")


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


def run_facts(folder: Path) -> dict[str, Any]:
    """What a run's own files say, as fields of `bundle.Draft`. Empty where the folder holds no finished run.

    These are the mismatch in the round that made the student the run ended with, the digest of the rollouts up to that
    round, and the run's evaluations as the gate report.

    Raises:
        ValueError: adaptation.json is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
        rounds = values["rounds"][: values["trial"]["chosen"]]
        mismatch = {name: float(rounds[-1][name]) for name in SCORES if rounds}
        gate = {name: {figure: values[name][figure] for figure in FIGURES} for name in EVALUATIONS}
        total = hashlib.sha256()
        for index in range(1, len(rounds) + 1):
            total.update(hashlib.sha256((folder / f"rollouts-{index:02d}.npz").read_bytes()).digest())
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged or of another version ({error!r}); give the factors file alone") from error
    return {"mismatch": mismatch, "gate": gate, "data_sha256": total.hexdigest()}


def of_part(factors: Factors, part: str) -> dict[str, tuple[Float32, Float32]]:
    """The factors of one part's layers, in float32."""
    return {
        name: (down.astype("float32"), up.astype("float32"))
        for name, (down, up) in factors.items()
        if part_of(name) == part
    }
