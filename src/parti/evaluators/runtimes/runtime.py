"""What a runtime is: it makes of a network what it runs, and opens that for calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from parti.core.errors import InvalidSettings

__all__ = ["PRECISIONS", "Call", "Precision", "Prepared", "Runtime", "Setting", "cpu_has_bfloat16"]

Precision = Literal["float32", "bfloat16", "int8"]

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
"""float32 and bfloat16 are ways to run a network; int8 is a property of a quantized file."""

Call = Callable[[], Any]
"""One call of an opened model on the images it was opened with."""

Prepared = nn.Module | Path
"""What a runtime opens: a network, or a file."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is run.

    Args:
        batch: images per call.
        threads: CPU threads of the runtime.
        precision: what it computes with.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    batch: int = 1
    threads: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise InvalidSettings(f"{name} {value!r} must be a whole number, at least 1")


class Runtime(Protocol):
    """What runs networks; built without arguments. Third parties pass "package.module:Name"."""

    package: str
    """The package that must be installed; also the name of parti's extra for it."""
    library: str
    """The module that loads it, which is not counted as memory of a model."""
    suffixes: tuple[str, ...]
    """Of the files that it opens."""
    devices: tuple[str, ...]
    """Kinds of devices that it can be measured on."""

    def lacks(self, precision: str, device: str) -> str:
        """Why it does not compute with that precision here; "" when it does."""
        ...

    def describe(self, setting: Setting) -> str:
        """Name, version and mode, in a few words, for the conditions of a measurement."""
        ...

    def prepare(
        self, network: nn.Module, input_shape: Sequence[int], setting: Setting, folder: Path
    ) -> Prepared:
        """Make of a network what `open` takes, perhaps a file in the folder.

        Raises:
            TrialError: it cannot be made.
        """
        ...

    def open(
        self, prepared: Prepared, images: NDArray[np.float32], setting: Setting
    ) -> AbstractContextManager[Call]:
        """Load the model; inside the context, it can be called on the images.

        Args:
            prepared: what `prepare` returned, or a file from elsewhere.
            images: [batch, channels, height, width].
            setting: how it is run.
        """
        ...


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself (AVX-512 BF16, AMX, Armv8.6)."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    words = set(cpuinfo.read_text(errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
