"""A trained agent -> the files that the planner runs.

`planner.onnx` is one filtering step with actor and value, `imagine.onnx` an imagined future; both keep their large
weights in `weights.safetensors` beside them, so that nothing is stored twice. Linear layers that adaptation
touches carry LoRA factors as overridable inputs, zero by default, `LAYER.lora_A` (in, rank) and `LAYER.lora_B`
(rank, out); an adapter's scaling belongs into B. `engine` loads the folder.
"""

from __future__ import annotations

import copy
import json
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_FEATURES, STATE_SIZE
from adawm_planner.durable import replacing
from adawm_planner.policy.actor import one_hot
from adawm_planner.policy.agent import Agent, load_agent, save_agent
from adawm_planner.runtime.model_files import IMAGINE_FILE, PLANNER_FILE, WEIGHTS_FILE, replaced
from adawm_planner.world_model.rssm import State

OPSET = 17
INLINE_BYTES = 1024
"""Weights smaller than this stay inside the ONNX file."""
SPEED_INDEX = STATE_FEATURES.index("speed")
SPEED_MPS = 10.0
"""Speed [m/s] that the state feature 1.0 stands for."""


def adaptable_layers(agent: Agent) -> tuple[str, ...]:
    """Names of the Linear layers that adaptation may change: all of the recurrent model's and all of the actor's."""
    names = (name for name, module in agent.named_modules() if isinstance(module, nn.Linear))
    return tuple(name for name in names if name.startswith(("world_model.rssm.", "actor.")))


class AdaptableLinear(nn.Module):
    """A Linear layer plus (x A) B."""

    def __init__(self, linear: nn.Linear) -> None:
        """Share the layer's weights; the factors have rank 1, and different values because the tracer merges equal
        weights. Zeros are written into the file."""
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_A = nn.Parameter(torch.randn(linear.in_features, 1))
        self.lora_B = nn.Parameter(torch.randn(1, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return functional.linear(x, self.weight, self.bias) + (x @ self.lora_A) @ self.lora_B


def adaptable(agent: Agent) -> Agent:
    """A copy of the agent whose adaptable layers carry LoRA factors."""
    agent = copy.deepcopy(agent).eval()
    for name in adaptable_layers(agent):
        parent, _, child = name.rpartition(".")
        module = agent.get_submodule(parent)
        setattr(module, child, AdaptableLinear(getattr(module, child)))
    return agent


class PlannerStep(nn.Module):
    """What planner.onnx computes."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.world_model, self.actor, self.critic = agent.world_model, agent.actor, agent.critic

    def forward(
        self, bev: Tensor, state: Tensor, h: Tensor, z: Tensor, action: Tensor, first: Tensor
    ) -> tuple[Tensor, ...]:
        """One decision.

        Args:
            bev, state: the observation, (1, C, H, W) uint8 and (1, S).
            h, z: recurrent state before it, (1, D) and (1, G * N).
            action: (1, A) one-hot taken before this observation.
            first: (1, 1) 1.0 where an episode begins, which clears h, z and action.

        Returns:
            h, z, probabilities (1, A), value (1,), and the surprise (1,): total variation between what the model
            expected and what it saw, averaged over groups, 0..1.
        """
        after, posterior = self.world_model.observe_step(State(h, z), action, first, bev, state)
        surprise = 0.5 * (posterior.exp() - self.world_model.rssm.prior(after.h).exp()).abs().sum(-1).mean(-1)
        latent = after.latent()
        return after.h, after.z, self.actor(latent), self.critic(latent), surprise


class Imagination(nn.Module):
    """What imagine.onnx computes."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.world_model, self.actor = agent.world_model, agent.actor
        self.horizon = agent.model_config.horizon

    def forward(self, h: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Follow the most probable actions and states for K decisions.

        Returns:
            speed (K,) [m/s], bev (K, C, H, W) uint8, probabilities (K, A) that the actions were taken from.
        """
        state, probabilities, latents = State(h, z), [], []
        for _ in range(self.horizon):
            probabilities.append(self.actor(state.latent()))
            action = one_hot(probabilities[-1].argmax(-1))
            state = self.world_model.rssm.imagine_step(state, action, sample=False)
            latents.append(state.latent())
        latent = torch.cat(latents)
        speed = SPEED_MPS * self.world_model.vector(latent)[:, SPEED_INDEX]
        bev = (self.world_model.picture(latent) * 255.0).round().to(torch.uint8)
        return speed, bev, torch.cat(probabilities)


def export_model(source: Path, output: Path, complete: Callable[[Path], None] | None = None) -> None:
    """Write config, weights, planner.onnx and imagine.onnx of the agent in `source` into `output`, in place of others.

    `complete` adds to the folder in which they are made what belongs to the model as well; if it fails, `output` stays
    as it was. Raises ValueError when `source` holds no agent of this installation.
    """
    agent = load_agent(source)
    with replaced(output) as folder:
        _write_files(agent, folder)
        if complete is not None:
            complete(folder)


def _write_files(agent: Agent, output: Path) -> None:
    save_agent(agent, output)
    sizes = agent.model_config
    h, z = torch.zeros(1, sizes.deter), torch.zeros(1, sizes.stochastic)
    bev, state = torch.zeros(1, *BEV_SHAPE, dtype=torch.uint8), torch.zeros(1, STATE_SIZE)
    action, first = torch.zeros(1, ACTION_COUNT), torch.ones(1, 1)
    ready = adaptable(agent)
    step = PlannerStep(ready), (bev, state, h, z, action, first)
    _write(
        step,
        ("bev", "state", "h", "z", "action", "first"),
        ("h_next", "z_next", "probabilities", "value", "surprise"),
        output / PLANNER_FILE,
    )
    _write((Imagination(ready), (h, z)), ("h", "z"), ("speed", "bev", "probabilities"), output / IMAGINE_FILE)


def _write(
    module_and_inputs: tuple[nn.Module, tuple[Tensor, ...]],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    path: Path,
) -> None:
    module, example = module_and_inputs
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer is deprecated in favour of an exporter that renames weights, and the names are needed here.
        warnings.simplefilter("ignore")
        whole = Path(folder) / "whole.onnx"
        torch.onnx.export(
            module,
            example,
            str(whole),
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            input_names=list(inputs),
            output_names=list(outputs),
        )
        model = onnx.load(str(whole))
    _open_factors(model)
    _share_weights(model, path.parent / WEIGHTS_FILE)
    with replacing(path) as staged:
        staged.write_bytes(model.SerializeToString())


def _open_factors(model: ModelProto) -> None:
    """Make every LoRA factor an input as well as an initializer of zeros, its rank a free axis."""
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("lora_A", "lora_B")):
            tensor.raw_data = bytes(len(tensor.raw_data))
            shape: list[int | str] = list(tensor.dims)
            shape[1 if tensor.name.endswith("A") else 0] = f"rank.{tensor.name.rpartition('.')[0]}"
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape))


def _share_weights(model: ModelProto, weights: Path) -> None:
    """Point the large initializers into the safetensors file, whose tensors are plain little-endian arrays."""
    raw = weights.read_bytes()
    (header_size,) = struct.unpack("<Q", raw[:8])
    header, begin = json.loads(raw[8 : 8 + header_size]), 8 + header_size
    for tensor in model.graph.initializer:
        if tensor.name not in header or len(tensor.raw_data) < INLINE_BYTES:
            continue
        low, high = header[tensor.name]["data_offsets"]
        assert raw[begin + low : begin + high] == tensor.raw_data, tensor.name
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", begin + low), ("length", high - low)):
            tensor.external_data.add(key=key, value=str(value))
