"""SNAS: architecture parameters and weights learned together, on the same images.

Sirui Xie, Hehui Zheng, Chunxiao Liu, Liang Lin: SNAS: Stochastic Neural Architecture Search, ICLR
2019.

The loss is expected over architectures that are sampled from the concrete distribution (equations
4 and 5), so that one pass gives the gradient of both levels; no image is held out. The temperature
[lambda] falls linearly from 1 to 0.03 over 150 epochs. Numbers are those of the authors' code
(`SNAS/train_search.py` of SNAS-Series/SNAS-Series, as it is run on several GPUs; on one its
architecture parameters learn by plain SGD).

A resource term [eta] is off, as in the code: `options={**SNAS.options, "penalty":
"parti.recipes.costs:added", "penalty_arguments": {"strength": 0.01}}` adds it, given costs.

Departures: those of `parti.recipes.darts`. In the paper, an edge for which `none` was found is
left out; in a space whose nodes keep k edges, the k strongest stay. The gradient of the
architecture parameters is not clipped.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from parti.recipes.bench import Batch
from parti.recipes.darts import DARTS, LEVELS
from parti.recipes.gradient import Alternating

__all__ = ["SNAS", "Together"]


class Together(Alternating):
    """One step for the architecture parameters and the weights: one level instead of two.

    Arguments are those of `Alternating`; held-out images are not looked at.
    """

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Take the step."""
        if self.epoch < self.warm_up:
            return self.learn_weights(batch)
        loss = self.held_loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.bench.update()
        return loss.detach()


SNAS = replace(
    DARTS,
    name="snas",
    paper="Xie, Zheng, Liu, Lin: SNAS: Stochastic Neural Architecture Search, ICLR 2019",
    step="parti.recipes.snas:Together",
    options={
        **DARTS.options,
        "relaxation": "parti.recipes.gumbel:Gumbel",
        "arguments": {"first": 1.0, "last": 0.03, "schedule": "linear", "deviation": 0.01},
    },
    training=replace(LEVELS, epochs=150),
    held=0.0,
)
