"""Ensembles of small neural networks that predict a loss from a vector, in numpy.

All members are trained at once, each from its own start and in its own order of the examples: a
layer of the whole ensemble is one product of stacked matrices. Parameters lie in one array, of
which weights and biases are views, so that a step of the optimizer is a few operations on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings

__all__ = ["Ensemble", "Training", "loss_and_gradient", "train"]

Array = npt.NDArray[np.floating]

MOST_STEPS = 8
"""Steps in an epoch at most: with more examples, batches grow."""


@dataclass(frozen=True, slots=True)
class Training:
    """How to train.

    Args:
        hidden: widths of the hidden layers.
        members: number of networks in the ensemble.
        loss: "absolute" or "squared" error.
        epochs: how often every example is seen.
        batch: number of examples in a step, as long as an epoch has no more than eight steps.
        rate: learning rate of Adam.
        decay: weight decay, added to the gradient.
        betas: decay of Adam's two moments.
        cosine: whether the rate falls to 0 along half a cosine; else it is constant.

    Raises:
        InvalidSettings: a size is less than 1, or the rate is not positive.
    """

    hidden: tuple[int, ...]
    members: int
    loss: Literal["absolute", "squared"]
    epochs: int
    batch: int
    rate: float
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    cosine: bool = False

    def __post_init__(self) -> None:
        sizes = (*self.hidden, self.members, self.epochs, self.batch)
        if min(sizes) < 1 or self.rate <= 0:
            raise InvalidSettings(
                f"hidden layers {list(self.hidden)}, {self.members} members, {self.epochs} "
                f"epochs, batches of {self.batch}, rate {self.rate}: all must be positive"
            )


@dataclass(frozen=True)
class Ensemble:
    """Trained networks.

    Args:
        widths: of input, hidden layers and output (1).
        parameters: shape (members, parameters of one).
        centre: mean of the targets.
        scale: their standard deviation.
    """

    widths: tuple[int, ...]
    parameters: Array
    centre: float
    scale: float

    def predict(self, inputs: Array) -> npt.NDArray[np.float64]:
        """Map inputs (examples, features) to the predictions of each member (members, examples)."""
        outputs = inputs[None].astype(self.parameters.dtype)
        layers = list(_views(self.parameters, self.widths))
        for place, (weight, bias) in enumerate(layers):
            outputs = outputs @ weight + bias
            if place + 1 < len(layers):
                outputs = np.maximum(outputs, 0)
        return self.centre + self.scale * outputs[..., 0].astype(np.float64)


def train(
    inputs: Array, targets: npt.NDArray[np.float64], how: Training, rng: np.random.Generator
) -> Ensemble:
    """Train an ensemble with Adam (Kingma and Ba, ICLR 2015).

    Args:
        inputs: shape (examples, features), at least one example.
        targets: shape (examples,), finite; they are standardized for training.
        how: to train.
        rng: of the starts (Glorot and Bengio, AISTATS 2010, uniform) and of the orders.
    """
    widths = (inputs.shape[1], *how.hidden, 1)
    centre, scale = float(targets.mean()), float(targets.std()) or 1.0
    wanted = ((targets - centre) / scale).astype(np.float32)
    inputs = inputs.astype(np.float32)
    parameters = _started(widths, how.members, rng)
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    examples = len(inputs)
    batch = max(how.batch, -(-examples // MOST_STEPS))
    steps = how.epochs * -(-examples // batch)
    done = 0
    for _ in range(how.epochs):
        orders = rng.permuted(np.tile(np.arange(examples), (how.members, 1)), axis=1)
        for start in range(0, examples, batch):
            chosen = orders[:, start : start + batch]
            _, gradient = loss_and_gradient(
                parameters, widths, inputs[chosen], wanted[chosen], how.loss
            )
            if how.decay:
                gradient += how.decay * parameters
            rate = how.rate * (0.5 * (1 + np.cos(np.pi * done / steps)) if how.cosine else 1.0)
            done += 1
            first += (1 - how.betas[0]) * (gradient - first)
            second += (1 - how.betas[1]) * (gradient**2 - second)
            # Kingma and Ba, section 2: both corrections of the bias in one factor.
            rate *= np.sqrt(1 - how.betas[1] ** done) / (1 - how.betas[0] ** done)
            parameters -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-7))
    return Ensemble(widths, parameters, centre, scale)


def loss_and_gradient(
    parameters: Array,
    widths: Sequence[int],
    inputs: Array,
    targets: Array,
    loss: Literal["absolute", "squared"],
) -> tuple[Array, Array]:
    """Return the mean loss of each member over its batch, and its gradient.

    Args:
        parameters: shape (members, parameters of one).
        widths: of input, hidden layers and output (1).
        inputs: each member's batch, shape (members, batch, features).
        targets: shape (members, batch).
        loss: "absolute" or "squared" error.

    Returns:
        Losses, shape (members,), and gradients, of the shape of the parameters.
    """
    layers = list(_views(parameters, widths))
    states = [inputs]
    for weight, bias in layers[:-1]:
        states.append(np.maximum(states[-1] @ weight + bias, 0))
    weight, bias = layers[-1]
    error = (states[-1] @ weight + bias)[..., 0] - targets
    values = np.abs(error) if loss == "absolute" else error**2
    slope = np.sign(error) if loss == "absolute" else 2 * error
    back = (slope / error.shape[1])[..., None].astype(parameters.dtype)
    gradient = np.empty_like(parameters)
    slots = list(_views(gradient, widths))
    for place in range(len(layers) - 1, -1, -1):
        into_weight, into_bias = slots[place]
        np.matmul(states[place].swapaxes(1, 2), back, out=into_weight)
        into_bias[:] = back.sum(axis=1, keepdims=True)
        if place:
            back = back @ layers[place][0].swapaxes(1, 2) * (states[place] > 0)
    return values.mean(axis=1), gradient


def _views(parameters: Array, widths: Sequence[int]) -> Iterator[tuple[Array, Array]]:
    """Weights (members, in, out) and biases (members, 1, out) of each layer, as views."""
    start, members = 0, len(parameters)
    for before, after in pairwise(widths):
        middle, end = start + before * after, start + before * after + after
        yield (
            parameters[:, start:middle].reshape(members, before, after),
            parameters[:, middle:end].reshape(members, 1, after),
        )
        start = end


def _started(widths: Sequence[int], members: int, rng: np.random.Generator) -> Array:
    count = sum(before * after + after for before, after in pairwise(widths))
    parameters = np.zeros((members, count), dtype=np.float32)
    for weight, _ in _views(parameters, widths):
        bound = np.sqrt(6 / (weight.shape[1] + weight.shape[2]))
        weight[:] = rng.uniform(-bound, bound, size=weight.shape)
    return parameters
