"""An actor in, the same one with every weight matrix a convex combination of sub-units out.

AdaWM (arXiv 2501.13072) writes the policy's weights as w = sum_i delta_i w_i with delta on the simplex and trains
delta alone; how the sub-units w_i are made is not given. Here they stand in opposite pairs around the W that acts now,

    W_k+ = W + s u_k v_k^T,    W_k- = W - s u_k v_k^T,    delta = softmax(theta),

so that W_eff = W + sum_k c_k u_k v_k^T with c_k = s (delta_k+ - delta_k-). u_k and v_k are the first singular vectors
of the policy gradient on the new task: the few directions in which a change of W pays most. What follows:
- theta = 0 gives c = 0, exactly W: the base policy is the middle of the hull, bit for bit;
- sum_k |c_k| <= s whatever theta is: between two proposals the hull is a trust region in nuclear norm;
- W_eff - W has rank `pairs`, so it leaves as LoRA factors without loss, like the dynamics;
- a matrix has 2 x pairs trainable numbers instead of in x out.
Every few updates W_eff is folded into W and the gradient there gives new sub-units; what has been folded in is kept at
`max_rank` by its singular values, which is part of the update and not of the export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adawm_planner.adaptation.lora import Factors
from adawm_planner.config.adaptation import SubunitConfig
from adawm_planner.policy.agent import Agent

PREFIX = "actor."


class ConvexLinear(nn.Module):
    """A Linear layer whose weight is a convex combination of sub-units."""

    folded_out: Tensor  # (out, r) of the sum of earlier rounds
    folded_in: Tensor  # (r, in)
    left: Tensor  # (out, P) u_k
    right: Tensor  # (P, in) v_k^T

    def __init__(self, linear: nn.Linear, radius: float) -> None:
        """Share the layer's weights, which are frozen; there are no sub-units yet."""
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        self.scale = radius * float(torch.linalg.matrix_norm(linear.weight.detach(), 2))
        outside, inside = linear.weight.shape
        self.register_buffer("folded_out", torch.zeros(outside, 0))
        self.register_buffer("folded_in", torch.zeros(0, inside))
        self.propose(torch.zeros(outside, 0), torch.zeros(0, inside))

    def propose(self, left: Tensor, right: Tensor) -> None:
        """Take new sub-units along u_k v_k^T, the columns of (out, P) and the rows of (P, in); delta is uniform."""
        self.register_buffer("left", left.clone())
        self.register_buffer("right", right.clone())
        self.theta = nn.Parameter(torch.zeros(2, left.shape[1]))

    def coefficients(self) -> Tensor:
        """c_k (P,), from delta on the simplex of all 2 P sub-units."""
        delta = functional.softmax(self.theta.flatten(), 0).view_as(self.theta)
        return self.scale * (delta[0] - delta[1])

    def effective(self) -> Tensor:
        """W_eff (out, in)."""
        return self.weight + self.folded_out @ self.folded_in + (self.left * self.coefficients()) @ self.right

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return functional.linear(x, self.effective(), self.bias)

    @torch.no_grad()
    def factors(self) -> tuple[Tensor, Tensor]:
        """A (in, r) and B (r, out) of W_eff - W."""
        right = torch.cat([self.folded_in, self.right])
        left = torch.cat([self.folded_out, self.left * self.coefficients()], 1)
        return right.T.clone(), left.T.clone()

    @torch.no_grad()
    def fold(self, max_rank: int) -> None:
        """Make W_eff the matrix that acts now, keeping the `max_rank` largest singular values of its change."""
        down, up = self.factors()
        if down.shape[1] > max_rank:
            down, up = truncated(down, up, max_rank)
        self.load(down, up)

    @torch.no_grad()
    def load(self, down: Tensor, up: Tensor) -> None:
        """Take factors A (in, r), B (r, out) as what has been folded in; there are no sub-units afterwards."""
        self.register_buffer("folded_in", down.T.clone())
        self.register_buffer("folded_out", up.T.clone())
        self.propose(self.left[:, :0], self.right[:0])


def truncated(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best factors of this rank of the product A (in, r) B (r, out)."""
    left, values, right = torch.linalg.svd(down @ up, full_matrices=False)
    return left[:, :rank] * values[:rank].sqrt(), values[:rank].sqrt()[:, None] * right[:rank]


def add_subunits(agent: Agent, config: SubunitConfig) -> None:
    """Replace the actor's Linear layers in place; everything else of the actor is frozen."""
    agent.actor.requires_grad_(False)
    for name, module in list(agent.actor.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(agent.actor.get_submodule(parent), child, ConvexLinear(module, config.radius))


def propose_subunits(agent: Agent, gradients: dict[str, Tensor], config: SubunitConfig) -> None:
    """New sub-units from the policy gradient (out, in) of each of the actor's matrices, by the agent's layer names."""
    for name, layer in subunit_layers(agent):
        left, _, right = torch.linalg.svd(gradients[name], full_matrices=False)
        layer.propose(left[:, : config.pairs], right[: config.pairs])


def subunit_layers(agent: Agent) -> list[tuple[str, ConvexLinear]]:
    """The actor's replaced layers under the agent's layer names."""
    named = agent.actor.named_modules()
    return [(PREFIX + name, module) for name, module in named if isinstance(module, ConvexLinear)]


def subunit_parameters(agent: Agent) -> list[nn.Parameter]:
    """What is trained: theta of every layer."""
    return [layer.theta for _, layer in subunit_layers(agent)]


def subunit_factors(agent: Agent) -> Factors:
    """The policy's change as LoRA factors; empty ranks are left out."""
    factors = {name: layer.factors() for name, layer in subunit_layers(agent)}
    return {name: pair for name, pair in factors.items() if pair[0].shape[1]}


def load_subunit_factors(agent: Agent, factors: Factors) -> None:
    """Put back what `subunit_factors` gave, folded in; a layer that it left out has no change."""
    for name, layer in subunit_layers(agent):
        rows, columns = layer.weight.shape
        layer.load(*factors.get(name, (torch.zeros(columns, 0), torch.zeros(0, rows))))
