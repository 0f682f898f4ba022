"""Learning architecture parameters by gradients, in turn with the weights of the supernet.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019,
algorithm 1. What differs between the methods that came after it is an argument here: how
architecture parameters become weights (`parti.recipes.relaxation`), what is added to their loss,
when they begin to learn.

Batch normalization: as in the authors' code, the pass over held-out images updates the running
statistics; the further passes of the second order leave them as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.plugins import load
from parti.recipes.bench import Batch, Bench
from parti.recipes.monitors import entropy, lengthened, skips
from parti.recipes.relaxation import Relaxation
from parti.supernets.derive import derive
from parti.supernets.subnets import activate, mix

__all__ = [
    "Alternating",
    "Penalized",
    "constant",
    "gradients_of",
    "kept_statistics",
    "unrolled",
]

RADIUS = 0.01
"""How far the weights are moved for the finite difference of the second order."""


class Penalized(Protocol):
    """What architecture parameters minimize, made of their loss."""

    def __call__(
        self,
        loss: Tensor,
        weights: Mapping[str, Tensor],
        relaxation: Relaxation,
        bench: Bench,
        progress: float,
    ) -> Tensor:
        """Return a scalar.

        Args:
            loss: cross-entropy on held-out images.
            weights: of the options by choice, with which it was computed.
            relaxation: where they come from.
            bench: knows the costs of architectures.
            progress: from 0 in the first epoch to 1 in the last.
        """
        ...


class Alternating:
    """A step for the architecture parameters on held-out images, then one for the weights.

    Args:
        bench: what it works with.
        relaxation: "package.module:Name" of a `Relaxation`.
        arguments: of the relaxation, beside the supernet.
        penalty: "package.module:name" of a `Penalized`; none by default.
        penalty_arguments: of the penalty, by name.
        lr: learning rate of the architecture parameters, for Adam.
        betas: of Adam.
        weight_decay: of the architecture parameters, as a part of their gradient.
        warm_up: share of the epochs, from the first, in which weights alone learn.
        second_order: whether gradients look through one step of the weights.
        every: of so many steps of the weights, one has a step of the architecture parameters.

    Attributes:
        relaxation: holds the architecture parameters.
        trajectory: probabilities of the options after each epoch, by choice, shape
            (epochs, options).
        warm_up: epochs in which weights alone learn.

    Raises:
        InvalidSettings: there is no such relaxation or penalty; the space cannot be relaxed; or
            the second order was asked for with an optimizer other than SGD.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        relaxation: str = "parti.recipes.relaxation:Relaxation",
        arguments: Mapping[str, Any] | None = None,
        penalty: str | None = None,
        penalty_arguments: Mapping[str, Any] | None = None,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        warm_up: float = 0.0,
        second_order: bool = False,
        every: int = 1,
    ) -> None:
        if second_order and not isinstance(bench.optimizer, torch.optim.SGD):
            raise InvalidSettings(
                "the second order looks through a step of SGD; train the weights with "
                "optimizer='sgd', or take the first order"
            )
        self.bench = bench
        self.relaxation: Relaxation = load("relaxation", relaxation, {})(
            bench.supernet, **(arguments or {})
        )
        self.trajectory: dict[str, Tensor] = {}
        self.optimizer = torch.optim.Adam(
            self.relaxation.parameters(), lr=lr, betas=betas, weight_decay=weight_decay
        )
        self._penalty: Penalized | None = None
        if penalty is not None:
            self._penalty = partial(load("penalty", penalty, {}), **(penalty_arguments or {}))
        self.warm_up = round(warm_up * bench.epochs)
        self._second_order = second_order
        self._every, self._since = every, 0
        self._derived: Architecture | None = None
        self.epoch = 0

    @property
    def progress(self) -> float:
        """From 0 in the first epoch to 1 in the last."""
        return self.epoch / max(1, self.bench.epochs - 1)

    @property
    def row(self) -> int:
        """Number of this epoch in the trajectory."""
        return self.epoch

    def begin(self, epoch: int) -> None:
        """Enter an epoch, or come back to it after a break."""
        self.epoch = epoch
        self.relaxation.anneal(self.progress)

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Take both steps.

        Raises:
            InvalidSettings: there are no held-out images.
        """
        if held is None:
            raise InvalidSettings(
                "architecture parameters are learned from images that the weights do not see: "
                "choose held=0.5, or another share, in the recipe"
            )
        if self.epoch >= self.warm_up:
            self._since = (self._since + 1) % self._every
            if self._since == 0:
                self.learn_architecture(batch, held)
        return self.learn_weights(batch)

    def learn_architecture(self, batch: Batch, held: Batch) -> None:
        """Take the step of the architecture parameters."""
        parameters = list(self.relaxation.parameters())
        if self._second_order:
            gradients = unrolled(
                self.bench,
                parameters,
                training=lambda: self._mixed_loss(batch),
                validation=lambda: self.held_loss(held),
            )
        else:
            with constant(self.bench.supernet.network):
                gradients = gradients_of(self.held_loss(held), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def learn_weights(self, batch: Batch) -> Tensor:
        """Take the step of the weights, and return the loss before it."""
        with torch.no_grad():
            self.mixed()
        loss = self.bench.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.bench.update()
        return loss.detach()

    def mixed(self) -> dict[str, Tensor]:
        """Let the options answer with the weights they have now, and return these."""
        weights = self.relaxation.weights()
        mix(self.bench.supernet, weights, self.relaxation.active())
        return weights

    def held_loss(self, held: Batch) -> Tensor:
        """What the architecture parameters minimize, a scalar."""
        weights = self.mixed()
        loss = self.bench.loss(held)
        if self._penalty is None:
            return loss
        return self._penalty(loss, weights, self.relaxation, self.bench, self.progress)

    def _mixed_loss(self, batch: Batch) -> Tensor:
        self.mixed()
        return self.bench.loss(batch)

    def settle(self) -> None:
        """Activate the strongest architecture, and write down how good options are thought."""
        found = self.relaxation.probabilities()
        self.trajectory = lengthened(self.trajectory, self.row, found)
        (best,) = derive(self.bench.supernet.space, self.probabilities())
        self._derived = activate(self.bench.supernet, best)

    def probabilities(self) -> Mapping[str, Tensor]:
        """How good each option is thought to be, by choice."""
        return self.relaxation.probabilities()

    def monitors(self) -> Mapping[str, float]:
        """Mean entropy of the choices (1: all alike), and skip connections that are derived."""
        found = {"entropy": entropy(self.relaxation.probabilities())}
        if self._derived is not None:
            found["skips"] = float(skips(self._derived))
        return found

    def done(self) -> bool:
        """It goes on to the last epoch."""
        return False

    def state(self) -> Mapping[str, Any]:
        """Architecture parameters, their optimizer, and the trajectory."""
        return {
            "relaxation": self.relaxation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trajectory": dict(self.trajectory),
            "since": self._since,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        self.relaxation.load_state_dict(state["relaxation"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.trajectory = dict(state["trajectory"])
        self._since = int(state["since"])


class _Closure(Protocol):
    def __call__(self) -> Tensor: ...


def unrolled(
    bench: Bench, parameters: Sequence[Tensor], *, training: _Closure, validation: _Closure
) -> list[Tensor]:
    """The gradient of the validation loss after one step of the weights (Liu 2019, eq. 6 to 8).

    The step is the one that the optimizer would take, without the clipping of gradients: with
    momentum, Nesterov's or plain, and weight decay. Weights and buffers are left as they were.

    Args:
        bench: its optimizer is SGD and holds the weights [w] and the learning rate [xi].
        parameters: the architecture parameters [alpha].
        training: computes the training loss.
        validation: computes the validation loss.

    Returns:
        One gradient for each of the parameters; its second term by a finite difference.
    """
    groups = bench.optimizer.param_groups
    weights = [weight for group in groups for weight in group["params"]]
    rate = float(groups[0]["lr"])
    with kept_statistics(bench.supernet.network), _kept(weights):
        gradients = gradients_of(training(), weights)
        with torch.no_grad():
            torch._foreach_sub_(weights, _step(bench.optimizer, gradients), alpha=rate)
        found = gradients_of(validation(), [*parameters, *weights])
    first = found[: len(parameters)]
    # Nesterov's momentum counts the newest gradient, on which alone alpha acts, 1 + momentum times.
    counts = [1 + g["momentum"] * g["nesterov"] for g in groups for _ in g["params"]]
    vector = [n * given for n, given in zip(counts, found[len(parameters) :], strict=True)]
    norm = float(torch.stack(torch._foreach_norm(vector)).norm())
    if norm == 0.0:
        return first
    radius = RADIUS / norm
    sides = []
    for shift in (radius, -radius):
        with kept_statistics(bench.supernet.network), _kept(weights):
            with torch.no_grad():
                torch._foreach_add_(weights, vector, alpha=shift)
            with constant(bench.supernet.network):
                sides.append(gradients_of(training(), parameters))
    return [
        gradient - rate * (plus - minus) / (2 * radius)
        for gradient, plus, minus in zip(first, *sides, strict=True)
    ]


def _step(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> list[Tensor]:
    """By how much SGD would move the weights, over the learning rate."""
    steps, given = [], iter(gradients)
    for group in optimizer.param_groups:
        momentum = group["momentum"]
        for weight in group["params"]:
            gradient = next(given) + group["weight_decay"] * weight
            buffer = optimizer.state[weight].get("momentum_buffer")
            moving = gradient if buffer is None else momentum * buffer + gradient
            steps.append(gradient + momentum * moving if group["nesterov"] else moving)
    return steps


@contextmanager
def constant(network: nn.Module) -> Iterator[None]:
    """Weights get no gradients in here, so that none are computed only to be thrown away.

    Asking for the gradients of others is not enough: a function with a backward of its own is told
    which of its inputs can have gradients, not which are asked for.

    Args:
        network: whose weights; passes and their gradients are both in here.
    """
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learned:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learned:
            weight.requires_grad_(True)


@contextmanager
def _kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Afterwards these have the values of before."""
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Passes in here leave no trace in the running statistics of normalizations."""
    with _kept(list(network.buffers())):
        yield


def gradients_of(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of these alone; zero for those that do not matter."""
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return cast(list[Tensor], list(found))
