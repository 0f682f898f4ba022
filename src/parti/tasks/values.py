"""The values of image classification: the whole data set, its splits, and who may see what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidData
from parti.tasks.storage import StoredArray, stored

__all__ = [
    "TEST",
    "TRAIN",
    "UNDECIDED",
    "VAL",
    "ImageData",
    "Indices",
    "Pixels",
    "SearchData",
    "Splits",
    "TestData",
]

Pixels = npt.NDArray[Any]
"""Images (n, height, width, channels), uint8 or float32."""
Indices = npt.NDArray[np.int64]

UNDECIDED, TRAIN, VAL, TEST = -1, 0, 1, 2
"""Codes of `ImageData.given`."""

HASHED_BYTES = 256 * 2**20
"""Up to here a fingerprint reads every pixel; of more it reads as much, evenly spread."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images, all of one size, as they were read.

    Args:
        name: short name of the data set.
        origin: where it came from: "digits", "photos/", ...
        images: (n, height, width, channels), uint8, or float32 when the source is float.
        labels: (n,) int64, from 0 to the number of classes less 1.
        classes: name of each class.
        given: (n,) int8: `TRAIN`, `VAL` or `TEST` where the source fixes the split, else
            `UNDECIDED`.
        notes: repairs that were made, one sentence each.

    Raises:
        InvalidData: the arrays do not fit together.
    """

    name: str
    origin: str
    images: Pixels
    labels: Indices
    classes: tuple[str, ...]
    given: npt.NDArray[np.int8]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            raise InvalidData(
                f"images are {self.images.dtype}{self.images.shape}; they must be uint8 or "
                "float32 (n, height, width, channels). read_images converts other arrays"
            )
        if self.labels.shape != (n,) or self.given.shape != (n,):
            raise InvalidData(
                f"{n} images with labels {self.labels.shape} and given splits "
                f"{self.given.shape}; each must have one entry for every image"
            )
        if n and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise InvalidData(
                f"labels go from {self.labels.min()} to {self.labels.max()}; with "
                f"{len(self.classes)} classes they must lie in 0..{len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.images.shape[2])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour; arrays may have any number."""
        return int(self.images.shape[3])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the content, equal in every process.

        Every pixel counts up to 256 MiB; of larger data, whole images spread evenly.
        """
        digest = blake2b(digest_size=8)
        digest.update(repr((self.images.shape, str(self.images.dtype), self.classes)).encode())
        digest.update(self.labels.tobytes())
        digest.update(self.given.tobytes())
        step = max(1, -(-self.images.nbytes // HASHED_BYTES))
        for start in range(0, len(self.images), 1024 * step):
            digest.update(self.images[start : start + 1024 * step : step].tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """Which images are for training, for validation and for the final test.

    Args:
        train: indices of the images that weights are fitted to, ascending.
        val: indices of those that architectures are compared on.
        test: indices of those that are looked at once, at the end.
        seed: of the random numbers that made the cut.
        how: one sentence on how it was made.
    """

    train: Indices
    val: Indices
    test: Indices
    seed: int
    how: str


def _unstored(kind: Callable[..., Any], values: tuple[object, ...]) -> Any:
    return kind(*(value.open() if isinstance(value, StoredArray) else value for value in values))


@dataclass(frozen=True, eq=False)
class SearchData:
    """What a search may see: the training and validation images, and nothing of the test.

    Pickling one whose images lie in a file passes the file's name, not its content.

    Args:
        train_images: (n, height, width, channels), uint8 or float32.
        train_labels: (n,) int64.
        val_images: as the training images.
        val_labels: (m,) int64.
        classes: name of each class.
        mean: of the raw pixel values of the training images, for each channel.
        std: their standard deviation, for each channel; 1 where it would be 0.
        value_range: smallest and largest pixel value that can occur: (0, 255) for uint8,
            what occurs in the training images for float32.
        name: of the data set.
    """

    train_images: Pixels
    train_labels: Indices
    val_images: Pixels
    val_labels: Indices
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_range: tuple[float, float]
    name: str

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train_images.shape[3])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.train_images.shape[1])

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.train_images.shape[2])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width): what a network is built for."""
        return self.channels, self.height, self.width

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unstored, (SearchData, tuple(stored(getattr(self, f.name)) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class TestData:
    """The test split: opened once, when a final model is reported.

    Args:
        images: (n, height, width, channels), uint8 or float32.
        labels: (n,) int64.
        classes: name of each class.
    """

    __test__ = False  # pytest would take it for a test case

    images: Pixels
    labels: Indices
    classes: tuple[str, ...]
