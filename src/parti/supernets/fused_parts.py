"""What an operation of a supernet consists of, so that equal parts of several can run as one.

Operations are told apart by their modules and these modules' attributes, never by their labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeGuard

import torch
from torch import Tensor, nn

from parti.networks.operations import FactorizedReduce
from parti.supernets.share import NormalizedPool

__all__ = [
    "Chain",
    "Halving",
    "Norm",
    "Normed",
    "Part",
    "Pool",
    "Separable",
    "Term",
    "follow",
    "hooked",
    "part_of",
]

EPS = 1e-5
"""What torch adds to variances, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Norm:
    """Batch normalization that is not done yet.

    Args:
        module: whose statistics and parameters count; None for one that has neither, and always
            takes the statistics of the batch.
    """

    module: nn.BatchNorm2d | None

    @property
    def by_batch(self) -> bool:
        """Whether the statistics are those of the batch."""
        return self.module is None or self.module.training or self.module.running_mean is None

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        return EPS if self.module is None else self.module.eps

    @property
    def tracks(self) -> bool:
        """Whether running statistics change."""
        module = self.module
        return module is not None and module.training and module.running_mean is not None

    @property
    def rate(self) -> float:
        """By how much running statistics move towards those of the batch."""
        if self.module is None or not self.tracks:
            return 0.0
        if self.module.momentum is not None:
            return self.module.momentum
        assert self.module.num_batches_tracked is not None
        return 1.0 / (float(self.module.num_batches_tracked) + 1.0)

    def running(self) -> Tensor:
        """Running mean and variance, (2, channels)."""
        assert self.module is not None
        assert self.module.running_mean is not None
        assert self.module.running_var is not None
        return torch.stack([self.module.running_mean, self.module.running_var])

    @property
    def scale(self) -> Tensor | None:
        """What normalized channels are multiplied by [gamma]."""
        return None if self.module is None else self.module.weight

    @property
    def shift(self) -> Tensor | None:
        """What is added to them [beta]."""
        return None if self.module is None else self.module.bias


@dataclass(frozen=True, eq=False)
class Term:
    """What an operation gives, up to its last normalization.

    Args:
        values: (batch, channels, h, w).
        norm: what is still to be done to them; None when nothing is.
        moments: (2, channels), the mean and the variance that they are normalized by, where
            they are known already.
    """

    values: Tensor
    norm: Norm | None = None
    moments: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Separable:
    """ReLU, depthwise convolution, pointwise convolution, batch normalization."""

    depthwise: nn.Conv2d
    pointwise: nn.Conv2d
    norm: Norm

    @property
    def geometry(self) -> tuple[int, int, int]:
        """Kernel, stride and dilation of the depthwise convolution; all are square."""
        conv = self.depthwise
        return conv.kernel_size[0], conv.stride[0], conv.dilation[0]


@dataclass(frozen=True, eq=False)
class Chain:
    """Separable convolutions, one after the other; only the first may have a stride."""

    stages: tuple[Separable, ...]

    @property
    def geometry(self) -> tuple[tuple[int, int, int], ...]:
        """That of every stage: chains of one geometry can run as one."""
        return tuple(stage.geometry for stage in self.stages)

    @property
    def stride(self) -> int:
        """By what height and width are divided."""
        return self.stages[0].geometry[1]


@dataclass(frozen=True, eq=False)
class Pool:
    """Max or average pooling over 3×3 pixels, normalized or not."""

    module: nn.MaxPool2d | nn.AvgPool2d
    norm: Norm | None

    @property
    def stride(self) -> int:
        """By what height and width are divided."""
        return _square(self.module.stride) or 0


@dataclass(frozen=True, eq=False)
class Halving:
    """A factorized reduction; its activation is a ReLU."""

    module: FactorizedReduce
    norm: Norm


@dataclass(frozen=True, eq=False)
class Normed:
    """Any modules in turn, and a batch normalization after them."""

    before: tuple[nn.Module, ...]
    norm: Norm

    def term(self, x: Tensor) -> Term:
        """What they give, up to the normalization."""
        return Term(reduce(lambda y, module: module(y), self.before, x), self.norm)


def follow(norms: Sequence[Norm], moments: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Let running statistics follow those of a batch.

    Args:
        norms: some of which may track nothing.
        moments: for each the mean and variance of its batch, (2, channels).
        counts: for each the number of values of a channel in its batch.

    Returns:
        For each what it normalizes by: those of the batch, or its running ones.
    """
    by_rate: dict[float, list[tuple[Tensor, Tensor]]] = {}
    batches = []
    for norm, (mean, variance), count in zip(norms, moments, counts, strict=True):
        if norm.tracks:
            assert norm.module is not None
            assert norm.module.running_mean is not None
            assert norm.module.running_var is not None
            unbiased = variance * (count / max(count - 1, 1))
            pairs = by_rate.setdefault(norm.rate, [])
            pairs += [(norm.module.running_mean, mean), (norm.module.running_var, unbiased)]
            if norm.module.num_batches_tracked is not None:
                batches.append(norm.module.num_batches_tracked)
    with torch.no_grad():
        for rate, pairs in by_rate.items():
            running, new = zip(*pairs, strict=True)
            torch._foreach_lerp_(running, new, rate)
        if batches:
            torch._foreach_add_(batches, 1)
    return [
        found if norm.by_batch else norm.running()
        for norm, found in zip(norms, moments, strict=True)
    ]


Part = Chain | Pool | Halving | Normed | nn.Module


def part_of(operation: nn.Module) -> Part:
    """Recognize an operation; what is not recognized is returned as it is.

    Those with hooks are not: what is recognized is computed without calling its modules.

    Args:
        operation: maps (batch, channels, h, w) to the same number of channels.
    """
    if hooked(operation):
        return operation
    modules = list(_in_turn(operation))
    return _chain(modules) or _pool(modules) or _halving(modules) or _normed(modules) or operation


def hooked(operation: nn.Module) -> bool:
    """Whether a module, or one within, has hooks of its own, for forwards or backwards."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in operation.modules()
    )


def _in_turn(module: nn.Module) -> Iterator[nn.Module]:
    """What a sequence of sequences runs one after the other."""
    if type(module) is nn.Sequential:
        for inner in module:
            yield from _in_turn(inner)
    else:
        yield module


def _chain(modules: list[nn.Module]) -> Chain | None:
    stages = []
    for start in range(0, len(modules), 4):
        match modules[start : start + 4]:
            case [nn.ReLU(), nn.Conv2d() as depthwise, nn.Conv2d() as pointwise, norm] if (
                _is_norm(norm)
                and _separable(depthwise, pointwise)
                and (start == 0 or _square(depthwise.stride) == 1)
            ):
                stages.append(Separable(depthwise, pointwise, Norm(norm)))
            case _:
                return None
    return Chain(tuple(stages)) if stages else None


def _separable(depthwise: nn.Conv2d, pointwise: nn.Conv2d) -> bool:
    if type(depthwise) is not nn.Conv2d or type(pointwise) is not nn.Conv2d:
        return False
    channels = depthwise.in_channels
    kernel, dilation = _square(depthwise.kernel_size), _square(depthwise.dilation)
    if kernel is None or dilation is None or _square(depthwise.stride) is None:
        return False
    same = kernel % 2 == 1 and depthwise.padding == (kernel // 2 * dilation,) * 2
    plain = [
        conv.bias is None and conv.out_channels == channels and conv.padding_mode == "zeros"
        for conv in (depthwise, pointwise)
    ]
    alone = pointwise.kernel_size == pointwise.stride == (1, 1) and pointwise.padding == (0, 0)
    groups = (depthwise.groups, pointwise.groups) == (channels, 1)
    return all(plain) and same and alone and groups


def _pool(modules: list[nn.Module]) -> Pool | None:
    norm: Norm | None = None
    match modules:
        case [NormalizedPool() as normalized]:
            pool, norm = normalized.pool, Norm(None)
        case [pool, nn.BatchNorm2d() as after] if _is_norm(after):
            norm = Norm(after)
        case [pool]:
            pass
        case _:
            return None
    if not isinstance(pool, nn.MaxPool2d | nn.AvgPool2d):
        return None
    known = _square(pool.kernel_size) == 3 and _square(pool.padding) == 1 and not pool.ceil_mode
    if isinstance(pool, nn.AvgPool2d):
        known = known and not pool.count_include_pad and pool.divisor_override is None
    else:
        known = known and _square(pool.dilation) == 1 and not pool.return_indices
    return Pool(pool, norm) if known and _square(pool.stride) is not None else None


def _halving(modules: list[nn.Module]) -> Halving | None:
    match modules:
        case [FactorizedReduce() as reduction] if (
            type(reduction.act) is nn.ReLU
            and _is_norm(reduction.norm)
            and type(reduction.even) is type(reduction.odd) is nn.Conv2d
        ):
            return Halving(reduction, Norm(reduction.norm))
    return None


def _normed(modules: list[nn.Module]) -> Normed | None:
    *before, last = modules
    if _is_norm(last):
        return Normed(tuple(before), Norm(last))
    return None


def _is_norm(module: object) -> TypeGuard[nn.BatchNorm2d]:
    # Elastic ones, which are cut to the channels that come in, are of another type.
    return type(module) is nn.BatchNorm2d


def _square(size: object) -> int | None:
    """The one number of a size that is the same in both directions."""
    match size:
        case int(one):
            return one
        case (int(one), int(other)) if one == other:
            return one
    return None
