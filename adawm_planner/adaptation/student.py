"""A base agent in, the agent that adapts out: the same weights with low-rank factors and sub-units on top.

Knows what has changed since the base (as LoRA factors, the one form that leaves this package), merges it into a plain
agent that can drive, and survives being killed between rounds. `fit` trains it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adawm_planner.adaptation.lora import Factors, add_lora, load_lora_factors, lora_factors, lora_parameters
from adawm_planner.adaptation.subunits import (
    add_subunits,
    load_subunit_factors,
    subunit_factors,
    subunit_layers,
    subunit_parameters,
)
from adawm_planner.config.adaptation import AdaptationConfig
from adawm_planner.policy.agent import Agent, write_weights
from adawm_planner.pretraining.trainer import RunningRms

OWN = ("critic.", "slow_critic.")
"""What every strategy trains in full and no adapter carries: the critic only teaches the policy, it does not drive."""


class Student:
    """An agent under adaptation."""

    def __init__(self, base: Agent, config: AdaptationConfig, low_rank: bool, seed: int) -> None:
        """Start at the base agent, which is not changed; without `low_rank` all weights are trained that can be."""
        self.base, self.low_rank = base.eval(), low_rank
        self.subunits = low_rank and config.policy_adapter == "subunits"
        self.agent = copy.deepcopy(base).train()
        self.rms, self._max_rank = RunningRms(), config.subunits.max_rank
        if low_rank:
            add_lora(self.agent, "world_model", config.lora, seed)
            if self.subunits:
                add_subunits(self.agent, config.subunits)
            else:
                add_lora(self.agent, "actor", config.actor_lora, seed)
        else:
            self.agent.world_model.requires_grad_(True)
            self.agent.actor.requires_grad_(True)
        self.agent.critic.requires_grad_(True)

    def dynamics_parameters(self) -> list[nn.Parameter]:
        """What a dynamics update trains; of all weights, those that have a gradient: rollouts carry no labels."""
        if self.low_rank:
            return lora_parameters(self.agent, "world_model")
        named = self.agent.world_model.named_parameters()
        return [parameter for name, parameter in named if not name.startswith("label_head.")]

    def policy_parameters(self) -> list[nn.Parameter]:
        """What a policy update trains beside the critic."""
        if self.subunits:
            return subunit_parameters(self.agent)
        return lora_parameters(self.agent, "actor") if self.low_rank else list(self.agent.actor.parameters())

    def fold(self) -> None:
        """Make what the sub-units' weights say the policy's matrices, before new sub-units are proposed."""
        for _, layer in subunit_layers(self.agent):
            layer.fold(self._max_rank)

    def factors(self) -> Factors:
        """All that changed since the base, critic excepted. Raises ValueError after a full update: no factors."""
        if not self.low_rank:
            raise ValueError("a full update cannot be written as low-rank factors")
        actor = subunit_factors(self.agent) if self.subunits else lora_factors(self.agent, "actor")
        return {**lora_factors(self.agent, "world_model"), **actor}

    @torch.no_grad()
    def merged(self) -> Agent:
        """A plain agent that drives and values as this one does, in evaluation mode."""
        if not self.low_rank:
            return copy.deepcopy(self.agent).eval()
        merged = apply_factors(self.base, self.factors())
        for name in ("critic", "slow_critic"):
            merged.get_submodule(name).load_state_dict(self.agent.get_submodule(name).state_dict())
        return merged

    def save(self, path: Path) -> None:
        """Write everything that was learned; the file is either whole or the old one."""
        own = self.agent.state_dict()
        tensors = {name: value for name, value in own.items() if not self.low_rank or name.startswith(OWN)}
        if self.low_rank:
            tensors |= factor_tensors(self.factors())
        write_weights(path, {**tensors, "spread": self.rms.square})

    def load(self, path: Path) -> None:
        """Read what `save` wrote. Raises ValueError when it does not fit, lacks something or is not finite."""
        remedy = f"remove it and {path.with_suffix('.json').name}, then the round is repeated"
        try:
            self.take(load_file(path))
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path}: not a state of this run ({error}); {remedy}") from error

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what is in a file of `save`. Raises ValueError as `load`, which only names the file beside it."""
        rest = dict(tensors)
        try:
            broken = [name for name, tensor in rest.items() if not tensor.isfinite().all()]
            if broken:
                raise ValueError(f"{', '.join(broken[:3])}: not all numbers are finite")
            self.rms.square.copy_(rest.pop("spread"))
            factors = tensor_factors(rest)
            missing, unknown = self.agent.load_state_dict(rest, strict=False)
            lacking = [name for name in missing if not self.low_rank or name.startswith(OWN)]
            if unknown or lacking:
                raise ValueError(f"unknown {unknown}, missing {lacking}")
            if self.low_rank:
                self._load_factors(factors)
        except (KeyError, RuntimeError) as error:
            raise ValueError(str(error)) from error

    def _load_factors(self, factors: Factors) -> None:
        load_lora_factors(self.agent, "world_model", factors)
        if self.subunits:
            load_subunit_factors(self.agent, factors)
        else:
            load_lora_factors(self.agent, "actor", factors)


@torch.no_grad()
def apply_factors(base: Agent, factors: Factors) -> Agent:
    """A copy of a plain agent with factors merged into its weights, in evaluation mode.

    Raises ValueError for a layer that the agent does not have or factors of another shape.
    """
    agent = copy.deepcopy(base).eval()
    for name, (down, up) in factors.items():
        try:
            layer = agent.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"the model has no layer '{name}'") from error
        given = (down.shape[0], up.shape[0], up.shape[1])
        if not isinstance(layer, nn.Linear) or given != (layer.in_features, down.shape[1], layer.out_features):
            raise ValueError(f"factors of shape {tuple(down.shape)} and {tuple(up.shape)} do not fit layer '{name}'")
        layer.weight += (down @ up).T
    return agent


def factor_tensors(factors: Factors) -> dict[str, Tensor]:
    """Factors as flat tensors under the runtime's input names."""
    return {
        f"{name}.lora_{side}": tensor for name, pair in factors.items() for side, tensor in zip("AB", pair, strict=True)
    }


def tensor_factors(tensors: dict[str, Tensor]) -> Factors:
    """Take the factors out of flat tensors, which keep the rest."""
    names = [name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")]
    return {name: (tensors.pop(f"{name}.lora_A"), tensors.pop(f"{name}.lora_B")) for name in names}
