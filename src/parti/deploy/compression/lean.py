"""A network without what has no effect on its outputs: connections of zeros, branches nobody reads.

Members of a cell space often have such parts. They cost multiplications, tie channels together
that have nothing in common, and those that no output depends on cannot be followed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from parti.evaluators.modes import evaluating
from parti.networks.operations import Zero

__all__ = ["lean", "some_images"]


class Nothing(nn.Module):
    """Zero as a number that every sum broadcasts: takes no channels, needs no multiplication."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any images to zeros of shape (1, 1, 1, 1)."""
        return x.new_zeros((1, 1, 1, 1))


class Blank(nn.Module):
    """Zeros of a fixed size, where a convolution reads nothing else.

    Args:
        shape: (channels, height, width).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self._shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map any images to zeros of shape (1, channels, height, width)."""
        return x.new_zeros((1, *self._shape))


def lean(network: nn.Module, input_shape: Sequence[int]) -> nn.Module:
    """Replace connections of zeros, and branches that nobody reads, by constants.

    The outputs in evaluation mode stay what they are, to the last bit.

    Args:
        network: changed in place.
        input_shape: (channels, height, width).

    Returns:
        The same network.
    """
    images = some_images(input_shape)
    with evaluating(network):
        with torch.no_grad():
            right = network(images)
        for name, module in list(network.named_modules()):
            if isinstance(module, Zero):
                shape = _output_shape(network, module, images)
                _replace(network, name, (Nothing(), Blank(shape)), images, right)
        for name in _unread(network, images):
            _replace(network, name, (Nothing(),), images, right)
    return network


def some_images(input_shape: Sequence[int]) -> Tensor:
    """Four images of noise, always the same: [4, channels, height, width]."""
    return torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0))


def _replace(
    network: nn.Module, name: str, others: Sequence[nn.Module], images: Tensor, right: Tensor
) -> None:
    """Put the first of some modules in the place of one that leaves the outputs right, if any."""
    module = network.get_submodule(name)
    for other in others:
        network.set_submodule(name, other)
        try:
            with torch.no_grad():
                same = torch.equal(network(images), right)
        except (RuntimeError, ValueError, IndexError):  # who reads it needs its shape
            same = False
        if same:
            return
    network.set_submodule(name, module)


@torch.no_grad()
def _output_shape(network: nn.Module, module: nn.Module, images: Tensor) -> tuple[int, ...]:
    """(channels, height, width) of what a module gives; nothing when it is not called."""
    shapes: list[tuple[int, ...]] = []
    handle = module.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape[1:])))
    try:
        network(images)
    finally:
        handle.remove()
    return shapes[-1] if shapes else ()


def _unread(network: nn.Module, images: Tensor) -> list[str]:
    """Modules with weights that compute something of the images on which no output depends.

    Of modules within each other the outermost is named.
    """
    called, read = list[str](), set[str]()

    def watching(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, given: object, made: object) -> None:
            if isinstance(made, Tensor) and made.requires_grad:
                called.append(name)
                made.register_hook(lambda gradient: read.add(name))  # type: ignore[no-untyped-call]

        return hook

    handles = [
        module.register_forward_hook(watching(name))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters())
    ]
    try:
        seen = images.clone().requires_grad_()
        outputs = network(seen)
        if outputs.requires_grad:
            torch.autograd.grad(outputs.sum(), seen, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    unread = [name for name in dict.fromkeys(called) if name not in read]
    return [n for n in unread if not any(n.startswith(f"{other}.") for other in unread)]
