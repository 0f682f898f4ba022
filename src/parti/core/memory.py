"""What a process keeps of the memory that was freed in it."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The parameters of glibc's `mallopt` (malloc.h)."""

KEPT, LARGEST = 2**31 - 1, 32 * 2**20
"""How much is kept, in bytes, and of blocks up to which size: the most that glibc takes."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for what it asks for next.

    By default glibc gives large blocks back at once. The next tensor of that size then has its
    pages filled with zeros by the kernel, which is a tenth to a sixth of the time of a training
    step on a CPU (`benchmarks.bench_step`). Only for processes that are parti's own: its commands
    and workers. What the process holds stays about what it held at most.

    Returns:
        Whether that was possible: on Linux with glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST) and libc.mallopt(TRIM_THRESHOLD, KEPT))
