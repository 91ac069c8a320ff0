"""Layers with low-rank factors in, the same layers out, computed in one product instead of four.

peft computes W x + s B (A x) on every call: right for one call, dear for a recurrent model, where each of a window's
steps pays three products and their overhead forward and four backward. Here W + s B A is formed once per update, and
the gradients of A and B are taken from x and the output's gradient without ever forming that of the whole matrix:

    dL/dA = s (G B)^T X        dL/dB = s G^T (X A^T)        G: gradient of the outputs (M, out), X: inputs (M, in)

The factors stay peft's own parameters; only the way through them differs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.adaptation.lora import lora_layers
from adawm_planner.policy.agent import Agent


class _Product(torch.autograd.Function):
    """x (..., in) times the transposed sum W + s B A (out, in), plus a bias; gradients of x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        """`weight` is the sum already; A (r, in) is `down`, B (out, r) is `up`."""
        ctx.save_for_backward(x, weight, down, up)
        ctx.scaling = scaling
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in the order of `forward`'s arguments."""
        x, weight, down, up = ctx.saved_tensors
        (gradient,) = gradients
        inputs, outputs = x.flatten(0, -2), gradient.flatten(0, -2)
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        of_down = (ctx.scaling * (outputs @ up)).T @ inputs
        of_up = outputs.T @ (ctx.scaling * (inputs @ down.T))
        return of_x, None, None, of_down, of_up, None


class ComposedLinear(nn.Module):
    """A Linear whose weight is the frozen one plus its factors, as they were at the last `compose`."""

    weight: Tensor

    def __init__(self, base: nn.Linear, down: Tensor, up: Tensor, scaling: float) -> None:
        """Around a frozen layer and factors A (r, in) and B (out, r) that are trained elsewhere."""
        super().__init__()
        self.base, self.down, self.up, self.scaling = base, down, up, scaling
        self.compose()

    @torch.no_grad()
    def compose(self) -> None:
        """Take in what has become of the factors; new memory, because a graph may still hold the old sum."""
        self.weight = torch.addmm(self.base.weight, self.up, self.down, alpha=self.scaling)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        arguments = (x, self.weight, self.base.bias, self.down, self.up, self.scaling)
        product: Tensor = _Product.apply(*arguments)  # type: ignore[no-untyped-call]
        return product


def share_factors(plain: Agent, agent: Agent, part: str) -> list[ComposedLinear]:
    """Make every layer of `plain` that has factors in `agent` a composed one over these very factors, in place.

    Args:
        plain: an agent without factors, such as `Student.merged` gives.
        agent: the one whose factors are trained.
        part: `world_model` or `actor`.

    Returns:
        The new layers, to be composed again after every change of the factors.
    """
    layers = []
    for name, base, down, up, scaling in lora_layers(agent, part):
        layers.append(ComposedLinear(base, down, up, scaling))
        plain.set_submodule(name, layers[-1])
    return layers
