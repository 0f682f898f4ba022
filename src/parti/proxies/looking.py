"""The one forward and backward pass that proxies share: only what is needed is observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from parti.core.errors import TrialError
from parti.proxies.layers import blocks, innermost, weighted
from parti.proxies.probe import NOTHING, Block, Layer, Need, Probe
from parti.proxies.watching import Watch

__all__ = ["answer", "look"]

LOSS_GRADIENTS = frozenset({Need.WEIGHT_GRADIENT, Need.OUTPUT_GRADIENT, Need.CURVATURE})
GRADIENTS = LOSS_GRADIENTS | {Need.INPUT_GRADIENT, Need.BLOCKS}


@dataclass(slots=True)
class _Heard:
    """What hooks heard during the forward pass."""

    outputs: dict[nn.Module, list[Tensor]] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)


def answer(network: nn.Module, images: Tensor) -> Tensor:
    """What the network gives for the images; of several things, the first.

    Raises:
        TrialError: that is no tensor with a row for each image.
    """
    return _first(network(images), images)


def _first(out: Any, images: Tensor) -> Tensor:
    if isinstance(out, tuple | list) and out:
        out = out[0]
    if not isinstance(out, Tensor) or out.ndim < 1 or len(out) != len(images):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise TrialError(
            f"the network turns inputs of shape {tuple(images.shape)} into {got}; proxies need a "
            "tensor with a row for each image, alone or first of a tuple"
        )
    return out


def look(probe: Probe, needs: frozenset[Need]) -> Probe:
    """Return the probe with what is needed filled in; without needs nothing is computed.

    Raises:
        TrialError: the network's outputs are not understood.
    """
    layers: list[nn.Module] = []
    if needs & (LOSS_GRADIENTS | {Need.WEIGHTS}):
        layers = list(weighted(probe.network).values())
    weights = [layer.get_parameter("weight") for layer in layers]
    seen = replace(probe, layers=tuple(Layer(weight.detach()) for weight in weights))
    if not needs - {Need.WEIGHTS}:
        return seen
    for parameter in probe.network.parameters():
        parameter.requires_grad_(False)
    if needs & LOSS_GRADIENTS:
        for weight in weights:
            weight.requires_grad_(True)
    images = probe.images.detach()
    if needs <= {Need.MACS, Need.WEIGHTS}:
        images = images[:2]
    if needs & {Need.INPUT_GRADIENT, Need.BLOCKS}:
        if not images.is_floating_point():
            raise TrialError(
                f"inputs of type {images.dtype} have no gradient; leave out the proxies that "
                "need it (jacov, epe_nas, az_trainability)"
            )
        images = images.clone(memory_format=torch.preserve_format).requires_grad_(True)
    heard = _Heard()
    watch = Watch(gates=Need.GATES in needs, macs=Need.MACS in needs)
    with torch.set_grad_enabled(bool(needs & GRADIENTS)):
        with _listening(probe.network, layers, needs, heard):
            if needs & {Need.GATES, Need.MACS}:
                with watch:
                    given = probe.network(images)
            else:
                given = probe.network(images)
        out = _first(given, images)
        seen = replace(
            seen,
            classes=out[0].numel(),
            gates=tuple(watch.gates),
            macs=_macs(probe.network, images, watch, given) if Need.MACS in needs else 0,
            maps=tuple(heard.maps),
        )
        if Need.INPUT_GRADIENT in needs:
            seen = replace(seen, input_gradient=_input_gradient(out, images, needs))
        if Need.BLOCKS in needs:
            seen = replace(seen, blocks=_blocks(heard.blocks, probe.seed))
        if needs & LOSS_GRADIENTS:
            seen = replace(seen, layers=_layers(seen, layers, out, heard, needs))
    return seen


@contextmanager
def _listening(
    network: nn.Module, layers: Sequence[nn.Module], needs: frozenset[Need], heard: _Heard
) -> Iterator[None]:
    hooks: list[Any] = []

    def listen(modules: Sequence[nn.Module], hook: Callable[[nn.Module, Any, Any], None]) -> None:
        hooks.extend(module.register_forward_hook(hook) for module in modules)

    def keep_output(module: nn.Module, _: Any, out: Tensor) -> None:
        heard.outputs.setdefault(module, []).append(out)

    def keep_map(module: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.ndim >= 3:
            heard.maps.append(out[0].detach().flatten(1).clone())

    def keep_block(module: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.ndim in (3, 4) and out.requires_grad:
            heard.blocks.append(out)

    try:
        if Need.OUTPUT_GRADIENT in needs:
            listen(layers, keep_output)
        if Need.MAPS in needs:
            listen(innermost(network), keep_map)
        if Need.BLOCKS in needs:
            listen(blocks(network), keep_block)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _macs(network: nn.Module, images: Tensor, watch: Watch, given: Any) -> int:
    """Multiply-accumulates of one image, without the auxiliary heads that only training has."""
    if not isinstance(given, Tensor):
        watch = Watch(gates=False, macs=True)
        network.eval()
        with torch.no_grad(), watch:
            network(images)
        network.train()
    return watch.macs // len(images)


def _input_gradient(out: Tensor, images: Tensor, needs: frozenset[Need]) -> Tensor:
    more = bool(needs & (LOSS_GRADIENTS | {Need.BLOCKS}))
    if not out.requires_grad:
        return torch.zeros_like(images).flatten(1)
    (found,) = torch.autograd.grad(
        out.sum(), images, retain_graph=more, allow_unused=True, materialize_grads=True
    )
    return found.flatten(1)


def _blocks(features: Sequence[Tensor], seed: int) -> tuple[Block, ...]:
    generator = torch.Generator().manual_seed(seed)
    found = [Block(features[0].detach())] if features else []
    for before, after in pairwise(features):
        signal = torch.randint(0, 2, after.shape, generator=generator).mul_(2).sub_(1)
        signal = signal.to(after)
        (returned,) = torch.autograd.grad(
            after, before, signal, retain_graph=True, allow_unused=True
        )
        found.append(Block(after.detach(), signal, returned))
    return tuple(found)


def _layers(
    seen: Probe, modules: list[nn.Module], out: Tensor, heard: _Heard, needs: frozenset[Need]
) -> tuple[Layer, ...]:
    """The layers with the gradients of the loss, all from one pass back."""
    weights = [module.get_parameter("weight") for module in modules]
    outputs = [heard.outputs.get(module, []) for module in modules]
    flat = [tensor for tensors in outputs for tensor in tensors]
    curved = Need.CURVATURE in needs
    loss = seen.loss(out, seen.labels)
    # GraSP's gradient and Fisher's come from the same pass; only the former needs a graph.
    gradients = torch.autograd.grad(
        loss, [*weights, *flat], create_graph=curved, allow_unused=True, materialize_grads=True
    )
    of_weights, of_outputs = gradients[: len(weights)], iter(gradients[len(weights) :])
    curvatures: Sequence[Tensor] = [NOTHING] * len(weights)
    if curved:
        product = torch.stack([(g.detach() * g).sum() for g in of_weights]).sum()
        curvatures = torch.autograd.grad(
            product, weights, allow_unused=True, materialize_grads=True
        )
    return tuple(
        Layer(
            weight=weight.detach(),
            gradient=gradient.detach(),
            curvature=curvature,
            outputs=tuple(tensor.detach() for tensor in tensors),
            output_gradients=tuple(next(of_outputs).detach() for _ in tensors),
            channel=-1 if isinstance(module, nn.Linear) else 1,
        )
        for module, weight, gradient, curvature, tensors in zip(
            modules, weights, of_weights, curvatures, outputs, strict=True
        )
    )
