"""One training stage as a loop that survives being killed.

An update function goes in; the loop calls it with a step number, validates, keeps the best weights, stops when
they no longer improve, and writes a checkpoint every few updates. What an update draws at random must follow from
the seed and the step alone (`step_generator`), then a resumed stage makes the same updates. How many follows from them
too, unless its minutes end it: the checkpoint keeps the time that its updates took, and that depends on the machine and
on what else it does, whether the stage was killed or not.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from adawm_planner.durable import lock
from adawm_planner.policy.agent import write_weights
from adawm_planner.runtime.model_files import check_finite

Metrics = Mapping[str, float]
LOG_EVERY = 20


@dataclass
class Run:
    """Where a run writes and how it shows itself."""

    folder: Path
    seed: int
    threads: int
    checkpoint_every: int

    @cached_property
    def _writer(self) -> SummaryWriter:
        # Opened by the first log only: it makes its folder, and not everything that shows progress logs.
        return SummaryWriter(str(self.folder / "tensorboard"))

    @contextmanager
    def progress(self, name: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """A progress bar; call the result with (done, text)."""
        columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}")) as bar:
            task = bar.add_task(name, total=total, text="")
            yield lambda done, text: bar.update(task, completed=min(done, total), text=text)

    def log(self, name: str, metrics: Metrics, step: int) -> None:
        """Scalars under `name/` for TensorBoard."""
        for key, value in metrics.items():
            self._writer.add_scalar(f"{name}/{key}", value, step)


def lock_run(folder: Path) -> TextIO:
    """Take a run's folder, made if missing, until the returned file is closed or the process ends, however it ends.

    Raises:
        ValueError: another process works on the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = lock(folder / "lock")
    if taken is None:
        raise ValueError(f"{folder}: another process works on this run; wait for it or choose another --run")
    return os.fdopen(taken, "r+")


@dataclass(frozen=True)
class Stage:
    """What `fit` runs."""

    name: str
    update: Callable[[int], Metrics]  # one optimiser step; the argument is the step number
    validate: Callable[[], Metrics]  # lower "loss" is better
    modules: Mapping[str, nn.Module]  # everything that training changes
    optimizers: Mapping[str, torch.optim.Optimizer]
    updates: int
    minutes: float
    validate_every: int
    patience: int


@dataclass
class _Position:
    """How far a stage has come."""

    step: int = 0
    best: float = float("inf")
    stale: int = 0  # validations since the best
    seconds: float = 0.0


@dataclass(frozen=True)
class FitReport:
    """How a stage ended."""

    name: str
    updates: int
    best_loss: float
    seconds: float  # that these updates took, in whichever call
    reason: str  # updates, minutes or patience
    validation: dict[str, float]


def step_generator(seed: int, stage: str, step: int) -> np.random.Generator:
    """numpy generator of one update; torch is seeded along with it."""
    generator = np.random.default_rng([seed, zlib.crc32(stage.encode()), step])
    torch.manual_seed(int(generator.integers(2**31)))
    return generator


def fit(stage: Stage, run: Run) -> FitReport:
    """Run a stage to its end, from its checkpoint where there is one; the modules hold the best weights after.

    Raises ValueError for a checkpoint that is damaged or of another stage; nothing of it is taken over then.
    """
    torch.set_num_threads(run.threads)
    path = run.folder / "checkpoints" / f"{stage.name}.safetensors"
    position, best = _resume(stage, path)
    begun, before = time.monotonic(), position.seconds
    validation: dict[str, float] = {}
    with run.progress(stage.name, stage.updates) as show:
        while (reason := _reason_to_stop(stage, position)) is None:
            metrics = stage.update(position.step)
            position.step += 1
            position.seconds = before + time.monotonic() - begun
            if position.step % LOG_EVERY == 0:
                run.log(stage.name, metrics, position.step)
                show(position.step, " ".join(f"{key} {value:.3f}" for key, value in metrics.items()))
            if position.step % stage.validate_every == 0 or position.step == stage.updates:
                validation = _validate(stage, run, position, best)
            if position.step % run.checkpoint_every == 0:
                _checkpoint(stage, path, position, best)
    _load_modules(stage, best or _module_state(stage))
    _checkpoint(stage, path, position, best)
    return FitReport(stage.name, position.step, position.best, position.seconds, reason, validation)


def _reason_to_stop(stage: Stage, position: _Position) -> str | None:
    if position.step >= stage.updates:
        return "updates"
    if position.stale >= stage.patience:
        return "patience"
    return "minutes" if position.seconds > 60.0 * stage.minutes else None


def _validate(stage: Stage, run: Run, position: _Position, best: dict[str, Tensor]) -> dict[str, float]:
    metrics = dict(stage.validate())
    run.log(f"{stage.name}_held_out", metrics, position.step)
    position.stale += 1
    if metrics["loss"] < position.best:
        position.best, position.stale = metrics["loss"], 0
        best.update({name: value.clone() for name, value in _module_state(stage).items()})
    return metrics


def _module_state(stage: Stage) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value for name, module in stage.modules.items() for key, value in module.state_dict().items()
    }


def _load_modules(stage: Stage, tensors: Mapping[str, Tensor]) -> None:
    for name, module in stage.modules.items():
        module.load_state_dict(_below(tensors, f"{name}."))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors: `<index>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, row in state.items() for name, value in row.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    whole, state = optimizer.state_dict(), dict[int, dict[str, Tensor]]()
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**whole, "state": state})


def _checkpoint(stage: Stage, path: Path, position: _Position, best: Mapping[str, Tensor]) -> None:
    tensors = {f"now.{key}": value for key, value in _module_state(stage).items()}
    tensors |= {f"best.{key}": value for key, value in best.items()}
    for name, optimizer in stage.optimizers.items():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer_tensors(optimizer).items()}
    write_weights(path, tensors, {key: repr(value) for key, value in vars(position).items()})


def _resume(stage: Stage, path: Path) -> tuple[_Position, dict[str, Tensor]]:
    if not path.exists():
        return _Position(), {}
    try:
        tensors, position = _read_checkpoint(path)
        best = _below(tensors, "best.")
        check_finite(tensors, path)
        _check_fit(stage, tensors, best)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: no checkpoint of stage {stage.name} ({text}); remove it to begin anew") from error
    _load_modules(stage, _below(tensors, "now."))
    for name, optimizer in stage.optimizers.items():
        load_optimizer(optimizer, _below(tensors, f"optimizer.{name}."))
    return position, best


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], _Position]:
    with safe_open(path, framework="pt") as archive:
        meta = archive.metadata() or {}
        tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
    return tensors, _Position(int(meta["step"]), float(meta["best"]), int(meta["stale"]), float(meta["seconds"]))


def _check_fit(stage: Stage, tensors: Mapping[str, Tensor], best: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless every tensor has the shape of what it is for; `best` may be empty."""
    wanted = {name: tuple(value.shape) for name, value in _module_state(stage).items()}
    for kept in (_below(tensors, "now."), best or _module_state(stage)):
        held = {name: tuple(value.shape) for name, value in kept.items()}
        for name in sorted(held.keys() | wanted):
            if held.get(name) != wanted.get(name):
                raise ValueError(f"{name} is {held.get(name)}, the stage's is {wanted.get(name)}")
    for name, optimizer in stage.optimizers.items():
        shapes = [tuple(value.shape) for group in optimizer.param_groups for value in group["params"]]
        for key, value in _below(tensors, f"optimizer.{name}.").items():
            index = int(key.split(".", 1)[0])
            if index >= len(shapes) or (value.dim() and tuple(value.shape) != shapes[index]):
                raise ValueError(f"optimizer.{name}.{key} is {tuple(value.shape)}, fits none of its parameters")
