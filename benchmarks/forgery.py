"""Bundles of a signer who is trusted and wrong: everything but the one thing under test is in order.

Tests and `adawm benchmark attacks` send them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import load, save

from adawm_planner.adapters.bundle import (
    DATA_FILES,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    Draft,
    Files,
    build_bundle,
    sign_bundle,
)
from adawm_planner.adapters.factors import Factors
from adawm_planner.adapters.manifest import LayerEntry
from adawm_planner.adapters.onnx_file import ONNX_FILE, onnx_adapter
from adawm_planner.adapters.peft_files import CONFIG_FILE, TENSOR_FILE, peft_config, peft_tensors
from adawm_planner.adapters.refusal import Reason
from adawm_planner.adapters.strict_json import canonical
from adawm_planner.config.adapters import AdapterLimits


def signed_again(
    files: Files, change: Callable[[dict[str, Any]], Any] | None = None, *, key: Ed25519PrivateKey
) -> dict[str, bytes]:
    """The files with a manifest that fits them, then changed, then signed."""
    manifest = json.loads(files[MANIFEST_FILE])
    for name in DATA_FILES:
        content = files[name]
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if change is not None:
        change(manifest)
    return sign_bundle({**files, MANIFEST_FILE: canonical(manifest)}, key)


def with_manifest_bytes(files: Files, content: bytes, *, key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The files with this in place of the manifest, signed."""
    return sign_bundle({**files, MANIFEST_FILE: content}, key)


def with_factors(files: Files, factors: Factors, *, key: Ed25519PrivateKey) -> dict[str, bytes]:
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

    return signed_again({**files, **data}, describe, key=key)


def with_tensors(
    files: Files,
    change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    *,
    key: Ed25519PrivateKey,
) -> dict[str, bytes]:
    """Only adapter_model.safetensors is changed."""
    return signed_again({**files, TENSOR_FILE: save(dict(change(load(files[TENSOR_FILE]))))}, key=key)


def hostile(
    draft: Draft, good: Files, factors: Mapping[str, Factors], session: Any, key: Ed25519PrivateKey
) -> Iterator[tuple[Reason, dict[str, bytes]]]:
    """Updates against a vehicle that drives with `good`: one of each attack that a message can carry, and its refusal.

    Args:
        draft: of a policy's bundle that the vehicle would take, with one more than `good`'s counter, that expires.
        good: signed files.
        factors: by part, in order.
        session: of the base's planner.onnx.
        key: whose bundles the vehicle takes.
    """
    ours, now = factors["policy"], draft.created_unix_s

    def bundle(signer: Ed25519PrivateKey = key, **changes: Any) -> dict[str, bytes]:
        return sign_bundle(build_bundle(replace(draft, **changes), ours, session, AdapterLimits()), signer)

    def holding(content: Factors) -> dict[str, bytes]:
        return with_factors(fresh, content, key=key)

    fresh = bundle()
    last = list(ours)[-1]
    down, up = ours[last]
    yield Reason.UNTRUSTED_KEY, bundle(Ed25519PrivateKey.generate())
    yield Reason.UNSIGNED, {name: content for name, content in fresh.items() if name != SIGNATURE_FILE}
    yield Reason.BAD_SIGNATURE, {**fresh, SIGNATURE_FILE: good[SIGNATURE_FILE]}
    yield Reason.FILE_DIGEST, {**fresh, TENSOR_FILE: fresh[TENSOR_FILE][:-1] + b"\1"}
    yield Reason.FILE_SIZE, {**fresh, TENSOR_FILE: fresh[TENSOR_FILE][:-1]}
    yield Reason.FILE_SIZE, signed_again(fresh, lambda m: m["files"][TENSOR_FILE].update(bytes=2 * 2**30), key=key)
    yield Reason.MISSING_FILE, {name: content for name, content in fresh.items() if name != TENSOR_FILE}
    yield Reason.EXTRA_FILE, {**fresh, "model.pkl": b"\x80"}
    yield Reason.FILE_NAME, {**fresh, "../model.onnx": b"x"}
    yield Reason.TENSOR_FORMAT, signed_again({**fresh, TENSOR_FILE: pickle.dumps({"x": 1})}, key=key)
    yield Reason.MANIFEST_FORMAT, with_manifest_bytes(fresh, b"{}", key=key)
    yield Reason.DUPLICATE, dict(good)
    yield Reason.COUNTER, bundle(counter=draft.counter - 2)
    yield Reason.COUNTER_STEP, bundle(counter=2**62)
    yield Reason.EXPIRED, bundle(expires_unix_s=now + 1)
    yield Reason.NOT_YET_VALID, bundle(created_unix_s=now + 3000)
    yield Reason.OTHER_BASE, bundle(base="ab" * 32)
    yield Reason.OTHER_VEHICLE, bundle(vehicle="another")
    yield Reason.OTHER_PART, holding(factors["dynamics"])
    yield Reason.UNKNOWN_LAYER, holding({"actor.net.99": (down, up)})
    yield Reason.SHAPE, holding({**ours, last: (down, np.concatenate([up, up], 1))})
    yield Reason.NOT_FINITE, holding({**ours, last: (down, np.full_like(up, np.nan))})
    yield Reason.NOT_FINITE, holding({**ours, last: (down, np.full_like(up, np.inf))})
    yield Reason.NORM, holding({name: (a, 11 * b) for name, (a, b) in ours.items()})
    yield Reason.NO_EFFECT, holding({name: (a, 0 * b) for name, (a, b) in ours.items()})
