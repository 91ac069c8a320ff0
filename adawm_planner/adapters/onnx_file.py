"""Factors to and from planner.onnx_adapter, onnxruntime's own format.

onnxruntime only reads paths, and keeps the file mapped. It therefore gets a private copy in memory that no folder
names: what was verified is what runs, whatever happens to the bundle's folder later, and no disk has to have room.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnxruntime

from adawm_planner.adapters.factors import Factors, runtime_inputs
from adawm_planner.data_types import Float32
from adawm_planner.durable import write_all
from adawm_planner.error_text import first_line

ONNX_FILE = "planner.onnx_adapter"
VERSION = 1


def onnx_adapter(factors: Factors) -> bytes:
    """Content of planner.onnx_adapter. Raises OSError when there is no memory for it."""
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(each) for name, each in runtime_inputs(factors).items()}
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(VERSION)
    adapter.set_model_version(VERSION)
    adapter.set_parameters(values)
    with _in_memory() as path:
        try:
            adapter.export_adapter(path)
        except RuntimeError as error:
            raise OSError(f"{ONNX_FILE}: cannot be written in memory ({' '.join(str(error).split())})") from error
        with open(path, "rb") as file:
            return file.read()


def read_onnx_adapter(content: bytes) -> dict[str, Float32]:
    """Arrays by input name of planner.onnx.

    Raises:
        ValueError: onnxruntime cannot read the content.
        OSError: there is no memory, or no file descriptor, for the private copy.
    """
    with _in_memory(content) as path:
        try:
            adapter = onnxruntime.AdapterFormat.read_adapter(path)
        except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
            raise ValueError(f"not an adapter of onnxruntime ({first_line(error)})") from error
        # Copied, because the arrays point into what onnxruntime read.
        return {name: value.numpy().copy() for name, value in adapter.get_parameters().items()}


@dataclass(frozen=True)
class LoadedAdapter:
    """RunOptions with an adapter, and the adapter.

    Keep this object while the options are in use: RunOptions only points to the adapter, and a run after the adapter
    was freed ends the process.
    """

    options: Any  # onnxruntime.RunOptions, for session.run; no effect with IO binding
    adapter: Any  # onnxruntime.LoraAdapter


def load_onnx_adapter(content: bytes) -> LoadedAdapter:
    """An adapter ready to run on planner.onnx; raises as `read_onnx_adapter`."""
    adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    with _in_memory(content) as path:
        try:
            adapter.Load(path)
        except Exception as error:  # as above
            raise ValueError(f"not an adapter of onnxruntime ({first_line(error)})") from error
    options.add_active_adapter(adapter)
    return LoadedAdapter(options, adapter)


@contextmanager
def _in_memory(content: bytes = b"") -> Iterator[str]:
    """Path of a file in memory, which lasts for the block, and where onnxruntime maps it as long as that."""
    descriptor = os.memfd_create(ONNX_FILE)
    try:
        write_all(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
