"""Finding the parts of any network: its weighted layers, norms, innermost modules and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

__all__ = ["blocks", "innermost", "weighted", "without_norms"]

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)


def weighted(network: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers by the full name of their weights.

    A weight that several layers share is named once. Layers whose weight is not a parameter of
    their own (parametrizations) are left out.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for name, module in network.named_modules():
        if not isinstance(module, _ConvNd | nn.Linear):
            continue
        weight = module._parameters.get("weight")
        if weight is not None and id(weight) not in seen:
            seen.add(id(weight))
            found[f"{name}.weight" if name else "weight"] = module
    return found


def innermost(network: nn.Module) -> list[nn.Module]:
    """The modules that hold no others."""
    return [module for module in network.modules() if not any(True for _ in module.children())]


def blocks(network: nn.Module) -> list[nn.Module]:
    """The parts that run one after the other: cells, residual blocks, stem and head.

    Sequences that hold more than single layers are opened, and so is the network itself.
    """
    return list(_opened(network, outermost=True))


def _opened(module: nn.Module, *, outermost: bool = False) -> Iterator[nn.Module]:
    children = list(module.children())
    deep = any(True for child in children for _ in child.children())
    if children and (
        outermost
        or isinstance(module, nn.ModuleList | nn.ModuleDict)
        or (isinstance(module, nn.Sequential) and deep)
    ):
        for child in children:
            yield from _opened(child)
    else:
        yield module


@contextmanager
def without_norms(network: nn.Module) -> Iterator[None]:
    """Within it, normalizations give what they are given."""
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    before = [module.__dict__.get("forward") for module in norms]
    try:
        for module in norms:
            module.__dict__["forward"] = _same
        yield
    finally:
        for module, forward in zip(norms, before, strict=True):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def _same(x: Tensor, *_: object) -> Tensor:
    return x
