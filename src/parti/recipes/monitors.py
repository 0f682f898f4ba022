"""What is watched while a supernet is trained: how decided it is, and for what."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from parti.core.architecture import Option
from parti.recipes.relaxation import SKIPS

__all__ = ["entropy", "lengthened", "skips"]


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
