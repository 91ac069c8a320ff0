"""Verified adapters in, what onnxruntime needs to run them out: one immutable value per combination.

What drives is described by exactly one `ActiveAdapters`; a swap replaces it by another one and changes none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnxruntime

from adawm_planner.adapters.factors import Factors
from adawm_planner.adapters.onnx_file import ONNX_FILE, load_onnx_adapter
from adawm_planner.adapters.verify import VerifiedAdapter

DYNAMICS = "dynamics"
"""The part that the recurrent state depends on."""


@dataclass(frozen=True)
class ActiveAdapters:
    """The adapters of one engine, at most one per part, loaded."""

    adapters: tuple[VerifiedAdapter, ...] = ()  # in the order of their parts' names
    options: Any = None  # onnxruntime.RunOptions of planner.onnx; None: the base model
    loaded: tuple[Any, ...] = ()  # what `options` points to; freed earlier, the next run ends the process

    @property
    def digests(self) -> tuple[str, ...]:
        """sha256 of each bundle, hex."""
        return tuple(each.digest for each in self.adapters)

    @property
    def memory(self) -> str:
        """Digest of the dynamics adapter, empty without one: recurrent states of others do not fit."""
        return next((each.digest for each in self.adapters if each.manifest.part == DYNAMICS), "")

    @property
    def factors(self) -> Factors:
        """Factors of all layers; the parts share none."""
        return {name: pair for each in self.adapters for name, pair in each.factors.items()}


BASE = ActiveAdapters()
"""The base model alone."""


def load_adapters(adapters: Iterable[VerifiedAdapter]) -> ActiveAdapters:
    """Load verified adapters side by side (0.4 to 4 ms each).

    Raises:
        ValueError: two change the same part, or onnxruntime cannot load one.
    """
    chosen = tuple(sorted(adapters, key=lambda each: each.manifest.part))
    if not chosen:
        return BASE
    parts = [each.manifest.part for each in chosen]
    if len(set(parts)) < len(parts):
        raise ValueError(f"adapters of parts {', '.join(parts)}: only one of each part can be active")
    loaded = tuple(load_onnx_adapter(each.files[ONNX_FILE]) for each in chosen)
    options = onnxruntime.RunOptions()
    for each in loaded:
        options.add_active_adapter(each.adapter)
    return ActiveAdapters(chosen, options, loaded)
