"""All that theory says of one trained network, each number with a sentence that explains it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parti.evaluators.complexity import NetworkCost, complexity
from parti.evaluators.curvature import largest_eigenvalue
from parti.evaluators.modes import evaluating
from parti.evaluators.theory.landscape import roughness
from parti.evaluators.theory.moved import Loss, moving
from parti.evaluators.theory.norms import LayerNorms, layer_norms
from parti.evaluators.theory.receptive_field import receptive_field
from parti.evaluators.theory.roofline import Machine, roofline
from parti.evaluators.theory.sharpness import sharpness
from parti.evaluators.theory.spectral import spectrum

__all__ = ["Fact", "Theory", "theory"]

PRODUCTS = 10
"""Hessian-vector products for the largest eigenvalue."""

FEWEST_CURVED = 16
"""Images that curvature is measured on at least, if there are as many."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One number.

    Args:
        name: what it is.
        value: the number itself.
        unit: of the value, for people; empty without one.
        explained: what it means, in a sentence.
    """

    name: str
    value: float
    unit: str
    explained: str


@dataclass(frozen=True, slots=True)
class Theory:
    """What structure and weights of a network say.

    Args:
        facts: numbers of the network as a whole.
        norms: of weights and biases, layer by layer.
    """

    facts: tuple[Fact, ...]
    norms: tuple[LayerNorms, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; numbers that are not finite are None."""
        facts = [asdict(fact) for fact in self.facts]
        for fact in facts:
            fact["value"] = fact["value"] if math.isfinite(fact["value"]) else None
        return {"facts": facts, "norms": [asdict(norm) for norm in self.norms]}


def theory(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = F.cross_entropy,
    machine: Machine | None = None,
    seed: int = 0,
    seconds: float | None = None,
) -> Theory:
    """Look at a trained network, on a batch of training images.

    The network is left as it was. It costs some forty passes over the batch, and ten products with
    the Hessian in float64, each of which can take as long as fifty passes.

    Args:
        network: on the CPU.
        inputs: [batch, channels, height, width], normalised as in training.
        targets: what the loss wants to know of them.
        loss: of (outputs, targets), a mean over the batch.
        machine: for the roofline; None to measure this one.
        seed: of random directions and starting vectors.
        seconds: that curvature may take: it is measured on as many images as that allows, but 16
            if there are as many; None to take all.

    Returns:
        The facts. Curvature is left out of networks without second derivatives (torch has none of
        the hard sigmoid).

    Raises:
        TrialError: the network does not take inputs of this shape.
    """
    shape = tuple(inputs.shape[1:])
    with torch.random.fork_rng(devices=[]), evaluating(network):
        torch.manual_seed(seed)
        cost = complexity(network, shape)
        facts = [
            *_of_structure(network, cost, shape, machine),
            *_of_weights(network, inputs, targets, loss, seed, seconds),
        ]
    return Theory(tuple(facts), layer_norms(network))


def _of_structure(
    network: nn.Module, cost: NetworkCost, shape: Sequence[int], machine: Machine | None
) -> Iterator[Fact]:
    seen = receptive_field(network, shape)
    everything = " Gates or attention also let it see the whole image." * seen.global_context
    yield Fact(
        "receptive field",
        seen.height,
        f"× {seen.width} pixels",
        f"What one position of the last feature map sees: {seen.share(*shape[1:]):.0%} of an "
        f"image of {shape[1]} × {shape[2]} pixels.{everything}",
    )
    yield Fact(
        "memory at its peak",
        cost.weight_bytes + cost.activation_bytes,
        "bytes",
        f"Weights ({cost.weight_bytes:,} bytes) and the most that activations of one image need "
        f"at once ({cost.activation_bytes:,} bytes), in float32.",
    )
    bound = roofline(cost, machine)
    yield Fact(
        "arithmetic intensity",
        bound.intensity,
        "FLOPs per byte",
        "Operations for each byte moved; below "
        f"{bound.balance:.1f} this machine waits for memory, not for arithmetic.",
    )
    yield Fact(
        "roofline",
        bound.floor_ms,
        "ms",
        "About the least that one image needs in float32, by the best that this machine did in "
        f"many short tries ({bound.machine.threads} thread(s), {bound.machine.flops / 1e9:.0f} "
        f"GFLOP/s, {bound.bandwidth / 1e9:.0f} GB/s for as much data); {bound.memory_bound:.0%} "
        "of it is waiting for data.",
    )


def _of_weights(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    seed: int,
    seconds: float | None,
) -> Iterator[Fact]:
    yield Fact(
        "sharpness",
        sharpness(network, inputs, targets, loss),
        "",
        "How much the training loss rises when all weights together move 0.05 in the worst "
        "direction (SAM); flat networks tend to generalize better.",
    )
    yield Fact(
        "roughness",
        roughness(network, inputs, targets, loss, seed=seed),
        "",
        "How much the training loss rises on average when every filter moves by a tenth of its "
        "own length in a random direction: also how much rounding of weights may hurt.",
    )
    curvature = _curvature(network, inputs, targets, loss, seconds)
    if curvature is not None:
        yield Fact(
            "curvature",
            curvature,
            "",
            "Largest eigenvalue of the Hessian of the training loss: gradient descent with a step "
            "larger than 2 over it is unstable.",
        )
    found = spectrum(network, tuple(inputs.shape[1:]), seed=seed)
    yield Fact(
        "product of spectral norms, log10",
        found.log_product / math.log(10),
        "",
        "How much a change of the input can grow through all linear layers, one after another, in "
        "powers of ten; batch normalisation is left out.",
    )
    yield Fact(
        "spectral complexity, log10",
        found.log_complexity / math.log(10),
        "",
        "The complexity that bounds the gap between training and test in Bartlett et al. 2017: "
        "compare networks with it, it is far from a tight bound.",
    )
    yield Fact(
        "stable rank, mean",
        found.mean_stable_rank,
        "",
        "How many directions the average layer really uses; near 1, its filters are nearly alike.",
    )


def _curvature(
    network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, seconds: float | None
) -> float | None:
    """In a copy, in float64: on a processor, float32 has kernels without second derivatives."""
    exact = deepcopy(network).double()

    def measured(images: int, products: int) -> float:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            found = loss(exact(inputs[:images].double()), targets[:images])
            return largest_eigenvalue(found, moving(exact), products)

    images = len(inputs)
    try:
        if seconds is not None and images > FEWEST_CURVED:
            began = time.perf_counter()
            measured(FEWEST_CURVED, 1)
            one = (time.perf_counter() - began) / FEWEST_CURVED
            images = max(FEWEST_CURVED, min(images, int(seconds / PRODUCTS / one)))
        return measured(images, PRODUCTS)
    except RuntimeError:  # an operation has no second derivative in float64 either
        return None
