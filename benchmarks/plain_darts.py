"""The search network of DARTS as one would write it after reading the paper: what parti is timed
against.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019.

Every operation is a module of its own, an edge runs all eight, `none` too, multiplies each result
by its weight and adds them up in Python. Batch norms have no scale and shift, and the poolings are
followed by one, as in the paper's search. Parameters come in the order of parti's networks, so that
weights can be copied from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODES = 4
EDGES = sum(node + 1 for node in range(1, NODES + 1))


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class ReluConvNorm(nn.Sequential):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
        )


class FactorizedReduce(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(in_channels, channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def depthwise_separable(
    channels: int, kernel: int, stride: int, dilation: int = 1
) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    ]


def separable(kernel: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, stride: nn.Sequential(
        *depthwise_separable(channels, kernel, stride), *depthwise_separable(channels, kernel, 1)
    )


def dilated(kernel: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, stride: nn.Sequential(
        *depthwise_separable(channels, kernel, stride, dilation=2)
    )


def max_pool(channels: int, stride: int) -> nn.Module:
    pool = nn.MaxPool2d(3, stride, padding=1)
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


def average_pool(channels: int, stride: int) -> nn.Module:
    pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


def skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


PRIMITIVES: tuple[Callable[[int, int], nn.Module], ...] = (
    lambda _, stride: Zero(stride),
    max_pool,
    average_pool,
    skip,
    separable(3),
    separable(5),
    dilated(3),
    dilated(5),
)


class Mixture(nn.Module):
    """All operations of an edge, weighted (equation 2)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(build(channels, stride) for build in PRIMITIVES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(  # type: ignore[return-value]
            weight * operation(x)
            for weight, operation in zip(weights, self.operations, strict=True)
        )


class Cell(nn.Module):
    def __init__(
        self, earlier: int, previous: int, channels: int, *, reduction: bool, halve: bool
    ) -> None:
        super().__init__()
        enter = FactorizedReduce if halve else ReluConvNorm
        self.enter_earlier = enter(earlier, channels)
        self.enter_previous = ReluConvNorm(previous, channels)
        self.edges = nn.ModuleList(
            Mixture(channels, 2 if reduction and source < 2 else 1)
            for node in range(1, NODES + 1)
            for source in range(node + 1)
        )

    def forward(self, earlier: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        states = [self.enter_earlier(earlier), self.enter_previous(previous)]
        first = 0
        for _ in range(NODES):
            edges = range(first, first + len(states))
            first = edges.stop
            states.append(
                sum(
                    self.edges[edge](state, weights[edge])
                    for edge, state in zip(edges, states, strict=True)
                )
            )
        return torch.cat(states[2:], dim=1)


class SearchNetwork(nn.Module):
    """Maps images (batch, 3, height, width) to logits (batch, classes).

    Attributes:
        alphas: the architecture parameters of the two kinds of cells, (edges, primitives) each.
    """

    def __init__(self, channels: int = 16, cells: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.alphas = nn.ParameterDict(
            {kind: 1e-3 * torch.randn(EDGES, len(PRIMITIVES)) for kind in ("normal", "reduction")}
        )
        earlier = previous = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, previous, 3, padding=1, bias=False), nn.BatchNorm2d(previous)
        )
        self.cells = nn.ModuleList()
        self.kinds = []
        halved = False
        for number in range(cells):
            reduction = number in (cells // 3, 2 * cells // 3)
            if reduction:
                channels *= 2
            self.cells.append(Cell(earlier, previous, channels, reduction=reduction, halve=halved))
            self.kinds.append("reduction" if reduction else "normal")
            earlier, previous, halved = previous, NODES * channels, reduction
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: Tensor) -> Tensor:
        weights = {kind: F.softmax(alpha, dim=1) for kind, alpha in self.alphas.items()}
        earlier = previous = self.stem(x)
        for kind, cell in zip(self.kinds, self.cells, strict=True):
            earlier, previous = previous, cell(earlier, previous, weights[kind])
        return self.classifier(previous.mean((2, 3)))


class FirstOrder:
    """The alternating step of DARTS in its first-order approximation (algorithm 1 with ξ = 0).

    Args:
        network: maps images to logits.
        alphas: its architecture parameters; the others of its parameters are its weights.
        freeze: whether weights count as constants in the step of the architecture parameters,
            which then costs no gradients of them; the authors' code computes and discards these.
        lr: learning rate of the weights.
    """

    def __init__(
        self,
        network: nn.Module,
        alphas: Iterable[nn.Parameter],
        *,
        freeze: bool = False,
        lr: float = 0.025,
    ) -> None:
        self.network = network
        self.freeze = freeze
        self.alphas = list(alphas)
        held = {id(alpha) for alpha in self.alphas}
        self.weights = [p for p in network.parameters() if id(p) not in held]
        self.for_alphas = torch.optim.Adam(
            self.alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.for_weights = torch.optim.SGD(self.weights, lr=lr, momentum=0.9, weight_decay=3e-4)

    def step(self, batch: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> Tensor:
        """Update the architecture parameters, then the weights.

        Returns:
            The two losses before the updates: on the validation batch and on the batch.
        """
        self._require_gradients(weights=not self.freeze, alphas=True)
        on_validation = self._loss(validation)
        self.for_alphas.zero_grad()
        on_validation.backward()
        self.for_alphas.step()

        self._require_gradients(weights=True, alphas=not self.freeze)
        on_batch = self._loss(batch)
        self.for_weights.zero_grad()
        on_batch.backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.for_weights.step()
        return torch.stack([on_validation, on_batch]).detach()

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def _require_gradients(self, *, weights: bool, alphas: bool) -> None:
        for weight in self.weights:
            weight.requires_grad_(weights)
        for alpha in self.alphas:
            alpha.requires_grad_(alphas)
