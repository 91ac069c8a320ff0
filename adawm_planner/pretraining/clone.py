"""The encoder with a small head on top, trained to do as the expert does.

It drives the later rounds of collection; afterwards its encoder, frozen, becomes the world model's.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.config.policy import PolicyConfig
from adawm_planner.config.pretraining import CloningConfig
from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.policy.agent import read_sizes, read_weights, write_config, write_weights
from adawm_planner.pretraining.losses import picture_loss
from adawm_planner.world_model.encoder import Encoder
from adawm_planner.world_model.heads import Decoder, mlp

CLONE_FILE = "clone.safetensors"

HAZARD_HORIZONS = (3, 8, 15)
"""Decisions ahead for which the clone says whether a crash comes."""


class Clone(nn.Module):
    """One observation -> what the expert would do."""

    def __init__(self, model: WorldModelConfig, policy: PolicyConfig) -> None:
        """Layers of the configured sizes."""
        super().__init__()
        self.model_config, self.policy_config = model, policy
        self.encoder = Encoder(model)
        self.head = mlp(model.embedding, policy.hidden, 1, ACTION_COUNT)
        self.hazard = mlp(model.embedding, policy.hidden, 1, len(HAZARD_HORIZONS))
        self.decoder = Decoder(model.embedding, model)

    def forward(self, bev: Tensor, state: Tensor) -> Tensor:
        """Logits (B, A) of the expert's action; arguments as Encoder."""
        logits: Tensor = self.head(self.encoder(bev, state))
        return logits

    def loss(
        self, bev: Tensor, state: Tensor, label: Tensor, crash: Tensor, config: CloningConfig
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy with labels (B,), crashes ahead (B, HAZARD_HORIZONS), and the BEV from a quarter of the batch.

        The two auxiliary losses keep in the embedding what the expert did not need to look at just now: the world
        model sees nothing else of the observation, and has to foresee the crashes of worse drivers.
        """
        embedding = self.encoder(bev, state)
        logits = self.head(embedding)
        entropy = functional.cross_entropy(logits, label)
        some = max(1, len(bev) // 4)
        hazard = functional.binary_cross_entropy_with_logits(self.hazard(embedding), crash)
        image = picture_loss(self.decoder(embedding[:some]), bev[:some])
        right = (logits.argmax(-1) == label).float().mean()
        metrics = {"label": float(entropy.detach()), "accuracy": float(right), "image": float(image.detach())}
        metrics["hazard"] = float(hazard.detach())
        return entropy + config.hazard * hazard + config.reconstruction * image / bev[0].numel(), metrics


def save_clone(clone: Clone, folder: Path) -> None:
    """Write sizes and weights."""
    write_config(folder, clone.model_config, clone.policy_config)
    write_weights(folder / CLONE_FILE, clone.state_dict())


def load_clone(folder: Path) -> Clone:
    """Read a clone in evaluation mode. Raises ValueError when the files are missing or do not fit."""
    clone = Clone(*read_sizes(folder))
    read_weights(clone, folder / CLONE_FILE)
    return clone.eval()
