"""The same operations as `fused_native` with torch's own, for every device and type of number.

On a GPU equal operations on the same images run as one, over concatenated channels: it then has
few large things to do instead of many small ones. A processor is quicker with each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import reduce
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parti.supernets.fused_parts import Chain, Halving, Norm, Pool, Separable, Term

T = TypeVar("T")

__all__ = ["chains", "halvings", "mix", "pools"]


def chains(x: Tensor, found: Sequence[Chain]) -> list[Term]:
    """Apply chains of separable convolutions to the same images.

    Args:
        x: (batch, channels, h, w).
        found: at least one.

    Returns:
        What each gives, up to its last normalization.
    """
    terms: dict[int, Term] = {}
    rectified = F.relu(x)
    for places in _together(x, found, lambda chain: chain.geometry):
        depths = list(zip(*(found[place].stages for place in places), strict=True))
        y = _convolved(rectified.repeat(1, len(places), 1, 1), depths[0])
        for before, stages in pairwise(depths):
            y = _convolved(F.relu(normalized(y, [stage.norm for stage in before])), stages)
        parts = y.chunk(len(places), dim=1)
        for place, part, stage in zip(places, parts, depths[-1], strict=True):
            terms[place] = Term(part, stage.norm)
    return [terms[place] for place in range(len(found))]


def pools(x: Tensor, found: Sequence[Pool]) -> list[Term]:
    """Pool images; equal poolings run once.

    Args:
        x: (batch, channels, h, w).
        found: at least one.

    Returns:
        What each gives, up to its normalization.
    """
    terms: dict[int, Term] = {}
    for places in _alike(found, lambda pool: (type(pool.module), pool.stride)):
        pooled = found[places[0]].module(x)
        terms |= {place: Term(pooled, found[place].norm) for place in places}
    return [terms[place] for place in range(len(found))]


def halvings(x: Tensor, found: Sequence[Halving]) -> list[Term]:
    """Halve images by factorized reductions, which are one convolution over 2×2 pixels.

    Half of its outputs look at the upper left one, the others at the lower right one.

    Args:
        x: (batch, channels, h, w).
        found: at least one.

    Returns:
        What each gives, up to its normalization.
    """
    corners = []
    for halving in found:
        corners.append(F.pad(halving.module.even.weight, (0, 1, 0, 1)))
        corners.append(F.pad(halving.module.odd.weight, (1, 0, 1, 0)))
    x = F.relu(x)
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    y = F.conv2d(x, torch.cat(corners), stride=2)
    widths = [halving.module.norm.num_features for halving in found]
    return [
        Term(part, halving.norm)
        for part, halving in zip(torch.split(y, widths, dim=1), found, strict=True)
    ]


def mix(terms: Sequence[Term], weights: Tensor) -> Tensor:
    """Return the weighted sum of terms, each normalized as it is due.

    Args:
        terms: of one shape; not empty.
        weights: one for each of them.
    """
    channels = terms[0].values.shape[1]
    normed = [(weights[place], term) for place, term in enumerate(terms) if term.norm]
    sums = [weights[place] * term.values for place, term in enumerate(terms) if not term.norm]
    for places in _together(terms[0].values, normed, lambda _: None):
        some = [normed[place] for place in places]
        values = _side_by_side([term.values for _, term in some])
        norms = [term.norm for _, term in some if term.norm]
        by = torch.stack([weight for weight, _ in some]).repeat_interleave(channels)
        parts = normalized(values, norms, by)
        sums.append(parts if len(some) == 1 else torch.unflatten(parts, 1, (-1, channels)).sum(1))
    return reduce(torch.add, sums)


def normalized(x: Tensor, norms: Sequence[Norm], by: Tensor | None = None) -> Tensor:
    """Normalize images whose channels are those of several, one after the other.

    Args:
        x: (batch, norms × channels, h, w).
        norms: of each part of the channels.
        by: what each channel is multiplied by afterwards.
    """
    groups = list(_alike(norms, lambda norm: (norm.by_batch, norm.eps, norm.rate)))
    if len(groups) == 1:
        return _normalized(x, norms, by)
    parts, bys = x.chunk(len(norms), 1), None if by is None else by.chunk(len(norms))
    done: dict[int, Tensor] = {}
    for places in groups:
        some = torch.cat([parts[place] for place in places], dim=1)
        theirs = None if bys is None else torch.cat([bys[place] for place in places])
        result = _normalized(some, [norms[place] for place in places], theirs)
        done |= dict(zip(places, result.chunk(len(places), dim=1), strict=True))
    return torch.cat([done[place] for place in range(len(norms))], dim=1)


def _normalized(x: Tensor, norms: Sequence[Norm], by: Tensor | None) -> Tensor:
    """The same where all norms work alike."""
    channels = x.shape[1] // len(norms)
    first = norms[0]
    scale = _joined([norm.scale for norm in norms], x.new_ones(channels))
    shift = _joined([norm.shift for norm in norms], x.new_zeros(channels))
    if by is not None:
        scale = by if scale is None else by * scale
        shift = None if shift is None else by * shift
    mean = variance = None
    if not first.by_batch or any(norm.tracks for norm in norms):
        blank = torch.zeros(2, channels, dtype=x.dtype, device=x.device)
        running = [norm.running() if norm.module else blank for norm in norms]
        mean, variance = torch.stack(running, dim=1).flatten(1)
    y = F.batch_norm(x, mean, variance, scale, shift, first.by_batch, first.rate, first.eps)
    if mean is not None and variance is not None and first.by_batch:
        _keep(norms, mean.chunk(len(norms)), variance.chunk(len(norms)))
    return y


def _keep(norms: Sequence[Norm], means: Sequence[Tensor], variances: Sequence[Tensor]) -> None:
    """Write new running statistics back."""
    old: list[Tensor] = []
    new: list[Tensor] = []
    batches = []
    for norm, mean, variance in zip(norms, means, variances, strict=True):
        module = norm.module
        if module is None or not norm.tracks:
            continue
        assert module.running_mean is not None
        assert module.running_var is not None
        old += [module.running_mean, module.running_var]
        new += [mean, variance]
        if module.num_batches_tracked is not None:
            batches.append(module.num_batches_tracked)
    with torch.no_grad():
        torch._foreach_copy_(old, new)
        if batches:
            torch._foreach_add_(batches, 1)


def _convolved(y: Tensor, stages: Sequence[Separable]) -> Tensor:
    """Depthwise and pointwise convolution of every part of the channels."""
    first = stages[0].depthwise
    depthwise = torch.cat([stage.depthwise.weight for stage in stages])
    pointwise = torch.cat([stage.pointwise.weight for stage in stages])
    y = F.conv2d(y, depthwise, None, first.stride, first.padding, first.dilation, len(depthwise))
    return F.conv2d(y, pointwise, groups=len(stages))


def _joined(parts: Sequence[Tensor | None], otherwise: Tensor) -> Tensor | None:
    """All parts in a row, or None where there is none."""
    if all(part is None for part in parts):
        return None
    return torch.cat([otherwise if part is None else part for part in parts])


def _alike(items: Sequence[T], key: Callable[[T], Hashable]) -> Iterable[list[int]]:
    """Places of items with equal keys."""
    groups: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(key(item), []).append(place)
    return groups.values()


def _together(x: Tensor, items: Sequence[T], key: Callable[[T], Hashable]) -> Iterable[list[int]]:
    """Places of items that run as one where these images are."""
    if x.device.type == "cpu":
        return [[place] for place in range(len(items))]
    return _alike(items, key)


def _side_by_side(images: Sequence[Tensor]) -> Tensor:
    """Images with all their channels."""
    return images[0] if len(images) == 1 else torch.cat(list(images), dim=1)
