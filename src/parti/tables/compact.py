"""Official files, read once and kept compactly in the cache: columns and texts as one .npz."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidData
from parti.tables.places import cache_folder

__all__ = ["Arrays", "kept"]

Arrays = Mapping[str, NDArray[Any]]
"""Numbers and texts, one value per architecture."""


def kept(name: str, read: Callable[[], Arrays]) -> Arrays:
    """Return what is kept under a name; when nothing is, read it, and keep it.

    Args:
        name: of the official file and its version; what is kept under it never changes.
        read: reads the official file, which may take minutes.

    Raises:
        InvalidData: what is kept is damaged, or whatever `read` raises.
    """
    file = cache_folder() / "compact" / f"{name}.npz"
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        except (OSError, ValueError, EOFError) as error:
            raise InvalidData(f"{file} is damaged ({error}); delete it") from error
    arrays = read()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{name}.{os.getpid()}.part.npz")
    np.savez_compressed(part, allow_pickle=False, **arrays)
    part.replace(file)
    return arrays
