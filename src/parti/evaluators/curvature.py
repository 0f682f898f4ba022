"""Curvature of a loss.

The dominant eigenvalue of the Hessian of the validation loss with respect to the architecture
parameters tells how much a discretized architecture will differ from its mixture (Zela et al.,
"Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, section 3); that
with respect to the weights, how sharp a minimum is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["largest_eigenvalue"]

RESIDUAL = 1e-7
"""Relative length of a new direction under which there is none left."""


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
