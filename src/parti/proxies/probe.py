"""What a proxy is, what it may ask for, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["Block", "Gate", "Layer", "Loss", "Need", "Probe", "Proxy"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Turns what the network gives for a batch, and the batch's targets, into one number."""


NOTHING = torch.empty(0)
"""What nobody needed."""


class Need(StrEnum):
    """What the one shared forward and backward pass can observe on the batch."""

    GATES = "gates"
    """Which units of every activation function were on."""
    MACS = "macs"
    """Multiply-accumulates of one image."""
    MAPS = "maps"
    """The first image's output of every innermost module."""
    BLOCKS = "blocks"
    """The output of every block, and what a random signal becomes on its way back through it."""
    INPUT_GRADIENT = "input_gradient"
    """The gradient of the sum of all outputs, for every image."""
    WEIGHTS = "weights"
    """The weights of every layer."""
    WEIGHT_GRADIENT = "weight_gradient"
    """The gradient of the loss, for the weights of every layer."""
    OUTPUT_GRADIENT = "output_gradient"
    """The outputs of every layer and the gradient of the loss for them."""
    CURVATURE = "curvature"
    """The product of the loss's Hessian and its gradient, for the weights of every layer."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One activation function, as the batch met it.

    Args:
        on: (images, units), whether what came in was above 0.
        shape: of what came in.
        times: how many activation functions were given this very tensor.
    """

    on: Tensor
    shape: tuple[int, ...]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or a linear layer.

    Args:
        weight: its weights.
        gradient: of the loss, in the shape of the weights; 0 where the loss does not depend on
            them; empty when nobody needed it.
        curvature: Hessian times gradient, likewise.
        outputs: what each call gave, (images, channels, ...) (for a linear layer, channels last).
        output_gradients: of the loss, for each of these.
        channel: the dimension of the outputs that holds the channels.
    """

    weight: Tensor
    gradient: Tensor = NOTHING
    curvature: Tensor = NOTHING
    outputs: tuple[Tensor, ...] = ()
    output_gradients: tuple[Tensor, ...] = ()
    channel: int = 1


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the network whose output the next part reads.

    Args:
        features: its output, (images, channels, height, width) or (images, tokens, channels).
        signal: random -1 and 1 in the shape of the features; None for the first block.
        returned: what the signal becomes on its way back to the block before, in the shape of
            that block's features; None for the first block, and where no signal gets back.
    """

    features: Tensor
    signal: Tensor | None = None
    returned: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A network on a batch, and what the shared pass observed of it.

    Proxies that need other passes run them on `network` themselves. It is in training mode, so
    that normalizations use the batch's own statistics; modes, buffers, gradient flags and random
    numbers may be changed: they are put back when all proxies are done. Its parameters are not.

    Args:
        network: the network.
        images: (n, ...), on the device of the network.
        labels: of the images, whatever the loss wants.
        loss: of a batch; a mean over its images.
        classes: how many values the network gives for an image.
        seed: of every random number.
        layers: convolutions and linear layers, in the order of `modules()`.
        gates: activation functions, in the order they were met.
        macs: multiply-accumulates of one image.
        maps: (channels, positions) for each innermost module that gave such.
        blocks: in the order they ran.
        input_gradient: (n, values of an image).
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    loss: Loss
    seed: int
    classes: int = 0
    layers: tuple[Layer, ...] = ()
    gates: tuple[Gate, ...] = ()
    macs: int = 0
    maps: tuple[Tensor, ...] = ()
    blocks: tuple[Block, ...] = ()
    input_gradient: Tensor | None = None


@runtime_checkable
class Proxy(Protocol):
    """Scores an untrained network."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it reads of the probe; anything not named here may be missing."""
        ...

    @property
    def goal(self) -> Literal["min", "max"]:
        """Whether good networks score high or low."""
        ...

    def __call__(self, probe: Probe) -> float:
        """Return the score; NaN or infinity where the formula gives that."""
        ...
