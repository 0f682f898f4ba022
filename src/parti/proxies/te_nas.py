"""TE-NAS: condition number of the neural tangent kernel, and number of linear regions.

    W. Chen, X. Gong and Z. Wang. Neural Architecture Search on ImageNet in Four GPU Hours: A
    Theoretically Inspired Perspective. ICLR 2021, sections 3.1.1 and 3.1.2.

`NtkCondition` says how hard the network is to train (lower is better): the kernel of two images
is the product of the gradients of their summed outputs for all weights; κ is the ratio of its
largest and smallest eigenvalue. `LinearRegions` says how many functions it can tell apart (higher
is better): how many different codes (bits of all ReLUs) small inputs have.

Departures: 16 images make the kernel by default, as it costs a pass back for each (the authors
take a batch); the network's present weights are used once, where they draw several. Regions are
counted in the network itself on random 3×3 crops of the images with all their channels; theirs
has one channel and crops of one. A wide network tells nearly all crops apart, so the count
saturates at their number. Other activations than ReLU count too, as in `naswot`. The authors
combine the two as ranks while they prune a supernet; here they are scores of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from parti.core.errors import InvalidSettings, TrialError
from parti.proxies.looking import answer
from parti.proxies.probe import Need, Probe
from parti.proxies.watching import Watch

__all__ = ["LinearRegions", "NtkCondition"]


@dataclass(frozen=True)
class NtkCondition:
    """Condition number of the empirical neural tangent kernel.

    Args:
        images: of the batch that make the kernel.

    Raises:
        InvalidSettings: there are fewer than 2.
    """

    images: int = 16

    needs: ClassVar[frozenset[Need]] = frozenset()
    goal: ClassVar[Literal["min", "max"]] = "min"

    def __post_init__(self) -> None:
        if self.images < 2:
            raise InvalidSettings(f"images={self.images}; a kernel needs at least 2")

    def __call__(self, probe: Probe) -> float:
        """Return the condition number; infinite where the kernel is singular."""
        # As in the authors' code, all that is called a weight: those of norms, but no biases.
        weights = [p for name, p in probe.network.named_parameters() if "weight" in name]
        for weight in weights:
            weight.requires_grad_(True)
        out = answer(probe.network, probe.images[: self.images])
        gradients = []
        for row in out:
            found = torch.autograd.grad(
                row.sum(), weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            gradients.append(torch.cat([gradient.flatten() for gradient in found]))
        stacked = torch.stack(gradients).double()
        eigenvalues = torch.linalg.eigvalsh(stacked @ stacked.T)
        smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        return largest / smallest if smallest > 0 else float("inf")


@dataclass(frozen=True)
class LinearRegions:
    """Number of different codes of small inputs.

    Args:
        samples: how many inputs.
        pixels: their height and width.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    samples: int = 1000
    pixels: int = 3

    needs: ClassVar[frozenset[Need]] = frozenset()
    goal: ClassVar[Literal["min", "max"]] = "max"

    def __post_init__(self) -> None:
        if self.samples < 2 or self.pixels < 1:
            raise InvalidSettings(
                f"samples={self.samples}, pixels={self.pixels}: at least 2 samples of 1 pixel "
                "are needed"
            )

    def __call__(self, probe: Probe) -> float:
        """Return the number of different codes, `samples` at most.

        Raises:
            TrialError: the inputs are no images, or the network cannot take small ones.
        """
        images, size = probe.images, self.pixels
        if images.ndim != 4 or min(images.shape[2:]) < size:
            raise TrialError(
                f"inputs of shape {tuple(images.shape)} have no crops of {size} × {size} pixels; "
                "leave out linear_regions"
            )
        generator = torch.Generator().manual_seed(probe.seed)
        n, _, height, width = images.shape
        which, top, left = (
            torch.randint(high, (self.samples,), generator=generator).tolist()
            for high in (n, height - size + 1, width - size + 1)
        )
        crops = torch.stack(
            [
                images[i, :, y : y + size, x : x + size]
                for i, y, x in zip(which, top, left, strict=True)
            ]
        )
        watch = Watch(gates=True, macs=False)
        try:
            with torch.no_grad(), watch:
                answer(probe.network, crops)
        except (RuntimeError, ValueError) as error:
            raise TrialError(
                f"linear_regions: the network cannot take images of {size} × {size} pixels "
                f"({str(error)[:200]}); choose LinearRegions(pixels=...) larger, or leave it out"
            ) from error
        if not watch.gates:
            return 1.0
        codes = torch.cat([gate.on for gate in watch.gates], 1)
        return float(len(torch.unique(codes, dim=0)))
