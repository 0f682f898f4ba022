"""Other values for a network's parameters, for a while.

`torch.func.functional_call` does this too, but leaves its values in a module that a network
holds twice (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["replaced"]


@contextmanager
def replaced(
    network: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> Iterator[dict[str, nn.Parameter]]:
    """Within it, the network has these values instead of its own; shared ones stay shared.

    Args:
        network: whose parameters are replaced by others, not written to.
        parameters: new values by the names of `named_parameters`; others stay.
        buffers: new values by the names of `named_buffers`; others stay.

    Yields:
        The parameters that stand in, by name; the network's outputs depend on them.
    """
    inside = {name: nn.Parameter(value) for name, value in parameters.items()}
    swaps = {id(p): inside[name] for name, p in network.named_parameters() if name in inside}
    values = {id(b): buffers[name] for name, b in network.named_buffers() if name in buffers}
    before: list[tuple[nn.Module, str, nn.Parameter]] = []
    held: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for module in network.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None and id(parameter) in swaps:
                    before.append((module, name, parameter))
                    setattr(module, name, swaps[id(parameter)])
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and id(buffer) in values:
                    held.append((module, name, buffer))
                    module._buffers[name] = values[id(buffer)]
        yield inside
    finally:
        for module, name, parameter in before:
            setattr(module, name, parameter)
        for module, name, buffer in held:
            module._buffers[name] = buffer
