"""(Carry, Observation) -> (Carry, PolicyOutput), by onnxruntime.

Loads a model folder written by `export`; `drive_step` calls it once per decision. The recurrent state is the
caller's, the posterior is deterministic, and there is no torch in here.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load_file

from adawm_planner.adapters.factors import Factors, runtime_inputs
from adawm_planner.data_types import Carry, Float32, Observation, PolicyOutput, UInt8
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.error_text import first_line
from adawm_planner.runtime.active_adapters import BASE, ActiveAdapters
from adawm_planner.runtime.model_files import (
    IMAGINE_FILE,
    MODEL_FILES,
    PLANNER_FILE,
    WEIGHTS_FILE,
    check_finite,
    digest,
    private_copy,
    read_config,
)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Parameter value -> onnxruntime's name."""

FULL_PRECISION = {PROVIDERS["cuda"]: {"use_tf32": "0"}}
"""Options of a provider. TF32, the default of both on GPUs since Ampere, keeps 10 bits of a factor: an adapter's
probe, made on a CPU, could fail there, and the same frame would be driven otherwise than where it was tested."""

TENSORRT_PRECISION = "NVIDIA_TF32_OVERRIDE"
"""TensorRT's provider has no such option; NVIDIA's libraries read this variable when they are first used."""

STEP_OUTPUTS = ("h_next", "z_next", "probabilities", "value")


@dataclass(frozen=True)
class Imagined:
    """The next K decisions as the model imagines them."""

    speed: Float32  # (K,) m/s
    bev: UInt8  # (K, C, H, W), channels as dims.BEV_CHANNELS, in the imagined ego frame
    probabilities: Float32  # (K, A) that the imagined actions were taken from


class Engine(Protocol):
    """Runs a model; see OnnxEngine."""

    digest: str  # of the base model
    provider: str

    @property
    def adapter_digests(self) -> tuple[str, ...]:
        """sha256 of each active adapter bundle, hex; never changes, a swap replaces the engine."""

    def initial(self) -> Carry:
        """Recurrent state before the first observation."""

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """Filter one observation and ask the policy."""

    def imagine(self, carry: Carry) -> Imagined:
        """What would come next."""


class AdaptableEngine(Engine, Protocol):
    """An engine that takes adapters; see OnnxEngine."""

    @property
    def planner_session(self) -> Any:
        """The onnxruntime session of planner.onnx, for probes; may be run by several threads at once."""

    def with_adapters(self, active: ActiveAdapters) -> AdaptableEngine:
        """The same model with these adapters instead."""


class OnnxEngine:
    """A model folder, loaded; with adapters or without, it never changes."""

    adapter_digests: tuple[str, ...] = ()

    def __init__(
        self, model_dir: Path, provider: str = "auto", threads: int = 1, factors: Factors | None = None
    ) -> None:
        """Load the model.

        Args:
            model_dir: folder with config.yaml, weights.safetensors, planner.onnx, imagine.onnx.
            provider: auto, cpu, cuda or tensorrt; auto takes CUDA where it is there and starts, else the CPU.
            threads: of onnxruntime, at least 1.
            factors: of verified adapters, active as long as the engine lives; None: the base model.

        Raises:
            ValueError: a file is missing or damaged, a weight is not finite, the model was made for other inputs or
                actions, or the provider is not there.
        """
        missing = [name for name in MODEL_FILES if not (model_dir / name).is_file()]
        if missing:
            raise ValueError(f"{model_dir}: {', '.join(missing)} missing; run `adawm export` or `adawm pretrain`")
        if threads < 1:
            raise ValueError(f"threads is {threads}, must be at least 1")
        candidates = providers_for(provider)
        with private_copy(model_dir) as copied:
            for candidate in candidates:
                try:
                    self._load(copied, candidate, threads, runtime_inputs(factors or {}))
                    break
                except ValueError as error:
                    if candidate == candidates[-1]:
                        raise ValueError(str(error).replace(str(copied), str(model_dir))) from error

    def _load(self, folder: Path, provider: str, threads: int, inputs: Mapping[str, Float32]) -> None:
        config = read_config(folder)["world_model"]
        self.digest, self.provider = digest(folder), provider
        _check_weights(folder / WEIGHTS_FILE)
        self._deter, self._stochastic = int(config["deter"]), int(config["groups"]) * int(config["classes"])
        self._planner = _open(folder / PLANNER_FILE, provider, threads)
        self._imagine = _open(folder / IMAGINE_FILE, provider, threads)
        self._planner_factors = _taken(inputs, self._planner)
        # The imagined future has no observations, hence no posterior: its graph takes fewer factors.
        self._imagine_factors = _taken(inputs, self._imagine)
        self._options: Any = None
        self._active = BASE
        if len(self._planner_factors) < len(inputs):
            raise ValueError(f"{folder}: takes no factors {sorted(set(inputs) - set(self._planner_factors))}")
        self._check(folder)

    @property
    def planner_session(self) -> Any:
        """The onnxruntime session of planner.onnx; may be run by several threads at once."""
        return self._planner

    def with_adapters(self, active: ActiveAdapters) -> OnnxEngine:
        """The same sessions with these adapters instead, made in microseconds; this engine stays as it is.

        Raises ValueError when this engine was made with factors, which would act as well.
        """
        if self._planner_factors:
            raise ValueError("an engine with fixed factors takes no adapters; make one without")
        other = copy.copy(self)
        other._active, other._options, other.adapter_digests = active, active.options, active.digests
        other._imagine_factors = _taken(runtime_inputs(active.factors), self._imagine)
        return other

    def initial(self) -> Carry:
        """Recurrent state before the first observation: zeros."""
        return Carry(
            np.zeros((1, self._deter), np.float32),
            np.zeros((1, self._stochastic), np.float32),
            np.zeros((1, ACTION_COUNT), np.float32),
            self._active.memory,
        )

    def step(self, carry: Carry, observation: Observation, first: bool) -> tuple[Carry, PolicyOutput]:
        """One decision.

        Args:
            carry: recurrent state, its action the one taken before this observation.
            observation: what is seen now.
            first: whether an episode begins here; the carry is then ignored.

        Returns:
            The new carry, whose action the caller replaces by the one it chooses, and the policy's output.

        Raises:
            ValueError: the carry was filtered with another dynamics adapter.
        """
        self._check_memory(carry)
        feeds = {
            "bev": observation.bev[None],
            "state": observation.state[None],
            "h": carry.h,
            "z": carry.z,
            "action": carry.action,
            "first": np.full((1, 1), float(first), np.float32),
            **self._planner_factors,
        }
        h, z, probabilities, value = self._planner.run(STEP_OUTPUTS, feeds, self._options)
        return Carry(h, z, carry.action, carry.memory), PolicyOutput(probabilities[0], float(value[0]))

    def imagine(self, carry: Carry) -> Imagined:
        """The next decisions when the most probable action is taken and the most probable thing happens.

        Raises ValueError as `step`.
        """
        self._check_memory(carry)
        feeds = {"h": carry.h, "z": carry.z, **self._imagine_factors}
        return Imagined(*self._imagine.run(("speed", "bev", "probabilities"), feeds))

    def _check_memory(self, carry: Carry) -> None:
        if carry.memory != self._active.memory:
            raise ValueError(
                f"recurrent state of dynamics adapter '{carry.memory[:12]}' given to an engine with "
                f"'{self._active.memory[:12]}' (empty: the base model); start the episode anew or re-warm it"
            )

    def _check(self, model_dir: Path) -> None:
        """Refuse files of different models, and load what onnxruntime loads on the first call."""
        carried = {"h": [1, self._deter], "z": [1, self._stochastic]}
        seen = {"bev": [1, *BEV_SHAPE], "state": [1, STATE_SIZE]}
        tables = ((PLANNER_FILE, self._planner, {**seen, **carried}), (IMAGINE_FILE, self._imagine, carried))
        for file, session, wanted in tables:
            shapes = {item.name: item.shape for item in session.get_inputs()}
            for name, shape in wanted.items():
                if shapes.get(name) != shape:
                    where = model_dir / file
                    raise ValueError(f"{where}: input {name} is {shapes.get(name)}, config.yaml says {shape}")
        nothing = Observation(np.zeros(BEV_SHAPE, np.uint8), np.zeros(STATE_SIZE, np.float32))
        try:
            carry, output = self.step(self.initial(), nothing, True)
            self.imagine(carry)
        except Exception as error:  # as in _open
            raise ValueError(f"{model_dir}: the model cannot be run ({first_line(error)})") from error
        given = {"h": carry.h, "z": carry.z, "probabilities": output.probabilities, "value": output.value}
        check_finite(given, model_dir / PLANNER_FILE)


def providers_for(wanted: str, available: list[str] | None = None) -> tuple[str, ...]:
    """onnxruntime's names of the providers to try, in order.

    What onnxruntime was built with need not start: CUDA wants a driver and its libraries.

    Args:
        wanted: auto, cpu, cuda or tensorrt.
        available: what onnxruntime has; None asks it.

    Raises:
        ValueError: the name is unknown, or this installation does not have it.
    """
    available = onnxruntime.get_available_providers() if available is None else available
    if wanted == "auto":
        return tuple(PROVIDERS[name] for name in ("cuda", "cpu") if PROVIDERS[name] in available)
    if wanted not in PROVIDERS:
        raise ValueError(f"provider '{wanted}' is unknown; choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[wanted] not in available:
        raise ValueError(
            f"provider '{wanted}' is not there: onnxruntime has {', '.join(available)}; "
            "install the extra 'gpu' (onnxruntime-gpu) on a machine with the driver, or choose cpu"
        )
    return (PROVIDERS[wanted],)


def _taken(inputs: Mapping[str, Float32], session: Any) -> dict[str, Float32]:
    """Those of the factors' inputs that the session's graph has."""
    known = {item.name for item in session.get_overridable_initializers()}
    return {name: value for name, value in inputs.items() if name in known}


def _check_weights(path: Path) -> None:
    """Raises ValueError for a file that is no safetensors or holds a value that is not finite."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: damaged ({error}); restore the file") from error
    check_finite(tensors, path)


def _open(path: Path, provider: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads would take the core from whoever shares it with the planner.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    names = dict.fromkeys([provider, PROVIDERS["cpu"]])
    if provider == PROVIDERS["tensorrt"]:
        os.environ.setdefault(TENSORRT_PRECISION, "0")
    providers = [(name, FULL_PRECISION.get(name, {})) for name in names]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
        raise ValueError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from error
    if session.get_providers()[0] != provider:
        raise ValueError(
            f"{path}: onnxruntime could not start {provider}; it would run on {session.get_providers()[0]}"
        )
    return session
