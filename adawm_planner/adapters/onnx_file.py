"""Factors to and from planner.onnx_adapter, onnxruntime's own format.

onnxruntime only reads paths, and keeps the file mapped. It therefore gets a private copy that has no name any more
once it is open: what was verified is what runs, whatever happens to the bundle's folder later.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from adawm_planner.adapters.factors import Factors, runtime_inputs
from adawm_planner.data_types import Float32

ONNX_FILE = "planner.onnx_adapter"
VERSION = 1


def onnx_adapter(factors: Factors) -> bytes:
    """Content of planner.onnx_adapter. Raises OSError when there is no room for it among the temporary files."""
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(each) for name, each in runtime_inputs(factors).items()}
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(VERSION)
    adapter.set_model_version(VERSION)
    adapter.set_parameters(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX_FILE
        try:
            adapter.export_adapter(str(path))
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be written ({' '.join(str(error).split())})") from error
        return path.read_bytes()


def read_onnx_adapter(content: bytes) -> dict[str, Float32]:
    """Arrays by input name of planner.onnx. Raises ValueError when onnxruntime cannot read the content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX_FILE
        path.write_bytes(content)
        try:
            adapter = onnxruntime.AdapterFormat.read_adapter(str(path))
            # Copied, because the arrays point into what onnxruntime read.
            return {name: value.numpy().copy() for name, value in adapter.get_parameters().items()}
        except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
            raise ValueError(f"not an adapter of onnxruntime ({str(error).splitlines()[0]})") from error


@dataclass(frozen=True)
class LoadedAdapter:
    """RunOptions with an adapter, and the adapter.

    Keep this object while the options are in use: RunOptions only points to the adapter, and a run after the adapter
    was freed ends the process.
    """

    options: Any  # onnxruntime.RunOptions, for session.run; no effect with IO binding
    adapter: Any  # onnxruntime.LoraAdapter


def load_onnx_adapter(content: bytes) -> LoadedAdapter:
    """An adapter ready to run on planner.onnx; raises ValueError as `read_onnx_adapter`."""
    adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX_FILE
        path.write_bytes(content)
        try:
            adapter.Load(str(path))
        except Exception as error:  # as above
            raise ValueError(f"not an adapter of onnxruntime ({str(error).splitlines()[0]})") from error
    options.add_active_adapter(adapter)
    return LoadedAdapter(options, adapter)
