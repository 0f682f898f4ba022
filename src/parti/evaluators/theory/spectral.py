"""Spectral norms of layers, and measures of generalization made of them.

Peter Bartlett, Dylan Foster, Matus Telgarsky: "Spectrally-normalized margin bounds for neural
networks", NeurIPS 2017 (equation 1.2, here with reference matrices of zero). Which of such
measures follow the gap between training and test is studied in Yiding Jiang, Behnam Neyshabur,
Hossein Mobahi, Dilip Krishnan, Samy Bengio: "Fantastic Generalization Measures and Where to Find
Them", ICLR 2020; sums and products over layers are taken as there, in the order of modules, so
that for networks with branches they are no bound but a description.

A convolution is taken as the linear map that it is, from its whole input to its whole output,
with stride, padding and groups; its norm is found by power iteration with the convolution and its
adjoint (as in Yuichi Yoshida, Takeru Miyato, 2017, but on the true operator). Batch
normalisation is not folded in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parti.evaluators.modes import evaluating

__all__ = ["LayerSpectrum", "Spectrum", "spectrum"]

STEPS = 50
"""Of power iteration; from below; a norm is then known to a percent or two."""


@dataclass(frozen=True, slots=True)
class LayerSpectrum:
    """One linear layer.

    Args:
        name: dotted, as in `named_modules`.
        norm: largest singular value of the layer as a map from its whole input.
        stable_rank: squared Frobenius norm over squared spectral norm of its weight as a matrix
            (outputs, everything else): between 1 and its rank.
        across: the (2, 1) norm of the same matrix's transpose: sum of the lengths of its rows.
    """

    name: str
    norm: float
    stable_rank: float
    across: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """All linear layers that a forward pass went through, and what they make together.

    Args:
        layers: in the order of `named_modules`.
        log_product: natural logarithm of the product of spectral norms.
        log_complexity: natural logarithm of Bartlett's spectral complexity.
        mean_stable_rank: over layers.
    """

    layers: tuple[LayerSpectrum, ...]
    log_product: float
    log_complexity: float
    mean_stable_rank: float


def spectrum(network: nn.Module, input_shape: Sequence[int], *, seed: int = 0) -> Spectrum:
    """Spectral measures of a network, which is left as it was.

    Args:
        network: maps [batch, channels, height, width] to anything.
        input_shape: (channels, height, width) of one image.
        seed: of the vectors that power iteration starts from.

    Returns:
        The layers' norms and what follows from them; layers that are zero count nothing.
    """
    inputs = _input_shapes(network, input_shape)
    layers = []
    for name, module in network.named_modules():
        if name in inputs:
            layers.append(_layer(name, module, inputs[name], seed))
    weighty = [layer for layer in layers if layer.norm > 0]
    log_product = sum(math.log(layer.norm) for layer in weighty)
    ratios = sum((layer.across / layer.norm) ** (2 / 3) for layer in weighty)
    return Spectrum(
        layers=tuple(layers),
        log_product=log_product,
        log_complexity=log_product + 1.5 * math.log(ratios) if ratios else -math.inf,
        mean_stable_rank=sum(x.stable_rank for x in weighty) / max(1, len(weighty)),
    )


def _input_shapes(network: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """What reaches each convolution and linear layer, for one image."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def note(_: nn.Module, given: Any, name: str = name) -> None:
                shapes.setdefault(name, tuple(given[0].shape))

            handles.append(module.register_forward_pre_hook(note))
    some = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, *input_shape, dtype=some.dtype, device=some.device))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _layer(name: str, module: Any, shape: tuple[int, ...], seed: int) -> LayerSpectrum:
    matrix = module.weight.detach().double().flatten(1)
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    norm = largest if isinstance(module, nn.Linear) else _convolution_norm(module, shape, seed)
    return LayerSpectrum(
        name=name,
        norm=norm,
        stable_rank=float(matrix.square().sum()) / largest**2 if largest else 0.0,
        across=float(matrix.norm(dim=1).sum()),
    )


def _convolution_norm(module: nn.Conv2d, shape: tuple[int, ...], seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(shape, generator=generator, dtype=torch.double)
    vector = start.to(module.weight.device)
    weight = module.weight.detach().double()

    norm = 0.0
    for _ in range(STEPS):
        vector = (vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)).requires_grad_()
        with torch.enable_grad():
            image = module._conv_forward(vector, weight, None)
        norm = float(image.detach().norm())
        (vector,) = torch.autograd.grad(image, vector, image.detach())
    return norm
