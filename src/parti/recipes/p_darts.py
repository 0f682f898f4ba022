"""P-DARTS: the supernet becomes deeper in three stages, while options that are weak are dropped.

Xin Chen, Lingxi Xie, Jun Wu, Qi Tian: Progressive Differentiable Architecture Search: Bridging the
Depth Gap between Search and Evaluation, ICCV 2019.

Stages have 5, 11 and 17 cells, and every choice 8, 5 and 3 options (`none` is one of them); weights
and architecture parameters begin anew in each. In the first 10 of its 25 epochs only weights
learn. Skip connections are kept from winning early by dropout behind them, whose rate falls in
each stage (section 3.3.1), and at the end by a limit: of normal cells, those with at most two are
derived (section 3.3.2). Numbers are those of the authors' code (`train_search.py` of
chenxin061/pdarts), rates of dropout those that its README recommends for CIFAR-10.

Departures: those of `parti.recipes.darts`. Shares of options are kept where a choice has another
number than 8, at least two. The gradient of the architecture parameters is not clipped. Options
that are dropped are built and not run, so they cost memory for their weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.choice import Choice
from parti.recipes.bench import Bench, Step
from parti.recipes.darts import DARTS, LEVELS
from parti.recipes.gradient import Alternating
from parti.recipes.recipe import Stage
from parti.recipes.relaxation import SKIPS, Relaxation
from parti.supernets.derive import derive
from parti.supernets.modules import Switch
from parti.supernets.share import Supernet

__all__ = ["P_DARTS", "BehindSkips", "Progressive", "Remaining", "few_skips"]


class Remaining(Relaxation):
    """A softmax over the options that are left.

    Args:
        supernet: whose choices are relaxed.
        null: as for `Relaxation`.
    """

    def __init__(self, supernet: Supernet, *, null: bool = True) -> None:
        super().__init__(supernet, null=null)
        self.left = {
            name: tuple(range(len(alpha)))
            for name, alpha in zip(self.choices, self.alphas.values(), strict=True)
        }
        self._dropped: dict[str, Tensor] = {}

    def keep(self, left: Mapping[str, Sequence[int]]) -> None:
        """Drop all other options.

        Args:
            left: places of what stays, by choice; `none` is behind all options.
        """
        self.left = {name: tuple(places) for name, places in left.items()}
        for name, alpha in zip(self.choices, self.alphas.values(), strict=True):
            dropped = torch.ones(len(alpha), dtype=torch.bool)
            dropped[list(self.left[name])] = False
            self._dropped[name] = dropped.to(alpha.device)

    @torch.no_grad()
    def strongest(self, share: float) -> dict[str, tuple[int, ...]]:
        """Places of the strongest options, at least two: so large a share of all."""
        found = {}
        for choice, alpha in self._pairs():
            count = max(2, round(share * len(alpha)))
            values = alpha.tolist()
            order = sorted(self.left[choice.name], key=values.__getitem__, reverse=True)
            found[choice.name] = tuple(sorted(order[:count]))
        return found

    def expected(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Softmax over what is left; 0 elsewhere."""
        dropped = self._dropped.get(choice.name)
        return (alpha if dropped is None else alpha.masked_fill(dropped, -math.inf)).softmax(-1)

    def active(self) -> dict[str, Sequence[int]]:
        """Places of the options that are left, without `none`."""
        return {
            name: [place for place in self.left[name] if place < len(choice.options)]
            for name, choice in self.choices.items()
        }


class Progressive(Alternating):
    """DARTS in stages.

    Args:
        bench: what it works with.
        share: of the options of each choice that are left in this stage.
        dropout: rate behind skip connections at the beginning of the stage.
        steepness: of its exponential decay, per epoch of the authors' 25, once architecture
            parameters learn; before, it falls linearly.
        most_skips: skip connections that may be derived; None for no limit.
        limited: where they are counted: choices under this scope, or all if there are none.
        options: of `Alternating`.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        share: float = 1.0,
        dropout: float = 0.0,
        steepness: float = 0.2,
        most_skips: int | None = None,
        limited: str = "normal/",
        **options: Any,
    ) -> None:
        super().__init__(bench, relaxation="parti.recipes.p_darts:Remaining", **options)
        self.remaining: Remaining = self.relaxation  # type: ignore[assignment]
        self._share, self._dropout, self._steepness = share, dropout, steepness
        self._most_skips = most_skips
        named = [name for name in self.remaining.names if name.startswith(limited)]
        self._counted = frozenset(named or self.remaining.names)
        self._before = 0
        self.behind_skips = BehindSkips(bench.supernet)

    def follow(self, previous: Step) -> None:
        """Keep the strongest options of the stage before."""
        assert isinstance(previous, Progressive)
        self.remaining.keep(previous.remaining.strongest(self._share))
        self.trajectory = previous.trajectory
        self._before = previous._before + previous.bench.epochs

    def begin(self, epoch: int) -> None:
        """Enter an epoch of the stage: set the dropout."""
        super().begin(epoch)
        self.behind_skips.rate = self.dropout(epoch)

    def dropout(self, epoch: int) -> float:
        """Rate behind skip connections in an epoch of the stage."""
        epochs, learning = self.bench.epochs, self.warm_up
        if epoch < learning:
            return self._dropout * (epochs - epoch - 1) / epochs
        return self._dropout * math.exp(-self._steepness * (epoch - learning) * 25 / epochs)

    @property
    def row(self) -> int:
        """Number of the epoch, over all stages."""
        return self._before + self.epoch

    def probabilities(self) -> Mapping[str, Tensor]:
        """How good each option is thought to be, without those skips that would be too many."""
        found = self.remaining.probabilities()
        if self._most_skips is None:
            return found
        return few_skips(self.bench.supernet, found, self._most_skips, self._counted)

    def state(self) -> Mapping[str, Any]:
        """The options that are left too."""
        left = {name: list(places) for name, places in self.remaining.left.items()}
        return {**super().state(), "left": left, "before": self._before}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        self.remaining.keep(state["left"])
        self._before = state["before"]


def few_skips(
    supernet: Supernet, probabilities: Mapping[str, Tensor], most: int, counted: frozenset[str]
) -> dict[str, Tensor]:
    """Make the weakest skip connections impossible until few enough are derived.

    Args:
        supernet: of whose space an architecture is derived.
        probabilities: by choice; left as they are.
        most: how many skip connections may be derived.
        counted: names of the choices in which they are counted.

    Returns:
        The probabilities, some of them 0.
    """
    found = dict(probabilities)
    while True:
        (best,) = derive(supernet.space, found)
        skips = {
            name: supernet.choices[name].options.index(option)
            for name, option in best.items()
            if name in counted and option in SKIPS and float(found[name].max()) > 0
        }
        if len(skips) <= most:
            return found
        weakest = min(skips, key=lambda name: float(found[name][skips[name]]))
        found[weakest] = found[weakest].clone()
        found[weakest][skips[weakest]] = 0.0


class BehindSkips:
    """Dropout behind all skip connections of a supernet that have no weights.

    Args:
        supernet: to which it is added.

    Attributes:
        rate: may be changed at any time.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.rate = 0.0
        for switch in supernet.modules():
            if isinstance(switch, Switch):
                for label in SKIPS:
                    option = switch._modules.get(label)
                    if isinstance(option, nn.Identity):
                        option.register_forward_hook(self._drop)

    def _drop(self, skip: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.rate, skip.training)


P_DARTS = replace(
    DARTS,
    name="p-darts",
    paper="Chen, Xie, Wu, Tian: Progressive Differentiable Architecture Search: Bridging the Depth "
    "Gap between Search and Evaluation, ICCV 2019",
    step="parti.recipes.p_darts:Progressive",
    options={**DARTS.options, "lr": 6e-4, "warm_up": 0.4},
    training=replace(LEVELS, epochs=75, batch_size=96, final_lr=0.0),
    sizes={"channels": 16, "cells": 5},
    stages=(
        Stage({"cells": 5}, {"share": 1.0, "dropout": 0.1}),
        Stage({"cells": 11}, {"share": 5 / 8, "dropout": 0.4}),
        Stage({"cells": 17}, {"share": 3 / 8, "dropout": 0.7, "most_skips": 2}),
    ),
)
