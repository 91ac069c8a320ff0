"""Sizes of actor and critic.

Read from the `policy` section of a YAML file by `config.presets`; `policy.agent` is built from it.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_UNIMIX = 1e-6
"""Far above what a float32 rounds to 0, and far below what a policy notices."""


@dataclass(frozen=True)
class PolicyConfig:
    """Layer sizes of actor and critic."""

    hidden: int  # width of every hidden layer
    layers: int  # hidden layers
    unimix: float  # share of the uniform distribution in the action probabilities

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise ValueError(f"policy.hidden and policy.layers are {self.hidden} and {self.layers}, must be at least 1")
        if not LEAST_UNIMIX <= self.unimix < 1.0:
            raise ValueError(
                f"policy.unimix is {self.unimix}, must be in [{LEAST_UNIMIX:g}, 1): the losses take the logarithm of "
                "every action's probability, so none may be 0"
            )
