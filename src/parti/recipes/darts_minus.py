"""DARTS-: a skip connection beside every choice that has one, which fades away.

Xiangxiang Chu, Xiaoxing Wang, Bo Zhang, Shun Lu, Xiaolin Wei, Junchi Yan: DARTS-: Robustly
Stepping out of Performance Collapse without Indicators, ICLR 2021.

A skip connection does two things: it is an option, and it lets gradients through. The auxiliary
one does the second for all options alike, so that the first is judged by itself (equation 3). Its
weight [beta] falls linearly from 1 to 0; it is no part of what is derived. Numbers are those of the
authors' code (`src/search/args.py` and `scripts/run_darts_minus.sh` of Meituan-AutoML/DARTS-).

Departures: those of `parti.recipes.darts`. Where a skip connection halves the image, and so has
weights, the auxiliary one has the same; the authors' has its own. It is 0 in the last epoch; in
their code it would be one epoch later. `none` takes part, as in DARTS.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.recipes.darts import DARTS
from parti.recipes.relaxation import SKIPS, Relaxation, skip_place
from parti.supernets.share import Supernet

__all__ = ["DARTS_MINUS", "AuxiliarySkip"]


class AuxiliarySkip(Relaxation):
    """A softmax, and a skip connection on top.

    Args:
        supernet: whose choices are relaxed.
        first: weight of the auxiliary skip connection in the first epoch.

    Raises:
        InvalidSettings: as for `Relaxation`; or no choice has a skip connection.
    """

    def __init__(self, supernet: Supernet, *, first: float = 1.0) -> None:
        super().__init__(supernet)
        self.first = self.auxiliary = first
        if all(skip_place(choice) is None for choice in self.choices.values()):
            raise InvalidSettings(
                "no choice of this space has a skip connection for DARTS- to add another to; they "
                f"are known by their names, {', '.join(SKIPS)}. Take the recipe darts"
            )

    def anneal(self, progress: float) -> None:
        """Let the auxiliary skip connection fade."""
        self.auxiliary = self.first * (1.0 - progress)

    def weigh(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Weights of the options; the skip connection's with that of the auxiliary one."""
        weights = self.expected(choice, alpha)
        place = skip_place(choice)
        if place is None:
            return weights
        beside = torch.zeros_like(weights)
        beside[place] = self.auxiliary
        return weights + beside


DARTS_MINUS = replace(
    DARTS,
    name="darts-minus",
    paper="Chu, Wang, Zhang, Lu, Wei, Yan: DARTS-: Robustly Stepping out of Performance Collapse "
    "without Indicators, ICLR 2021",
    options={
        **DARTS.options,
        "relaxation": "parti.recipes.darts_minus:AuxiliarySkip",
        "arguments": {"first": 1.0},
    },
)
