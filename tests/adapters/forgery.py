"""Bundles of a signer who is trusted and wrong: everything but the one thing under test is in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from adawm_planner.adapters.bundle import DATA_FILES, MANIFEST_FILE, sign_bundle
from adawm_planner.adapters.manifest import LayerEntry
from adawm_planner.adapters.onnx_file import ONNX_FILE, onnx_adapter
from adawm_planner.adapters.peft_files import CONFIG_FILE, TENSOR_FILE, peft_config, peft_tensors
from adawm_planner.adapters.strict_json import canonical
from tests.adapters.conftest import KEY


def signed_again(files: Mapping[str, bytes], change: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, bytes]:
    """The files with a manifest that fits them, then changed, then signed."""
    manifest = json.loads(files[MANIFEST_FILE])
    for name in DATA_FILES:
        content = files[name]
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if change is not None:
        change(manifest)
    return sign_bundle({**files, MANIFEST_FILE: canonical(manifest)}, KEY)


def with_manifest_bytes(files: Mapping[str, bytes], content: bytes) -> dict[str, bytes]:
    return sign_bundle({**files, MANIFEST_FILE: content}, KEY)


def with_factors(files: Mapping[str, bytes], factors: Mapping[str, tuple[Any, Any]]) -> dict[str, bytes]:
    """All files hold these factors, whatever they are."""
    part = json.loads(files[MANIFEST_FILE])["part"]
    layers = {n: LayerEntry(a.shape[0], b.shape[1], a.shape[1], "float32") for n, (a, b) in factors.items()}
    data = {
        CONFIG_FILE: peft_config(part, layers),
        TENSOR_FILE: peft_tensors(part, factors),
        ONNX_FILE: onnx_adapter(factors),
    }

    def describe(manifest: dict[str, Any]) -> None:
        manifest["layers"] = {name: vars(entry) for name, entry in layers.items()}

    return signed_again({**files, **data}, describe)


def with_tensors(
    files: Mapping[str, bytes], change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
) -> dict[str, bytes]:
    """Only adapter_model.safetensors is changed."""
    return signed_again({**files, TENSOR_FILE: save(dict(change(load(files[TENSOR_FILE]))))})
