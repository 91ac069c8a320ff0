"""A batch with known outputs: shows that an adapter really acts, and acts here as it did where it was made.

The adapter is alone on the base; rows are independent, so that no rounding is carried on from row to row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adawm_planner.adapters.factors import Factors, runtime_inputs
from adawm_planner.adapters.manifest import Probe
from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE

GRAPH_OUTPUTS = ("h_next", "probabilities", "value", "surprise")
PROBE_OUTPUTS = ("state", "probabilities", "value", "surprise")
"""Of each row: h_next summed with random signs, (A,) probabilities, value, surprise."""

ROWS = 8
MOST_ROWS = 64
ROW_SIZES = {"state": 1, "probabilities": ACTION_COUNT, "value": 1, "surprise": 1}
"""Numbers per row of each output."""

Runner = Callable[[Mapping[str, Any]], Sequence[Any]]
"""Feeds of planner.onnx -> its GRAPH_OUTPUTS, with the adapter active."""


def session_runner(session: Any, factors: Factors | None = None, options: Any = None) -> Runner:
    """Run a planner.onnx session with factors as inputs, or with adapters in onnxruntime's RunOptions."""
    more = {} if factors is None else runtime_inputs(factors)
    return lambda feeds: session.run(GRAPH_OUTPUTS, {**feeds, **more}, options)


def probe_inputs(seed: int, count: int, deter: int, stochastic: int) -> dict[str, np.ndarray]:
    """Inputs of N rows by name of planner.onnx's input, each (N, 1, ...).

    Args:
        seed: of numpy's PCG64.
        count: N.
        deter, stochastic: sizes of h and z.
    """
    rng = np.random.default_rng(seed)
    return {
        "bev": (255 * (rng.random((count, 1, *BEV_SHAPE)) < 0.2)).astype(np.uint8),
        "state": rng.normal(0.0, 0.5, (count, 1, STATE_SIZE)).astype(np.float32),
        "h": rng.uniform(-1.0, 1.0, (count, 1, deter)).astype(np.float32),
        "z": (rng.random((count, 1, stochastic)) < 0.125).astype(np.float32),
        "action": np.eye(ACTION_COUNT, dtype=np.float32)[rng.integers(0, ACTION_COUNT, (count, 1))],
        "first": np.zeros((count, 1, 1), np.float32),
    }


def make_probe(session: Any, factors: Factors, seed: int, tolerance: float) -> Probe:
    """The probe of an adapter.

    Args:
        session: of the base's planner.onnx.
        factors: of the adapter.
        seed: of the inputs.
        tolerance: least difference from the base that counts as an effect.

    Raises:
        ValueError: the outputs are not finite, or equal those of the base: there is nothing to push.
    """
    inputs = _inputs(session, seed, ROWS)
    outputs, base = (_outputs(inputs, session_runner(session, each), seed) for each in (factors, None))
    effect = _difference(outputs, base)
    if not np.isfinite(effect):
        raise ValueError("the adapter makes the model's outputs infinite or NaN")
    if not effect > tolerance:
        raise ValueError(
            f"the adapter moves no output of the probe by more than {tolerance:g} (largest {effect:.2g}), "
            "so nobody could tell whether it is active; adapt longer"
        )
    values = {name: tuple(float(each) for each in array) for name, array in outputs.items()}
    return Probe(seed, ROWS, _digest(inputs), values)


def check_probe(probe: Probe, session: Any, run: Runner, tolerance: float) -> Refusal | None:
    """Run the probe and compare.

    Args:
        probe: of a verified manifest.
        session: of the planner's planner.onnx, asked for the sizes of its inputs.
        run: runs the planner with the adapter active, as it would drive.
        tolerance: largest absolute difference of any output.

    Returns:
        None, or why the adapter is refused.
    """
    remedy = "The adapter does not act here as where it was made: do not drive with it; write the bundle again"
    try:
        inputs = _inputs(session, probe.seed, probe.count)
        if _digest(inputs) != probe.inputs_sha256:
            refuse(Reason.PROBE, "the probe's inputs must be those of its maker", "others", "the same sha256", remedy)
        found = _outputs(inputs, run, probe.seed)
        difference = _difference(found, {name: np.array(each) for name, each in probe.outputs.items()})
        if not difference <= tolerance:
            refuse(
                Reason.PROBE,
                "the probe's outputs must be the manifest's",
                f"difference {difference:.3g}",
                f"{tolerance:g}",
                remedy,
            )
    except Refused as refused:
        return refused.refusal
    return None


def check_form(probe: Probe) -> None:
    """Raises ValueError for a probe that cannot be run or compared: too many rows, missing outputs."""
    if probe.count > MOST_ROWS:
        raise ValueError(f"probe.count is {probe.count}, must be at most {MOST_ROWS}")
    wanted = {name: probe.count * size for name, size in ROW_SIZES.items()}
    found = {name: len(values) for name, values in probe.outputs.items()}
    if found != wanted:
        raise ValueError(f"probe.outputs must hold {wanted} numbers, holds {found}")


def _inputs(session: Any, seed: int, count: int) -> dict[str, np.ndarray]:
    sizes = {item.name: item.shape for item in session.get_inputs()}
    return probe_inputs(seed, count, int(sizes["h"][1]), int(sizes["z"][1]))


def _outputs(inputs: Mapping[str, np.ndarray], run: Runner, seed: int) -> dict[str, np.ndarray]:
    """Each output of all rows, flattened."""
    count, size = inputs["h"].shape[0], inputs["h"].shape[2]
    signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], size)
    rows = [run({name: each[k] for name, each in inputs.items()}) for k in range(count)]
    return {
        "state": np.array([float(row[0][0] @ signs) for row in rows]),
        **{name: np.concatenate([row[k].ravel() for row in rows]) for k, name in enumerate(PROBE_OUTPUTS) if k},
    }


def _difference(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference; NaN where one is NaN."""
    return float(np.max([np.abs(left[name] - right[name]).max() for name in PROBE_OUTPUTS]))


def _digest(inputs: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(inputs):
        total.update(name.encode())
        total.update(inputs[name].tobytes())
    return total.hexdigest()
