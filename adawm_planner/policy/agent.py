"""World model, actor and critic together, and their files.

`models/base` holds `config.yaml` (all sizes, and the meaning of inputs and actions) and `weights.safetensors`;
adaptation and export start from `load_agent`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from adawm_planner.config.mapping import from_mapping, to_mapping
from adawm_planner.config.policy import PolicyConfig
from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.durable import replacing
from adawm_planner.policy.actor import Actor
from adawm_planner.policy.critic import Critic
from adawm_planner.runtime.model_files import CONFIG_FILE, WEIGHTS_FILE, check_finite, interface, read_config
from adawm_planner.world_model.model import WorldModel
from adawm_planner.world_model.rssm import State


class Agent(nn.Module):
    """Everything that is learned."""

    def __init__(self, model: WorldModelConfig, policy: PolicyConfig) -> None:
        """Fresh weights of the configured sizes."""
        super().__init__()
        self.model_config, self.policy_config = model, policy
        self.world_model = WorldModel(model)
        self.actor = Actor(model.latent, policy)
        self.critic = Critic(model, policy)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def initial(self, batch: int) -> State:
        """State before the first observation of `batch` episodes."""
        return self.world_model.rssm.initial(batch)

    def step(
        self, state: State, action: Tensor, first: Tensor, bev: Tensor, vector: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """One decision; arguments as WorldModel.observe_step. Returns state, probabilities (B, A), value (B,)."""
        state, _ = self.world_model.observe_step(state, action, first, bev, vector)
        latent = state.latent()
        return state, self.actor(latent), self.critic(latent)


def save_agent(agent: Agent, folder: Path) -> None:
    """Write config and weights of an agent; each file is either whole or the old one."""
    write_config(folder, agent.model_config, agent.policy_config)
    write_weights(folder / WEIGHTS_FILE, agent.state_dict())


def write_config(folder: Path, model: WorldModelConfig, policy: PolicyConfig) -> None:
    """Write config.yaml into `folder`, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {**interface(), "world_model": to_mapping(model), "policy": to_mapping(policy)}
    with replacing(folder / CONFIG_FILE) as staged:
        staged.write_text(yaml.safe_dump(values, sort_keys=False))


def write_weights(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors; the file is either whole or the old one. Raises OSError when there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Cloned, because safetensors refuses tensors that share memory.
    copies = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    content = save(copies, dict(meta or {}))  # what safetensors itself raises for a full disk is no OSError
    with replacing(path) as staged:
        staged.write_bytes(content)


def read_sizes(folder: Path) -> tuple[WorldModelConfig, PolicyConfig]:
    """Sizes in a model's config.yaml; raises ValueError as `read_config` does."""
    values, where = read_config(folder), str(folder / CONFIG_FILE)
    return (
        from_mapping(WorldModelConfig, values["world_model"], f"{where}: world_model"),
        from_mapping(PolicyConfig, values["policy"], f"{where}: policy"),
    )


def load_agent(folder: Path) -> Agent:
    """Read an agent in evaluation mode.

    Raises ValueError when the files are missing, do not fit each other, hold a value that is not finite, or were made
    for other observations or actions than this installation's.
    """
    agent = Agent(*read_sizes(folder))
    read_weights(agent, folder / WEIGHTS_FILE)
    return agent.eval()


def read_weights(module: nn.Module, path: Path) -> None:
    """Put a file's tensors into a module of the sizes in the config.yaml beside it.

    Raises ValueError when the file is missing or damaged, does not fit, or holds a value that is not finite.
    """
    try:
        tensors = load_file(path)
        check_finite(tensors, path)
        module.load_state_dict(tensors)
    except (OSError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: weights do not fit config.yaml ({text})") from error
