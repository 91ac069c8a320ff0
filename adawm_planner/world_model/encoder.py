"""Observation -> embedding.

A BEV raster and a state vector go in, one vector comes out; the recurrent model (`rssm`) takes it from there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.dims import BEV_SHAPE, BEV_SIZE, STATE_SIZE


class Encoder(nn.Module):
    """Stride-2 convolutions over the BEV, joined with the state vector."""

    def __init__(self, config: WorldModelConfig) -> None:
        """Layers of the configured sizes."""
        super().__init__()
        sizes = (BEV_SHAPE[0], *config.channels)
        layers: list[nn.Module] = []
        for inside, outside in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Conv2d(inside, outside, 4, 2, 1), nn.SiLU()]
        edge = BEV_SIZE // 2 ** len(config.channels)
        self.convolutions = nn.Sequential(*layers)
        self.state_layer = nn.Linear(STATE_SIZE, config.hidden)
        self.join = nn.Linear(sizes[-1] * edge * edge + config.hidden, config.embedding)
        self.norm = nn.LayerNorm(config.embedding)

    def forward(self, bev: Tensor, state: Tensor) -> Tensor:
        """Embed observations.

        Args:
            bev: (B, C, H, W) uint8, 0..255.
            state: (B, S) float32, entries as dims.STATE_FEATURES.

        Returns:
            (B, E) float32, normalised over E.
        """
        seen: Tensor = self.convolutions(bev.float() / 255.0).flatten(1)
        felt = nn.functional.silu(self.state_layer(state))
        embedding: Tensor = self.norm(self.join(torch.cat([seen, felt], -1)))
        return embedding
