"""Latent -> what can be observed: two-hot distributions of numbers, plain predictions, the BEV as an image.

Used by `model` and, for the value, by `policy.critic`. Symlog and two-hot regression after DreamerV3
(Hafner et al. 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.dims import BEV_SHAPE, BEV_SIZE


def symlog(x: Tensor) -> Tensor:
    """Compress: sign(x) log(1 + |x|)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """Inverse of symlog."""
    return torch.sign(x) * (torch.exp(torch.abs(x)) - 1.0)


def mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """Linear, LayerNorm, SiLU, `layers` times, and a Linear to `outputs`."""
    modules: list[nn.Module] = []
    for index in range(layers):
        modules += [nn.Linear(inputs if index == 0 else hidden, hidden), nn.LayerNorm(hidden), nn.SiLU()]
    return nn.Sequential(*modules, nn.Linear(hidden, outputs))


class TwoHotHead(nn.Module):
    """A distribution over bins evenly spaced in symlog; starts out predicting exactly 0."""

    bins: Tensor

    def __init__(self, inputs: int, hidden: int, layers: int, bins: int, limit: float) -> None:
        """Bins from -limit to limit."""
        super().__init__()
        self.net = mlp(inputs, hidden, layers, bins)
        output = self.net[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        edge = float(symlog(torch.tensor(limit)))
        self.register_buffer("bins", torch.linspace(-edge, edge, bins), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Logits (..., bins)."""
        logits: Tensor = self.net(latent)
        return logits

    def mean(self, logits: Tensor) -> Tensor:
        """The number (...) whose symlog is expected by logits (..., bins).

        Where they are spread it is not the expected number but lies nearer to zero: 70 % of 0 and 30 % of -1.9 are
        -0.376 and not -0.570.
        """
        return symexp((functional.softmax(logits, -1) * self.bins).sum(-1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (...) of logits (..., bins) with the two bins around target (...)."""
        return -(self.two_hot(target) * functional.log_softmax(logits, -1)).sum(-1)

    def two_hot(self, target: Tensor) -> Tensor:
        """Weights (..., bins) on the two bins around target (...); numbers beyond the limit count as the limit."""
        count = len(self.bins)
        spacing = self.bins[1] - self.bins[0]
        position = ((symlog(target) - self.bins[0]) / spacing).clamp(0.0, count - 1.0)
        return (1.0 - (position[..., None] - torch.arange(count, device=target.device)).abs()).clamp(min=0.0)


class Decoder(nn.Module):
    """Vector -> BEV, for pictures of what the model imagines."""

    def __init__(self, inputs: int, config: WorldModelConfig) -> None:
        """Transposed convolutions of the configured channels over vectors of size `inputs`."""
        super().__init__()
        channels = config.decoder_channels
        self.edge = BEV_SIZE // 2 ** len(channels)
        self.dense = nn.Sequential(
            nn.Linear(inputs, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, channels[0] * self.edge * self.edge),
            nn.SiLU(),
        )
        layers: list[nn.Module] = []
        for inside, outside in zip(channels, (*channels[1:], BEV_SHAPE[0]), strict=True):
            layers += [nn.ConvTranspose2d(inside, outside, 4, 2, 1), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers[:-1])

    def forward(self, latent: Tensor) -> Tensor:
        """Logits (B, C, H, W) of the BEV's fill, whose sigmoid is 0..1, from vectors (B, inputs)."""
        coarse = self.dense(latent).unflatten(-1, (-1, self.edge, self.edge))
        logits: Tensor = self.convolutions(coarse)
        return logits
