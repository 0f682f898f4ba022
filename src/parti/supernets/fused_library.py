"""The kernels in `fused_kernels`, compiled for this machine when they are first wanted.

It takes some seconds, once: what was compiled is kept in ~/.cache/parti. Without g++, or with
PARTI_NATIVE=0 in the environment, there are none, and everything is left to torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from array import array
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

__all__ = [
    "STRIDES",
    "SWITCH",
    "addresses",
    "call",
    "library",
    "packed",
    "row_addresses",
    "sizes",
    "suits",
    "table",
]

SWITCH = "PARTI_NATIVE"
"""Environment variable that turns compiled kernels off when it is 0."""

STRIDES = (1, 2)
"""Those that there are kernels for."""

LANES = 4
"""The channels of a vector, at least."""

SOURCES = ("depthwise.cpp", "depthwise.h", "images.h", "mixing.cpp", "pooling.cpp", "separable.cpp")

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-march=native",
)
WIDEST = "-mprefer-vector-width=512"
"""For x86, where compilers otherwise keep to half a vector."""


@cache
def library() -> ctypes.CDLL | None:
    """Load the kernels, compiled before if need be; None where that is not possible."""
    compiler = shutil.which("g++")
    if os.environ.get(SWITCH) == "0" or compiler is None or platform.system() != "Linux":
        return None
    folder = files("parti.supernets").joinpath("fused_kernels")
    sources = {file.name: file.read_text() for file in folder.iterdir() if file.name in SOURCES}
    flags = (*FLAGS, WIDEST) if platform.machine() == "x86_64" else FLAGS
    key = hashlib.sha256(repr((sorted(sources.items()), flags, _machine())).encode()).hexdigest()
    compiled = Path.home() / ".cache" / "parti" / f"kernels-{key[:16]}.so"
    try:
        if not compiled.exists():
            _compile(compiler, sources, flags, compiled)
        return ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError):
        return None


def suits(x: Tensor) -> bool:
    """Whether images can be handled here.

    Args:
        x: (batch, channels, h, w).
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and library() is not None
    )


def packed(x: Tensor) -> Tensor:
    """The same images, the channels of a pixel next to each other."""
    return x.contiguous(memory_format=torch.channels_last)


def call(kernel: str, *arguments: array[int] | int) -> None:
    """Run a kernel.

    Args:
        kernel: name of its function, without the prefix.
        arguments: numbers, addresses among them; tables, which are passed by their addresses.
    """
    loaded = library()
    assert loaded is not None
    getattr(loaded, f"parti_{kernel}")(
        *(
            c_int64(argument) if isinstance(argument, int) else c_void_p(argument.buffer_info()[0])
            for argument in arguments
        )
    )


def table(columns: Sequence[Sequence[int]]) -> array[int]:
    """Rows of 64-bit integers, as the structs of the kernels have them."""
    return array("q", [number for row in zip(*columns, strict=True) for number in row])


def sizes(x: Tensor, stride: int) -> array[int]:
    """What kernels know of images (batch, channels, h, w), and of a stride."""
    n, c, h, w = x.shape
    return array("q", [n, h, w, c, stride])


def addresses(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Where tensors begin in memory."""
    return tuple(tensor.data_ptr() for tensor in tensors)


def row_addresses(rows: Tensor) -> tuple[int, ...]:
    """Where the rows of a tensor begin in memory; the numbers of a row are next to each other."""
    start, step = rows.data_ptr(), rows.stride(0) * rows.element_size()
    return tuple(start + row * step for row in range(len(rows)))


def _machine() -> str:
    """What compiled code depends on, for home folders that several machines share."""
    known = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    lines = [line for line in known if line.startswith(("flags", "Features", "model name"))]
    return "\n".join([platform.machine(), *lines])


def _compile(compiler: str, sources: dict[str, str], flags: tuple[str, ...], to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as place:
        for name, text in sources.items():
            (Path(place) / name).write_text(text)
        units = [name for name in sources if name.endswith(".cpp")]
        objects = [name.replace(".cpp", ".o") for name in units]
        # Linked without OpenMP's library: torch has loaded one, whose threads are to be used.
        for command in ([*flags, "-c", *units], ["-shared", *objects, "-o", "whole.so"]):
            subprocess.run(  # noqa: S603 - no shell, nothing from outside
                [compiler, *command], cwd=place, check=True, capture_output=True, timeout=300
            )
        (Path(place) / "whole.so").replace(to)
