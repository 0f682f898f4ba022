"""Operations on images in the processor's memory, by the kernels of `fused_kernels`.

Images are float32; their channels, a multiple of 4, lie next to each other in memory. Second
derivatives do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from parti.supernets.fused_functions import (
    Branches,
    Mix,
    Normalization,
    Pools,
    Separables,
    moments_of,
)
from parti.supernets.fused_library import STRIDES, packed
from parti.supernets.fused_parts import Chain, Pool, Separable, Term, follow

__all__ = ["chains", "handles", "mix", "pools", "settled"]

KERNELS = (3, 5)


def handles(part: Chain | Pool) -> bool:
    """Whether there is a kernel for an operation."""
    if isinstance(part, Pool):
        return part.stride in STRIDES
    return all(kernel in KERNELS and stride in STRIDES for kernel, stride, _ in part.geometry)


def chains(x: Tensor, found: Sequence[Chain]) -> list[Term]:
    """Apply chains of separable convolutions to the same images.

    Args:
        x: (batch, channels, h, w).
        found: of one stride; not empty.

    Returns:
        What each gives, up to its last normalization.
    """
    terms = [Term(packed(x))] * len(found)
    for depth in range(max(len(chain.stages) for chain in found)):
        places = [i for i, chain in enumerate(found) if len(chain.stages) > depth]
        stages = [found[i].stages[depth] for i in places]
        for i, term in zip(places, _separables([terms[i] for i in places], stages), strict=True):
            terms[i] = term
    return terms


def pools(x: Tensor, found: Sequence[Pool]) -> list[Term]:
    """Pool images; max and average pooling run once each, however often they are asked for.

    Args:
        x: (batch, channels, h, w).
        found: of one stride; not empty.

    Returns:
        What each gives, up to its normalization.
    """
    kinds = [isinstance(pool.module, nn.MaxPool2d) for pool in found]
    images = Pools.apply(  # type: ignore[no-untyped-call]
        packed(x), found[0].stride, any(kinds), not all(kinds)
    )
    pooled = dict(zip((True, False), images, strict=True))
    return settled([Term(pooled[kind], pool.norm) for kind, pool in zip(kinds, found, strict=True)])


def settled(terms: Sequence[Term]) -> list[Term]:
    """Find what values are normalized by, where it is not known yet; running statistics follow.

    Args:
        terms: of values that suit.

    Returns:
        The same, with moments where there is a norm.
    """
    open_terms = [term for term in terms if term.norm and term.moments is None]
    distinct = {id(term.values): term.values for term in open_terms}
    found = {key: moments_of(packed(values)) for key, values in distinct.items()}
    norms = [term.norm for term in open_terms if term.norm]
    moments = [found[id(term.values)] for term in open_terms]
    counts = [term.values.numel() // term.values.shape[1] for term in open_terms]
    used = iter(follow(norms, moments, counts))
    return [
        replace(term, moments=next(used)) if term.norm and term.moments is None else term
        for term in terms
    ]


def mix(terms: Sequence[Term], weights: Tensor) -> Tensor:
    """Return the weighted sum of terms, each normalized as it is due.

    Args:
        terms: settled, of one shape; not empty.
        weights: one for each of them.
    """
    by = Normalization.of(terms)
    scales = weights.unsqueeze(1) if by.scales is None else weights.unsqueeze(1) * by.scales
    scales = scales.expand(by.means.shape)
    mixed: Tensor = Mix.apply(  # type: ignore[no-untyped-call]
        by, scales, *(packed(term.values) for term in terms)
    )
    if by.shifts is None:
        return mixed
    return mixed + (weights @ by.shifts).view(1, -1, 1, 1)


def _separables(terms: Sequence[Term], stages: Sequence[Separable]) -> list[Term]:
    """Normalize as it is due; then ReLU, depthwise and pointwise convolution.

    Either no term has a norm, and all are one; or every term has.
    """
    shared = terms[0].norm is None
    by = None if shared else Normalization.of(terms)
    branches = Branches(tuple(stage.geometry for stage in stages), shared)
    moments, *values = Separables.apply(  # type: ignore[no-untyped-call]
        branches,
        by,
        by.scales if by else None,
        by.shifts if by else None,
        *(term.values for term in (terms[:1] if shared else terms)),
        *(stage.depthwise.weight.contiguous() for stage in stages),
        *(stage.pointwise.weight.contiguous() for stage in stages),
    )
    count = values[0].numel() // values[0].shape[1]
    norms = [stage.norm for stage in stages]
    used = follow(norms, list(moments), [count] * len(norms))
    return [Term(*term) for term in zip(values, norms, used, strict=True)]
