"""Receptive field: how much of the image one position of the last feature map can see.

The arithmetic is that of André Araujo, Wade Norris, Jack Sim: "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019 (equations 1 and 2), carried through every operation
of a forward pass as it happens, functional ones too. Along a path, an operation with kernel k,
dilation d and stride s makes the field (k - 1) d jump larger and the jump s times longer; where
paths meet, the larger field counts.

Operations that see a whole map at once (pooling to one position, attention) do not enlarge the
field of the maps they meet; they set `global_context`, since a squeeze-and-excitation gate lets
everything see everything, though only on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from parti.core.errors import TrialError
from parti.evaluators.modes import evaluating

__all__ = ["ReceptiveField", "receptive_field"]

aten = torch.ops.aten

POOLS = frozenset({aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d, aten.mean, aten.amax})
"""Operations that see whole rows, columns or maps, where they leave fewer positions."""
PRODUCTS = frozenset({aten.mm, aten.bmm, aten.baddbmm})
"""Operations that let every position see all, where both factors come from the image."""
ATTENTION = frozenset(
    {
        aten._native_multi_head_attention,
        aten._transformer_encoder_layer_fwd,
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_attention_math,
    }
)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one position of the last feature map sees.

    Args:
        height: pixels from top to bottom; may exceed the image, whose border is then padding.
        width: pixels from left to right.
        jump: pixels between neighbouring positions, (vertical, horizontal).
        positions: (rows, columns) of the last map that has more than one position, or of the
            image's own if no operation has looked at it.
        global_context: whether some operation before the last map saw a whole map.
    """

    height: int
    width: int
    jump: tuple[float, float]
    positions: tuple[int, int]
    global_context: bool

    def share(self, height: int, width: int) -> float:
        """Part of an image that a central position sees, from 0 to 1."""
        return min(self.height, height) * min(self.width, width) / (height * width)


@dataclass(frozen=True, slots=True)
class _Field:
    size: tuple[float, float]
    jump: tuple[float, float]
    mixed: bool  # some operation saw a whole map


def receptive_field(network: nn.Module, input_shape: Sequence[int]) -> ReceptiveField:
    """Follow one image through a network, in evaluation mode.

    Args:
        network: maps [batch, channels, height, width] to anything; it is left as it was.
        input_shape: (channels, height, width) of one image.

    Returns:
        The field of the last feature map with more than one position.

    Raises:
        TrialError: the forward pass fails on that shape.
    """
    some = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, *input_shape, dtype=some.dtype, device=some.device)
    trace = _Trace(image)
    try:
        with evaluating(network), torch.no_grad(), trace:
            network(image)
    except Exception as error:
        raise TrialError(
            f"{type(network).__name__} fails on one image of shape {tuple(input_shape)}: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    last, positions = trace.last
    return ReceptiveField(
        height=round(last.size[0]),
        width=round(last.size[1]),
        jump=last.jump,
        positions=positions,
        global_context=last.mixed,
    )


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the field of every tensor, by its storage: views share it."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        start = _Field((1.0, 1.0), (1.0, 1.0), mixed=False)
        self.last = start, _positions(image)
        self._fields = {_storage(image): start}
        self._kept: list[Any] = [image]  # alive, so that no storage comes back as another

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        known = [t for t in _tensors(args) if _storage(t) in self._fields]
        first = next(iter(_tensors(out)), None)
        if known and first is not None:
            field = _through(func.overloadpacket, args, first, self._joined(known))
            if _sees_all(func.overloadpacket, args, first, factors=len(known)):
                field = replace(field, mixed=True)
            for tensor in _tensors(out):
                if _storage(tensor) not in self._fields:
                    self._kept.append(tensor)
                self._fields[_storage(tensor)] = field
            if first.dim() == 4 and max(_positions(first)) > 1:
                self.last = field, _positions(first)
        return out

    def _joined(self, tensors: list[Tensor]) -> _Field:
        """What a sum, a product or a concatenation of some tensors sees."""
        fields = [self._fields[_storage(t)] for t in tensors]
        maps = [t.dim() == 4 and max(_positions(t)) > 1 for t in tensors]
        placed = [f for f, is_map in zip(fields, maps, strict=True) if is_map] or fields
        return _Field(
            size=(max(f.size[0] for f in placed), max(f.size[1] for f in placed)),
            jump=(max(f.jump[0] for f in placed), max(f.jump[1] for f in placed)),
            # A single position comes from a whole map.
            mixed=any(f.mixed for f in fields) or (any(maps) and not all(maps)),
        )


def _through(operation: Any, args: tuple[Any, ...], out: Tensor, field: _Field) -> _Field:
    """What the output of an operation sees, from what its input does."""
    if operation is aten.convolution:
        _, weight, _, stride, _, dilation, transposed = args[:7]
        if weight.dim() != 4:
            return field
        return _windowed(field, weight.shape[2:], stride, dilation, transposed=transposed)
    if operation in (aten.max_pool2d_with_indices, aten.max_pool2d, aten.avg_pool2d):
        kernel = _pair(args[1])
        stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
        with_dilation = operation is not aten.avg_pool2d and len(args) > 4
        return _windowed(field, kernel, stride, _pair(args[4]) if with_dilation else (1, 1))
    if "upsample" in str(operation):
        before, after = _positions(args[0]), _positions(out)
        reach = 0 if "nearest" in str(operation) else 1
        size = tuple(s + reach * j for s, j in zip(field.size, field.jump, strict=True))
        jump = tuple(j * b / a for j, b, a in zip(field.jump, before, after, strict=True))
        return _Field((size[0], size[1]), (jump[0], jump[1]), field.mixed)
    return field


def _sees_all(operation: Any, args: tuple[Any, ...], out: Tensor, *, factors: int) -> bool:
    """Whether positions see beyond any kernel; where only one is left, `_joined` finds out."""
    if operation in POOLS:
        return max(_positions(out)) > 1 and _positions(out) != _positions(args[0])
    return operation in ATTENTION or (operation in PRODUCTS and factors > 1)


def _windowed(
    field: _Field,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    *,
    transposed: bool = False,
) -> _Field:
    size, jump = [], []
    for s, j, k, step, gap in zip(field.size, field.jump, kernel, stride, dilation, strict=True):
        if transposed:  # a position is reached by every step-th place of the kernel
            size.append(s + (-(-((k - 1) * gap + 1) // step) - 1) * j)
            jump.append(j / step)
        else:
            size.append(s + (k - 1) * gap * j)
            jump.append(j * step)
    return _Field((size[0], size[1]), (jump[0], jump[1]), field.mixed)


def _pair(value: Any) -> tuple[int, int]:
    both = [value] * 2 if isinstance(value, int) else list(value)
    return (both[0], both[-1])


def _positions(tensor: Tensor) -> tuple[int, int]:
    return (int(tensor.shape[-2]), int(tensor.shape[-1])) if tensor.dim() == 4 else (1, 1)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
