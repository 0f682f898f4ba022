"""DrNAS: weights of options are drawn from a Dirichlet distribution, which is what is learned.

Xiangning Chen, Ruochen Wang, Minhao Cheng, Xiaocheng Tang, Cho-Jui Hsieh: DrNAS: Dirichlet Neural
Architecture Search, ICLR 2021.

Concentrations [beta] are elu(alpha) + 1; gradients flow through the samples by the pathwise
derivative (equation 4). The divergence from the uniform distribution is added to the loss
(equation 3), so that concentrations stay where samples explore. The search is progressive
(section 3.3): in the second half fewer options are left, and more of the channels go through
them, which begin as copies of those that did before (Chen, Goodfellow, Shlens: Net2Net, ICLR 2016).
Within each half, the first epochs train weights alone. There is no `none`. Numbers are those of the
authors' code (`DARTS-space/train_search.py` of xiangning-chen/DrNAS); `DRNAS_NASBENCH201` has those
for NAS-Bench-201 (`201-space/train_search_progressive.py`).

Departures: those of `parti.recipes.darts`. The authors' code decays the architecture parameters
by 0.001 unless told to use the divergence; here it is the divergence that the paper has, with that
weight. In an option all layers copy the same channels; in the authors' code they agree in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.choice import Choice
from parti.recipes.bench import Bench, Step
from parti.recipes.darts import DARTS, LEVELS, RELAXED
from parti.recipes.gradient import Alternating
from parti.recipes.p_darts import Remaining
from parti.recipes.recipe import Stage
from parti.supernets.modules import Switch
from parti.supernets.share import Supernet

__all__ = ["DRNAS", "DRNAS_NASBENCH201", "Dirichlet", "DirichletStages", "divergence", "widen"]


class Dirichlet(Remaining):
    """Weights drawn from a Dirichlet distribution over the options that are left.

    Args:
        supernet: whose choices are relaxed.
    """

    def __init__(self, supernet: Supernet) -> None:
        super().__init__(supernet, null=False)

    def concentrations(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Concentrations of the options that are left, each positive."""
        return F.elu(alpha[list(self.left[choice.name])]) + 1.0

    def weigh(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Draw weights; those of dropped options are 0."""
        left = torch.tensor(self.left[choice.name], device=alpha.device)
        # A Dirichlet distribution whose other parts are dropped, and the rest scaled to sum to 1,
        # is the Dirichlet distribution of the rest.
        drawn = torch.distributions.Dirichlet(self.concentrations(choice, alpha)).rsample()
        return torch.zeros_like(alpha).scatter(0, left, drawn)

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence of all choices from uniform distributions, a scalar."""
        found = []
        for choice, alpha in self._pairs():
            concentrations = self.concentrations(choice, alpha)
            own = torch.distributions.Dirichlet(concentrations)
            uniform = torch.distributions.Dirichlet(torch.ones_like(concentrations))
            found.append(torch.distributions.kl_divergence(own, uniform))
        return torch.stack(found).sum()


def divergence(
    loss: Tensor,
    weights: Mapping[str, Tensor],
    relaxation: Dirichlet,
    bench: Bench,
    progress: float,
    *,
    weight: float = 1e-3,
) -> Tensor:
    """Add the divergence from the uniform distribution to a loss (equation 3).

    Args:
        loss: on held-out images.
        weights: not looked at.
        relaxation: whose distribution is meant.
        bench: not looked at.
        progress: not looked at.
        weight: of the divergence [lambda].
    """
    return loss + weight * relaxation.divergence()


class DirichletStages(Alternating):
    """DrNAS, in stages.

    Args:
        bench: what it works with.
        share: of the options of each choice that are left in this stage.
        options: of `Alternating`.
    """

    relaxation: Dirichlet

    def __init__(self, bench: Bench, *, share: float = 1.0, **options: Any) -> None:
        super().__init__(bench, relaxation="parti.recipes.drnas:Dirichlet", **options)
        self._share = share
        self._before = 0

    def follow(self, previous: Step) -> None:
        """Take over what the stage before has learned, and drop its weak options."""
        assert isinstance(previous, DirichletStages)
        self.relaxation.load_state_dict(previous.relaxation.state_dict())
        self.relaxation.keep(previous.relaxation.strongest(self._share))
        self.optimizer.load_state_dict(previous.optimizer.state_dict())
        self.trajectory = previous.trajectory
        self._before = previous._before + previous.bench.epochs
        widen(previous.bench, self.bench)

    @property
    def row(self) -> int:
        """Number of the epoch, over all stages."""
        return self._before + self.epoch

    def state(self) -> Mapping[str, Any]:
        """The options that are left too."""
        left = {name: list(places) for name, places in self.relaxation.left.items()}
        return {**super().state(), "left": left, "before": self._before}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        self.relaxation.keep(state["left"])
        self._before = state["before"]


@torch.no_grad()
def widen(old: Bench, new: Bench) -> None:
    """Begin with the weights, and the optimizer's state, of a supernet whose options are narrower.

    Every channel that an option has more is a copy of one of its old ones, drawn at random from
    the seed of the training.

    Args:
        old: of the stage before.
        new: of the same space, whose options have as many channels or more; is changed.
    """
    generator = torch.Generator().manual_seed(new.seed)
    networks = old.supernet.network, new.supernet.network
    for narrow, wide in zip(*map(_growing, networks), strict=True):
        drawn: dict[tuple[int, int], Tensor] = {}
        for tensor, target in zip(narrow, wide, strict=True):
            target.copy_(_grown(tensor, target.shape, drawn, generator))
            for key, value in old.optimizer.state.get(tensor, {}).items():
                if isinstance(value, Tensor) and value.shape == tensor.shape:
                    # In the weight's own order of memory, which fused optimizers rely on.
                    grown = _grown(value, target.shape, drawn, generator)
                    value = torch.empty_like(target).copy_(grown)
                new.optimizer.state[target][key] = value


def _growing(module: nn.Module) -> Iterator[list[Tensor]]:
    """Parameters and buffers in groups that grow together: those of an option are one group."""
    for child in module.children():
        inside = isinstance(module, Switch)
        found = [*child.parameters(recurse=inside), *child.buffers(recurse=inside)]
        if found:
            yield found
        if not inside:
            yield from _growing(child)


def _grown(
    tensor: Tensor,
    shape: torch.Size,
    drawn: dict[tuple[int, int], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """A tensor with more entries in some dimensions: copies, the same for the same sizes."""
    for dimension, (size, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if wanted > size:
            if (size, wanted) not in drawn:
                copied = torch.randint(size, (wanted - size,), generator=generator)
                drawn[size, wanted] = torch.cat([torch.arange(size), copied])
            tensor = tensor.index_select(dimension, drawn[size, wanted].to(tensor.device))
    return tensor


DRNAS = replace(
    DARTS,
    name="drnas",
    paper="Chen, Wang, Cheng, Tang, Hsieh: DrNAS: Dirichlet Neural Architecture Search, ICLR 2021",
    step="parti.recipes.drnas:DirichletStages",
    options={
        "penalty": "parti.recipes.drnas:divergence",
        "penalty_arguments": {"weight": 1e-3},
        "lr": 6e-4,
        "betas": (0.5, 0.999),
        "weight_decay": 0.0,
        "warm_up": 10 / 25,
    },
    training=replace(LEVELS, lr=0.1, final_lr=0.0),
    sizes={"channels": 36, "cells": 20},
    stages=(
        Stage(options={"share": 1.0}, relaxed=replace(RELAXED, partial=6)),
        Stage(options={"share": 4 / 7}, relaxed=replace(RELAXED, partial=4)),
    ),
    one_schedule=True,
)

DRNAS_NASBENCH201 = replace(
    DRNAS,
    name="drnas-nasbench201",
    options={**DRNAS.options, "lr": 3e-4, "warm_up": 10 / 50},
    training=replace(LEVELS, epochs=100),
    space="nasbench201",
    sizes={"channels": 16, "cells": 5},
    stages=(
        Stage(options={"share": 1.0}, relaxed=replace(RELAXED, partial=4)),
        Stage(options={"share": 3 / 5}, relaxed=replace(RELAXED, partial=2)),
    ),
)
