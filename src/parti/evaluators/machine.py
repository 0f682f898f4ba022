"""Where a network is trained, with what arithmetic, and kept apart from the rest of the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn

from parti.core.errors import InvalidSettings
from parti.evaluators.recipe import Recipe

__all__ = ["Machine", "arranged", "derive", "isolated", "machine_for", "place"]

LONG_RUN_STEPS = 20_000
"""From so many steps on, torch.compile is worth its first minute on a GPU."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and how to compute.

    Args:
        device: of the weights and the images.
        threads: of the CPU; None to leave them as they are.
        bfloat16: whether the forward pass runs under bfloat16 autocast.
        compile: whether the network is compiled.
    """

    device: torch.device
    threads: int | None = None
    bfloat16: bool = False
    compile: bool = False


def choose_device(device: str) -> torch.device:
    """Return the device of that name; "auto" is the GPU if there is one.

    Raises:
        InvalidSettings: there is no such device here.
    """
    found = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(found if device == "auto" else device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSettings(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            f"'auto' would be {found!r}"
        ) from error
    return chosen


def machine_for(
    recipe: Recipe, device: str = "auto", threads: int | None = None, steps: int = 0
) -> Machine:
    """Decide what the recipe leaves open.

    On a CPU "auto" means float32 without compilation: measured on a Xeon with avx512_bf16, small
    CNNs train 1.0 to 2.6 times slower under bfloat16 autocast, and compiling one takes
    30 to 80 seconds. The rules look at settings alone, never at the clock, so that the same job
    gives the same numbers.

    Args:
        recipe: its precision and compile are looked at.
        device: a name that torch knows, or "auto".
        threads: of the CPU, None to leave them.
        steps: of the whole schedule.

    Raises:
        InvalidSettings: there is no such device here, or no thread.
    """
    if threads is not None and threads < 1:
        raise InvalidSettings(f"threads={threads}, but at least 1 is needed; None leaves them")
    chosen = choose_device(device)
    gpu = chosen.type == "cuda"
    low = recipe.precision == "bfloat16"
    if recipe.precision == "auto":
        low = gpu and torch.cuda.is_bf16_supported()
    compiled = recipe.compile
    if compiled == "auto":
        compiled = gpu and steps >= LONG_RUN_STEPS
    return Machine(chosen, threads, low, bool(compiled))


def derive(seed: int, *what: object) -> int:
    """A seed for one purpose, from the seed of the trial: equal in every process."""
    digest = blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def isolated(machine: Machine, seed: int) -> Iterator[None]:
    """Compute with random numbers that follow from the seed, and leave no trace in the process.

    Random states, the number of threads and the precision of matrix products are afterwards
    what they were before.
    """
    devices = [machine.device] if machine.device.type == "cuda" else []
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    state = random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            if machine.threads is not None:
                torch.set_num_threads(machine.threads)
            if devices:
                torch.set_float32_matmul_precision("high")
            yield
        finally:
            random.setstate(state)
            if machine.threads is not None:
                torch.set_num_threads(threads)
            if devices:
                torch.set_float32_matmul_precision(precision)


def place(network: nn.Module, machine: Machine, sample: Tensor) -> torch.memory_format:
    """Move a network to the device, in the order of memory that suits it, and try it.

    Convolutions train 1.4 times faster channels-last on a CPU, and depthwise ones 2 to 3 times
    (measured); networks that call `view` on feature maps work in the default order only.

    Args:
        network: changed in place; its values stay.
        machine: where it goes.
        sample: [b, channels, height, width], a few images on that device.

    Returns:
        The order of memory that images must have, too.
    """
    network.to(machine.device)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            network(arranged(sample, torch.channels_last))
    except RuntimeError as error:
        if "view" not in str(error):
            raise
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return torch.contiguous_format
    finally:
        network.train(training)
    return torch.channels_last


def arranged(images: Tensor, layout: torch.memory_format) -> Tensor:
    """Images in an order of memory: the same tensor, or a copy."""
    if layout == torch.channels_last:
        return images.contiguous(memory_format=layout)
    # Images of one channel count as contiguous already, but convolutions look at their strides.
    return images.clone(memory_format=layout)
