"""A part of an agent in, the same with low-rank factors on its Linear layers out, and the factors to and fro.

The part is `world_model` or `actor`.

LoRA by peft (Hu et al. 2021): y = W x + s B A x with W frozen and B zero at first, so that a fresh adapter changes no
bit. The paper writes phi = (B Z)^T Phi with Z and Phi fixed; here A is trained as well, as LoRA does, because it costs
little and Z is not given. Factors leave in the runtime's layout (`runtime.export`): A (in, r), B (r, out), the
scaling in B.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from adawm_planner.config.adaptation import LoraSettings
from adawm_planner.policy.agent import Agent

Factors = dict[str, tuple[Tensor, Tensor]]
"""Layer of the agent -> A (in, r), B (r, out); the layer computes W x + (x A) B more than its bias."""

ADAPTER = "default"

SECTIONS = {"world_model": "lora", "actor": "actor_lora"}
"""Part -> the section of the configuration that its factors are described in."""


def target_layers(model: nn.Module, targets: tuple[str, ...], section: str) -> list[str]:
    """Names of the Linear layers of `model` that a target names.

    Raises ValueError for a target without any, named as of this section of the configuration.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if not any(_named(name, target) for name in linear):
            raise ValueError(f"{section}.targets: no Linear layer is called '{target}', there are {', '.join(linear)}")
    return [name for name in linear if any(_named(name, target) for target in targets)]


def _named(name: str, target: str) -> bool:
    return name == target or name.startswith(f"{target}.")


def add_lora(agent: Agent, part: str, settings: LoraSettings, seed: int) -> None:
    """Put fresh factors on the part's target layers, in place; of the part, only they are trainable afterwards."""
    torch.manual_seed(seed)
    module = agent.get_submodule(part)
    layers = target_layers(module, settings.targets, SECTIONS[part])
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers, lora_dropout=0.0)
    inject_adapter_in_model(config, module, ADAPTER)
    module.requires_grad_(False)
    for parameter in lora_parameters(agent, part):
        parameter.requires_grad_(True)


def lora_parameters(agent: Agent, part: str) -> list[nn.Parameter]:
    """The trainable factors."""
    pairs = ((_down(layer), _up(layer)) for _, layer in _layers(agent, part))
    return [parameter for pair in pairs for side in pair for parameter in side.parameters()]


def lora_layers(agent: Agent, part: str) -> list[tuple[str, nn.Linear, Tensor, Tensor, float]]:
    """Of every layer with factors its name, the frozen layer, the trained A (r, in) and B (out, r), and s."""
    return [
        (name, layer.get_base_layer(), _down(layer).weight, _up(layer).weight, layer.scaling[ADAPTER])
        for name, layer in _layers(agent, part)
    ]


def lora_factors(agent: Agent, part: str) -> Factors:
    """Factors of every layer that has them, under the agent's own layer names."""
    return {
        name: (_down(layer).weight.detach().T.clone(), layer.scaling[ADAPTER] * _up(layer).weight.detach().T)
        for name, layer in _layers(agent, part)
    }


@torch.no_grad()
def load_lora_factors(agent: Agent, part: str, factors: Factors) -> None:
    """Put back what `lora_factors` gave. Raises ValueError when layers or ranks differ."""
    for name, layer in _layers(agent, part):
        if name not in factors or factors[name][0].T.shape != _down(layer).weight.shape:
            raise ValueError(f"factors do not fit layer {name}")
        down, up = factors[name]
        _down(layer).weight.copy_(down.T)
        _up(layer).weight.copy_(up.T / layer.scaling[ADAPTER])


def _layers(agent: Agent, part: str) -> list[tuple[str, Any]]:
    named = agent.get_submodule(part).named_modules()
    return [(f"{part}.{name}", module) for name, module in named if isinstance(module, LoraLinear)]


def _down(layer: Any) -> nn.Linear:
    down: nn.Linear = layer.lora_A[ADAPTER]
    return down


def _up(layer: Any) -> nn.Linear:
    up: nn.Linear = layer.lora_B[ADAPTER]
    return up
