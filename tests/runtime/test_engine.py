"""The exported model: equal to torch, open to adapters, and refused where it does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from adawm_planner.config.presets import load_pretraining
from adawm_planner.data_types import Carry, Observation
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.policy.agent import Agent, load_agent, save_agent
from adawm_planner.runtime.engine import PROVIDERS, TENSORRT_PRECISION, OnnxEngine, providers_for
from adawm_planner.runtime.export import adaptable_layers, export_model
from adawm_planner.runtime.model_files import digest
from adawm_planner.world_model.rssm import State

TOLERANCE = 1e-4
STEPS = 200
BASE = Path(__file__).resolve().parents[2] / "models" / "base"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random agent, exported; its latents vary because its weights are made larger than at the start."""
    folder = tmp_path_factory.mktemp("model")
    config = load_pretraining(preset="debug")
    torch.manual_seed(0)
    agent = Agent(config.world_model, config.policy)
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            if name.endswith("logits.weight") or name.startswith(("critic.head.net.6", "actor.net.6")):
                parameter.copy_(torch.randn_like(parameter))
    save_agent(agent, folder / "agent")
    export_model(folder / "agent", folder / "model")
    return folder / "model"


def observations(count: int) -> list[Observation]:
    rng = np.random.default_rng(0)
    bevs = rng.integers(0, 256, (count, *BEV_SHAPE), dtype=np.uint8) * (rng.random((count, *BEV_SHAPE)) < 0.2)
    states = rng.normal(0.0, 0.5, (count, STATE_SIZE)).astype(np.float32)
    return [Observation(bev.astype(np.uint8), state) for bev, state in zip(bevs, states, strict=True)]


class TorchEngine:
    """The same interface, by torch; also says how close the closest argmax was."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def step(self, carry: Carry, seen: Observation, first: bool) -> tuple[Carry, np.ndarray, float, float]:
        state = State(torch.from_numpy(carry.h), torch.from_numpy(carry.z))
        arguments = (
            torch.from_numpy(carry.action),
            torch.full((1, 1), float(first)),
            torch.from_numpy(seen.bev)[None],
            torch.from_numpy(seen.state)[None],
        )
        with torch.inference_mode():
            after, posterior = self.agent.world_model.observe_step(state, *arguments)
            probabilities, value = self.agent.actor(after.latent()), self.agent.critic(after.latent())
        best = posterior.topk(2, -1).values
        gap = float((best[..., 0] - best[..., 1]).min())
        return Carry(after.h.numpy(), after.z.numpy(), carry.action), probabilities[0].numpy(), float(value[0]), gap


def assert_equal_over_steps(folder: Path) -> None:
    """Both engines run freely, each on its own recurrent state; only a tie, where rounding decides, is bridged."""
    torch_engine, engine = TorchEngine(load_agent(folder)), OnnxEngine(folder, "cpu")
    ours = theirs = engine.initial()
    bridged = 0
    for k, seen in enumerate(observations(STEPS)):
        first = k in (0, 120)
        ours, output = engine.step(ours, seen, first)
        theirs, probabilities, value, gap = torch_engine.step(theirs, seen, first)
        if gap < 1e-4 and not np.array_equal(ours.z, theirs.z):
            bridged, ours = bridged + 1, theirs
            continue
        np.testing.assert_allclose(ours.h, theirs.h, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(ours.z, theirs.z)
        np.testing.assert_allclose(output.probabilities, probabilities, rtol=0, atol=TOLERANCE)
        assert abs(output.value - value) < TOLERANCE
        action = np.eye(ACTION_COUNT, dtype=np.float32)[[int(probabilities.argmax())]]
        ours, theirs = replace(ours, action=action), replace(theirs, action=action)
    assert bridged <= 2


def test_onnx_equals_torch_over_200_recurrent_steps(model_dir: Path) -> None:
    assert_equal_over_steps(model_dir)


@pytest.mark.skipif(not (BASE / "planner.onnx").exists(), reason="no base model in this checkout")
def test_the_base_model_equals_torch_over_200_recurrent_steps() -> None:
    assert_equal_over_steps(BASE)
    assert sum(file.stat().st_size for file in BASE.iterdir()) <= 12e6


def test_first_ignores_the_carry_and_the_rest_does_not(model_dir: Path) -> None:
    engine, seen = OnnxEngine(model_dir, "cpu"), observations(2)
    used, _ = engine.step(engine.initial(), seen[0], True)
    again, _ = engine.step(used, seen[1], True)
    fresh, _ = engine.step(engine.initial(), seen[1], True)
    assert np.array_equal(again.h, fresh.h) and np.array_equal(again.z, fresh.z)
    later, _ = engine.step(used, seen[1], False)
    assert not np.array_equal(later.h, fresh.h)


def test_imagination_equals_torch(model_dir: Path) -> None:
    engine, agent = OnnxEngine(model_dir, "cpu"), load_agent(model_dir)
    carry, _ = engine.step(engine.initial(), observations(1)[0], True)
    imagined = engine.imagine(carry)
    state = State(torch.from_numpy(carry.h), torch.from_numpy(carry.z))
    horizon = agent.model_config.horizon
    assert imagined.bev.shape == (horizon, *BEV_SHAPE) and imagined.bev.dtype == np.uint8
    for k in range(horizon):
        with torch.inference_mode():
            probabilities = agent.actor(state.latent())
            np.testing.assert_allclose(imagined.probabilities[k], probabilities[0], rtol=0, atol=TOLERANCE)
            action = torch.eye(ACTION_COUNT)[probabilities.argmax(-1)]
            state = agent.world_model.rssm.imagine_step(state, action, sample=False)
            assert imagined.speed[k] == pytest.approx(
                float(10.0 * agent.world_model.vector(state.latent())[0, 0]), abs=1e-3
            )
            picture = (agent.world_model.picture(state.latent())[0] * 255.0).numpy()
        assert np.abs(imagined.bev[k] - picture).max() <= 0.51, "rounded to the nearest"


def random_factors(agent: Agent, rank: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    factors: dict[str, np.ndarray] = {}
    for name in adaptable_layers(agent):
        layer = agent.get_submodule(name)
        factors[f"{name}.lora_A"] = rng.normal(0.0, 0.2, (layer.in_features, rank)).astype(np.float32)
        factors[f"{name}.lora_B"] = rng.normal(0.0, 0.2, (rank, layer.out_features)).astype(np.float32)
    return factors


def merged(agent: Agent, factors: dict[str, np.ndarray]) -> Agent:
    for name in adaptable_layers(agent):
        product = torch.from_numpy(factors[f"{name}.lora_A"]) @ torch.from_numpy(factors[f"{name}.lora_B"])
        with torch.no_grad():
            agent.get_submodule(name).weight += product.T
    return agent


@pytest.mark.parametrize("rank", [1, 8])
def test_an_adapter_of_any_rank_equals_merged_weights(model_dir: Path, tmp_path: Path, rank: int) -> None:
    agent = load_agent(model_dir)
    factors = random_factors(agent, rank)
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in factors.items()})
    file.export_adapter(str(tmp_path / "planner.onnx_adapter"))
    adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    adapter.Load(str(tmp_path / "planner.onnx_adapter"))
    options.add_active_adapter(adapter)

    session = onnxruntime.InferenceSession(str(model_dir / "planner.onnx"), providers=["CPUExecutionProvider"])
    carry, seen = OnnxEngine(model_dir, "cpu").initial(), observations(1)[0]
    feeds = {
        "bev": seen.bev[None],
        "state": seen.state[None],
        "h": carry.h,
        "z": carry.z,
        "action": carry.action,
        "first": np.ones((1, 1), np.float32),
    }
    plain = session.run(["h_next", "z_next", "probabilities", "value"], feeds)
    adapted = session.run(["h_next", "z_next", "probabilities", "value"], feeds, options)
    theirs, probabilities, value, _ = TorchEngine(merged(agent, factors)).step(carry, seen, True)
    np.testing.assert_allclose(adapted[0], theirs.h, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(adapted[1], theirs.z)
    np.testing.assert_allclose(adapted[2][0], probabilities, rtol=0, atol=TOLERANCE)
    assert abs(adapted[3][0] - value) < TOLERANCE
    assert np.abs(plain[2] - adapted[2]).max() > 1e-3, "the adapter changed something"
    again = session.run(["h_next", "z_next", "probabilities", "value"], feeds)
    assert all(np.array_equal(left, right) for left, right in zip(plain, again, strict=True)), "and is gone without"


def test_every_layer_to_adapt_is_an_input_of_free_rank(model_dir: Path) -> None:
    agent = load_agent(model_dir)
    names = adaptable_layers(agent)
    assert {"world_model.rssm.gates", "world_model.rssm.prior_logits", "actor.net.0"} <= set(names)
    planner, imagine = onnx.load(model_dir / "planner.onnx"), onnx.load(model_dir / "imagine.onnx")
    inputs = {item.name: item for item in planner.graph.input}
    for name in names:
        shape = inputs[f"{name}.lora_A"].type.tensor_type.shape.dim
        assert shape[0].dim_value == agent.get_submodule(name).in_features and shape[1].dim_param
        assert inputs[f"{name}.lora_B"].type.tensor_type.shape.dim[0].dim_param == shape[1].dim_param
    assert "world_model.rssm.gates.lora_A" in {item.name for item in imagine.graph.input}


def test_weights_are_stored_once(model_dir: Path) -> None:
    for name in ("planner.onnx", "imagine.onnx"):
        graph = onnx.load(model_dir / name, load_external_data=False).graph
        inline = [tensor for tensor in graph.initializer if len(tensor.raw_data) >= 1024]
        assert not [tensor.name for tensor in inline if not tensor.name.endswith(("lora_A", "lora_B"))]


def copy_of(model_dir: Path, target: Path) -> Path:
    target.mkdir()
    for file in model_dir.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_the_digest_is_of_every_file(model_dir: Path, tmp_path: Path) -> None:
    copy = copy_of(model_dir, tmp_path / "copy")
    assert OnnxEngine(copy, "cpu").digest == digest(model_dir)
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text() + "# more\n")
    assert digest(copy) != digest(model_dir)


def test_models_that_do_not_fit_are_refused(model_dir: Path, tmp_path: Path) -> None:
    copy = copy_of(model_dir, tmp_path / "copy")
    values = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**values, "bev_size": 64}))
    with pytest.raises(ValueError, match="bev_size is 64, this installation needs 32"):
        OnnxEngine(copy, "cpu")
    larger = {**values["world_model"], "deter": values["world_model"]["deter"] + 1}
    (copy / "config.yaml").write_text(yaml.safe_dump({**values, "world_model": larger}))
    with pytest.raises(ValueError, match=r"planner.onnx: input h is \[1, 16\], config.yaml says \[1, 17\]"):
        OnnxEngine(copy, "cpu")
    (copy / "planner.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="planner.onnx: onnxruntime cannot load it"):
        OnnxEngine(copy, "cpu")
    (copy / "imagine.onnx").unlink()
    with pytest.raises(ValueError, match="imagine.onnx missing; run `adawm export`"):
        OnnxEngine(copy, "cpu")


def test_a_linked_folder_loads(model_dir: Path, tmp_path: Path) -> None:
    for file in model_dir.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert OnnxEngine(tmp_path, "cpu").digest == digest(model_dir)


def test_providers() -> None:
    cpu, cuda, tensorrt = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
    assert providers_for("auto", [cpu]) == (cpu,)
    assert providers_for("auto", [tensorrt, cuda, cpu]) == (cuda, cpu)
    assert providers_for("tensorrt", [tensorrt, cuda, cpu]) == (tensorrt,)
    with pytest.raises(ValueError, match="provider 'cuda' is not there: onnxruntime has CPUExecutionProvider"):
        providers_for("cuda", [cpu])
    with pytest.raises(ValueError, match="provider 'gpu' is unknown; choose auto, cpu, cuda, tensorrt"):
        providers_for("gpu", [cpu])


def test_auto_takes_the_cpu_where_cuda_was_built_in_and_does_not_start(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with onnxruntime-gpu on a machine without a driver: it says CUDA is available, and then runs without."""
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, cpu])
    assert OnnxEngine(model_dir, "auto").provider == cpu
    with pytest.raises(ValueError, match="could not start CUDAExecutionProvider; it would run on CPUExecutionProvider"):
        OnnxEngine(model_dir, "cuda")


@pytest.mark.parametrize(
    ("name", "options", "variable"), [("cuda", {"use_tf32": "0"}, None), ("tensorrt", {}, "0"), ("cpu", {}, None)]
)
def test_a_gpu_computes_as_precisely_as_the_cpu_that_made_the_probes(
    name: str, options: dict[str, str], variable: str | None, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, wanted, there = list[Any](), PROVIDERS[name], onnxruntime.InferenceSession

    def session(path: str, settings: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return there(path, settings, providers=["CPUExecutionProvider"])

    monkeypatch.delenv(TENSORRT_PRECISION, raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with nullcontext() if name == "cpu" else pytest.raises(ValueError, match=f"could not start {wanted}"):
        OnnxEngine(model_dir, name)
    assert asked[0][0] == (wanted, options) and asked[0][-1] == ("CPUExecutionProvider", {})
    assert os.environ.pop(TENSORRT_PRECISION, None) == variable


def test_the_engine_needs_no_torch() -> None:
    code = "import sys, adawm_planner.runtime.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
