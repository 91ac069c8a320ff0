"""Sizes of the world model.

Read from the `world_model` section of a YAML file by `config.presets`, saved beside the weights by
`runtime.export`; `world_model.model` is built from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner import dims


@dataclass(frozen=True)
class WorldModelConfig:
    """Layer sizes of encoder, recurrent model and heads."""

    channels: tuple[int, ...]  # of the encoder's stride-2 convolutions
    embedding: int  # size of the observation embedding
    deter: int  # D, deterministic units
    groups: int  # G, categorical variables
    classes: int  # N, classes per variable
    hidden: int  # width of every hidden layer
    unimix: float  # share of the uniform distribution in each categorical
    bins: int  # two-hot bins of reward and value
    reward_limit: float  # largest |reward| per decision that the bins reach
    value_limit: float  # largest |value| that the bins reach
    decoder_channels: tuple[int, ...]  # of the decoder's feature maps, coarse to fine
    horizon: int  # imagined decisions shown by the runtime

    def __post_init__(self) -> None:
        for name in ("embedding", "deter", "groups", "classes", "hidden", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"world_model.{name} is {getattr(self, name)}, must be at least 1")
        if not 0.0 <= self.unimix < 1.0:
            raise ValueError(f"world_model.unimix is {self.unimix}, must be in [0, 1)")
        if self.bins < 3 or self.bins % 2 == 0:
            raise ValueError(f"world_model.bins is {self.bins}, must be odd and at least 3 so that 0 is a bin")
        for name in ("reward_limit", "value_limit"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"world_model.{name} is {getattr(self, name)}, must be above 0")
        for name in ("channels", "decoder_channels"):
            layers = getattr(self, name)
            if not layers or dims.BEV_SIZE % 2 ** len(layers):
                raise ValueError(f"world_model.{name} has {len(layers)} layers, {dims.BEV_SIZE} cells do not halve so")
            if min(layers) < 1:
                raise ValueError(f"world_model.{name} is {list(layers)}, each must be at least 1")

    @property
    def stochastic(self) -> int:
        """Size G * N of the stochastic state."""
        return self.groups * self.classes

    @property
    def latent(self) -> int:
        """Size D + G * N of what heads and policy see."""
        return self.deter + self.stochastic
