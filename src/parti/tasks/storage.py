"""Arrays that may be larger than memory: kept in a file when they do not fit."""

from __future__ import annotations

import os
import socket
import weakref
from dataclasses import dataclass
from itertools import count
from math import prod
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["StoredArray", "allocate", "available_memory", "default_cache", "stored"]

PREFIX = "images"
_numbers = count()


def default_cache() -> Path:
    """The folder for large files that can be made again: ~/.cache/parti."""
    return Path.home() / ".cache" / "parti"


def available_memory() -> int:
    """Bytes that can be allocated without swapping; 4 GiB where the system does not tell.

    The limit of a container (cgroup version 2) is respected.
    """
    free = 4 * 2**30
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        return free


def allocate(
    shape: tuple[int, ...], dtype: npt.DTypeLike, cache: Path | None = None
) -> npt.NDArray[Any]:
    """Make an array to be filled: in memory, or in a file when it needs over half of it.

    The file belongs to this process and is removed when the array is no longer used. What a
    killed process left behind is removed by the next one.

    Args:
        shape: of the array.
        dtype: of the array.
        cache: the folder for the file; None for `default_cache()`.

    Returns:
        An uninitialised array, or a memory map of that shape.
    """
    if prod(shape) * np.dtype(dtype).itemsize <= available_memory() // 2:
        return np.empty(shape, dtype)
    folder = cache or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    _remove_orphans(folder, host)
    path = folder / f"{PREFIX}.{host}.{os.getpid()}.{next(_numbers)}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    weakref.finalize(array, _remove, path, os.getpid())
    return array


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the process that made it
        path.unlink(missing_ok=True)


def _remove_orphans(folder: Path, host: str) -> None:
    for path in folder.glob(f"{PREFIX}.{host}.*.npy"):
        owner = path.name.split(".")[-3]
        if owner.isdigit() and not _alive(int(owner)):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists, and belongs to somebody else
        return True
    return True


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Stands for an array that lies in a file, where it is passed to another process."""

    path: str

    def open(self) -> npt.NDArray[Any]:
        """Map the file, for reading only."""
        return np.lib.format.open_memmap(self.path, mode="r")


def stored(value: object) -> object:
    """Return a `StoredArray` for a memory map of a whole file, anything else as it is."""
    owner: object = value.base if isinstance(value, np.memmap) else None
    if isinstance(value, np.memmap) and isinstance(owner, mmap):
        return StoredArray(str(value.filename))
    return value
