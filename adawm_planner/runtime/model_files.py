"""The files of a model folder and what must agree before one of them is used.

`config.yaml` says what the model's inputs and actions mean; a model made for others is refused here, before any
weight is read. No torch: the planner reads it too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adawm_planner import dims
from adawm_planner.config.yaml_file import read_mapping

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "weights.safetensors"
PLANNER_FILE = "planner.onnx"
IMAGINE_FILE = "imagine.onnx"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, PLANNER_FILE, IMAGINE_FILE)

STAGED = "export.part"
"""Folder in a model's own in which new files are made; on the same file system, so that they can be moved."""

UNFINISHED = "export.unfinished"
"""Lies in a model's folder while new files take the place of the old ones, which no file system does at once."""

COPY = "adawm_model_"
"""How the name of a private copy begins, before the number of its process."""

SCHEMA = "adawm.model/1"

STATE_SIZES = ("deter", "groups", "classes")
"""Entries of the section world_model that give the recurrent state its size."""


def interface() -> dict[str, Any]:
    """What a model must share with the installation that runs it."""
    return {
        "schema": SCHEMA,
        "decision_s": dims.DECISION_S,
        "bev_channels": list(dims.BEV_CHANNELS),
        "bev_size": dims.BEV_SIZE,
        "bev_cell_m": dims.BEV_CELL_M,
        "state_features": list(dims.STATE_FEATURES),
        "acceleration_bins": list(dims.ACCELERATION_BINS),
    }


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder for a model's new files; at the end they take the place of those in `folder`.

    Whatever ends the process meanwhile leaves the old model, or one that `check_finished` refuses.
    """
    made, staged = not folder.exists(), folder / STAGED
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
        (folder / UNFINISHED).touch()
        for file in list(staged.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()
    (folder / UNFINISHED).unlink()


def check_finished(folder: Path) -> None:
    """Raises ValueError where an export into the folder was interrupted: its files may be of two models."""
    if (folder / UNFINISHED).exists():
        raise ValueError(
            f"{folder}: an export into it was interrupted, its files may be of two models; run `adawm export` into it "
            "again, with --overwrite"
        )


@contextmanager
def private_copy(folder: Path) -> Iterator[Path]:
    """A copy of a model's files that nobody else knows, for as long as they are being opened.

    onnxruntime maps the weights: whoever cut or overwrote the file would end the process, or change what drives. A
    mapping outlives its name, so what is loaded from here stays as it was when it was checked. Copies of processes that
    were killed meanwhile are removed first: a planner that keeps being killed would fill the disk with them.

    Raises:
        ValueError: a file cannot be read, there is no room for the copy, or the files are being replaced.
    """
    check_finished(folder)
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{COPY}{os.getpid()}_") as name:
        for each in MODEL_FILES:
            try:
                shutil.copyfile(folder / each, Path(name) / each)
            except OSError as error:
                raise ValueError(f"{folder / each}: cannot be copied to {name} ({error.strerror})") from error
        check_finished(folder)
        yield Path(name)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{COPY}*_*"):
        pid = folder.name.removeprefix(COPY).partition("_")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Values of a model's config.yaml.

    Raises ValueError when it is missing or unreadable, differs from `interface()`, naming the first difference, does
    not tell the sizes of the recurrent state, or is one of files that were being replaced.
    """
    check_finished(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: holds no model, {CONFIG_FILE} is missing; run `adawm export` or `adawm pretrain`")
    values = read_mapping(path)
    for name, ours in interface().items():
        if values.get(name) != ours:
            raise ValueError(f"{path}: {name} is {values.get(name)}, this installation needs {ours}")
    for name in ("world_model", "policy"):
        if not isinstance(values.get(name), dict):
            raise ValueError(f"{path}: section {name} is missing")
    for name in STATE_SIZES:
        size = values["world_model"].get(name)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{path}: world_model.{name} is {size!r}, must be a whole number of at least 1")
    return values


def check_finite(tensors: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError naming the first of a file's tensors (numpy or torch, any shape) with a NaN or infinity."""
    for name, values in tensors.items():
        bad = int((~np.isfinite(np.asarray(values))).sum())
        if bad:
            raise ValueError(f"{path}: {name} has {bad} values that are NaN or infinite; restore the file")


def digest(folder: Path) -> str:
    """sha256 over the names and contents of the model's files, hexadecimal.

    Raises ValueError when one is missing, or they were being replaced.
    """
    check_finished(folder)
    total = hashlib.sha256()
    for name in MODEL_FILES:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{folder / name}: cannot be read ({error.strerror}); `adawm export` writes it") from error
        total.update(name.encode())
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()
