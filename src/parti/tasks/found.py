"""What a reader found in a source, before it is decoded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidData
from parti.tasks.values import TEST, TRAIN, UNDECIDED, VAL, Pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Found", "Picture", "Pictures", "few", "split_code", "split_codes", "undecided"]

Picture: TypeAlias = "bytes | Path | Image.Image"
"""One encoded image: the bytes of a file, the path of one, or a Pillow image."""

SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}


class Pictures(Protocol):
    """Encoded images that can be gone through in order, any number of times."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[str, Picture]]:
        """Yield for each image the name that messages call it by, and the image."""
        ...


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found.

    Args:
        name: short name of the data set.
        origin: where it came from.
        pictures: encoded images, or an array (n, height, width, channels) of any number type.
        labels: (n,) of anything, not yet checked.
        given: (n,) codes of the splits that the source fixes.
        classes: names of the labels 0, 1, ... where the source has them.
        notes: what was done about oddities, one sentence each.
    """

    name: str
    origin: str
    pictures: Pixels | Pictures
    labels: npt.NDArray[Any]
    given: npt.NDArray[np.int8]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def undecided(n: int) -> npt.NDArray[np.int8]:
    """The codes of a source that fixes no split."""
    return np.full(n, UNDECIDED, np.int8)


def split_code(name: object) -> int | None:
    """The code of a split by any of its usual names, or None."""
    return SPLIT_NAMES.get(str(name).strip().lower())


def split_codes(names: Iterable[object], origin: str) -> npt.NDArray[np.int8]:
    """The code of every image from a column of split names.

    Raises:
        InvalidData: a name that is none of the usual ones.
    """
    codes = []
    for row, name in enumerate(names):
        code = split_code(name)
        if code is None:
            raise InvalidData(
                f"{origin}: row {row} belongs to a split {name!r}; the names allowed are "
                f"{sorted(SPLIT_NAMES)}. Correct the column, or leave it out"
            )
        codes.append(code)
    return np.array(codes, np.int8)


def few(names: Iterable[object], most: int = 5) -> str:
    """Write the first names of a list, and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
