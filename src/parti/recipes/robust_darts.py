"""DARTS with early stopping: when the loss becomes sharp in the architecture, go back and stop.

Arber Zela, Thomas Elsken, Tonmoy Saikia, Yassine Marrakchi, Thomas Brox, Frank Hutter:
Understanding and Robustifying Differentiable Architecture Search, ICLR 2020 (section 4.3,
DARTS-ES).

After every epoch the dominant eigenvalue [lambda_max] of the Hessian of the validation loss in the
architecture parameters is computed on one batch. Smoothed over five epochs, it is compared with
what it was five epochs before [k]; if the ratio falls below 0.75, the search ends, and what it
would have derived five epochs ago is derived. The first ten epochs are never gone back to, as in
the authors' code (`src/search/args.py` and `src/utils.py` of automl/RobustDARTS).

Departures: those of `parti.recipes.darts`. Window, distance and ratio are the paper's; the code
compares with four epochs before and stops when the eigenvalue has grown 1.3 times. The eigenvalue
is found by Lanczos' iteration instead of the whole Hessian, and without the decay of architecture
parameters, which only shifts it by 0.001. The paper's other ways to robustness, stronger
regularization of the weights, are settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from torch import Tensor

from parti.evaluators.curvature import largest_eigenvalue
from parti.recipes.bench import Batch, Bench
from parti.recipes.darts import DARTS_SECOND_ORDER
from parti.recipes.gradient import Alternating, constant
from parti.supernets.subnets import mix

__all__ = ["ROBUST_DARTS", "EarlyStopping", "stopping_epoch"]


def stopping_epoch(
    eigenvalues: Sequence[float],
    *,
    window: int = 5,
    back: int = 5,
    ratio: float = 0.75,
    first: int = 10,
) -> int | None:
    """The epoch whose architecture is to be derived, if the search should stop now.

    Args:
        eigenvalues: after each epoch so far.
        window: over how many epochs around one they are averaged; odd.
        back: how many epochs lie between the two that are compared [k].
        ratio: of the earlier average to the later, below which the search stops.
        first: epochs before this one are never gone back to.

    Returns:
        Its number from 0, or None to go on.
    """
    half = window // 2
    now = len(eigenvalues) - 1 - half
    then = now - back
    if then < max(first, half):
        return None
    sums = [sum(eigenvalues[epoch - half : epoch + half + 1]) for epoch in (then, now)]
    return then if sums[0] < ratio * sums[1] else None


class EarlyStopping(Alternating):
    """DARTS that stops when the dominant eigenvalue has risen.

    Args:
        bench: what it works with.
        window: as in `stopping_epoch`.
        back: likewise.
        ratio: likewise.
        patience: share of the epochs, from the first, that are never gone back to.
        products: most Hessian-vector products for an eigenvalue.
        options: of `Alternating`.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        window: int = 5,
        back: int = 5,
        ratio: float = 0.75,
        patience: float = 0.2,
        products: int = 20,
        **options: Any,
    ) -> None:
        super().__init__(bench, **options)
        self.eigenvalues: list[float] = []
        self._taken = 0
        self._products = products
        self._rule = {
            "window": window,
            "back": back,
            "ratio": ratio,
            "first": round(patience * bench.epochs),
        }

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Take both steps; after the last of an epoch, look at the curvature."""
        loss = super().__call__(batch, held)
        self._taken += 1
        if held is not None and self._taken % self.bench.steps == 0:
            self.eigenvalues.append(self._curvature(held))
        return loss

    def _curvature(self, held: Batch) -> float:
        """The dominant eigenvalue on a batch.

        In a copy, in full precision: on a processor float64, in which there are second
        derivatives whatever kernels float32 has.
        """
        self.bench.supernet.state.mixtures.clear()
        shared = deepcopy(self.bench.supernet)
        images = held.images
        if images.device.type == "cpu":
            shared, images = shared.double(), images.double()
        weights = {
            name: given.to(images.dtype) for name, given in self.relaxation.weights().items()
        }
        mix(shared, weights, self.relaxation.active())
        machine = replace(self.bench.machine, bfloat16=False)
        bench, held = (
            replace(self.bench, supernet=shared, machine=machine),
            replace(held, images=images),
        )
        with constant(shared.network):
            loss = bench.loss(held)
            return largest_eigenvalue(loss, list(self.relaxation.parameters()), self._products)

    def stopped(self) -> int | None:
        """The epoch that is gone back to, once the search has stopped."""
        return stopping_epoch(self.eigenvalues, **self._rule)  # type: ignore[arg-type]

    def done(self) -> bool:
        """Whether the loss has become too sharp."""
        return self.stopped() is not None

    def probabilities(self) -> Mapping[str, Tensor]:
        """How good each option is thought to be; after stopping, as it was before."""
        epoch = self.stopped()
        if epoch is None:
            return super().probabilities()
        return {name: rows[epoch] for name, rows in self.trajectory.items()}

    def monitors(self) -> Mapping[str, float]:
        """The eigenvalue too."""
        return {**super().monitors(), "eigenvalue": self.eigenvalues[-1]}

    def state(self) -> Mapping[str, Any]:
        """The eigenvalues too."""
        return {**super().state(), "eigenvalues": list(self.eigenvalues), "taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        self.eigenvalues, self._taken = list(state["eigenvalues"]), state["taken"]


ROBUST_DARTS = replace(
    DARTS_SECOND_ORDER,
    name="robust-darts",
    paper="Zela, Elsken, Saikia, Marrakchi, Brox, Hutter: Understanding and Robustifying "
    "Differentiable Architecture Search, ICLR 2020",
    step="parti.recipes.robust_darts:EarlyStopping",
    options={
        **DARTS_SECOND_ORDER.options,
        "window": 5,
        "back": 5,
        "ratio": 0.75,
        "patience": 0.2,
        "products": 20,
    },
)
