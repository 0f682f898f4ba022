"""Working on a network, in any way but on its parameters, without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["untouched"]


@contextmanager
def untouched(network: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Put a network in training mode; afterwards it and the random numbers are as before.

    Modes, buffers and gradient flags come back; gradients and parameters must not be changed
    within. Batch norms keep no running averages within, which nobody would read. Random numbers
    within follow from the seed.
    """
    modules = list(network.modules())
    modes = [(module, module.training) for module in modules]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    norms = [module for module in modules if isinstance(module, _BatchNorm)]
    tracking = [norm for norm in norms if norm.track_running_stats]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    state = random.getstate()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            if not all(training for _, training in modes):
                network.train()
            for norm in tracking:
                norm.track_running_stats = False
            yield
        finally:
            random.setstate(state)
            for module, training in modes:
                module.training = training
            for norm in tracking:
                norm.track_running_stats = True
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer.copy_(value)
