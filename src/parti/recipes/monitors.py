"""What is watched while a supernet is trained: how decided it is, for what, and how sharp.

The dominant eigenvalue of the Hessian of the validation loss with respect to the architecture
parameters tells how much a discretized architecture will differ from its mixture (Zela et al.,
"Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parti.core.architecture import Option
from parti.recipes.relaxation import SKIPS

__all__ = ["entropy", "largest_eigenvalue", "lengthened", "skips"]

RESIDUAL = 1e-7
"""Relative length of a new direction under which there is none left."""


def entropy(probabilities: Mapping[str, Tensor]) -> float:
    """How undecided all choices are on average: from 0, decided, to 1, all options alike.

    Args:
        probabilities: by choice, one for each option, none negative; they need not sum to 1.
    """
    found = []
    for given in probabilities.values():
        if len(given) > 1:
            shares = given / given.sum().clamp_min(torch.finfo(given.dtype).tiny)
            found.append(torch.special.entr(shares).sum() / math.log(len(given)))
    return float(torch.stack(found).mean()) if found else 0.0


def skips(architecture: Mapping[str, Option]) -> int:
    """How many choices of an architecture are decided for a skip connection."""
    return sum(option in SKIPS for option in architecture.values())


def lengthened(
    trajectory: Mapping[str, Tensor], epoch: int, probabilities: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Write an epoch's probabilities into a trajectory, on the CPU; later epochs are forgotten.

    Args:
        trajectory: by choice, shape (epochs, options).
        epoch: number of the row, at most that of epochs known.
        probabilities: by choice, shape (options,).
    """
    return {
        name: torch.cat([trajectory.get(name, row.new_empty(0, len(row)))[:epoch], row[None]])
        for name, row in ((name, given.detach().cpu()) for name, given in probabilities.items())
    }


def largest_eigenvalue(loss: Tensor, parameters: Sequence[Tensor], steps: int = 20) -> float:
    """The largest eigenvalue of a loss's Hessian, by Lanczos' iteration.

    Every step needs one product of the Hessian with a vector, which is one more pass backward; with
    as many steps as there are parameters it is exact. Finite differences of gradients would not
    do: with shifts that float32 can resolve they see kinks, of max pooling and ReLU, as curvature
    (three times the eigenvalue in a small supernet of DARTS).

    Args:
        loss: a scalar, twice differentiable; its graph is used up.
        parameters: with respect to which.
        steps: the most products.

    Returns:
        An estimate from below; random numbers come from torch's global generator.
    """
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if not flat.requires_grad:  # the loss is linear
        return 0.0

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(
            flat, parameters, vector.to(flat.dtype), retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in found]).double()

    start = torch.randn(len(flat)).to(flat.device).double()
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(flat))):
        vector = product(basis[-1])
        scale = float(vector.norm())
        diagonal.append(float(vector @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough for vectors that are orthogonal to rounding
            vector = vector - known.T @ (known @ vector)
        beside.append(float(vector.norm()))
        if beside[-1] <= RESIDUAL * scale:
            break
        basis.append(vector / beside[-1])
    off = torch.diag(torch.tensor(beside[: len(diagonal) - 1], dtype=torch.double), 1)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.double)) + off + off.T
    return float(torch.linalg.eigvalsh(tridiagonal)[-1])
