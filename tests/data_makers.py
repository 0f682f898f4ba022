"""Small image data sets in every form that `read_images` understands."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parti.tasks.values import ImageData

CLASSES = ("cat", "dog", "fox")


def pixels(n: int = 12, height: int = 10, width: int = 10, channels: int = 3) -> np.ndarray:
    """Random images (n, height, width, channels) uint8, equal at every call."""
    return np.random.default_rng(7).integers(0, 256, (n, height, width, channels), np.uint8)


def labels(n: int = 12, classes: int = 3) -> np.ndarray:
    """Labels 0, 1, 2, 0, 1, ..."""
    return np.arange(n, dtype=np.int64) % classes


def encoded(image: np.ndarray, kind: str = "png", **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = BytesIO()
    squeezed = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    Image.fromarray(squeezed).save(stream, kind, **options)
    return stream.getvalue()


def class_folders(root: Path, per_class: int = 4, **shape: int) -> Path:
    """root/cat/0.png ...: the image of a class and number is equal at every call."""
    images = pixels(per_class * len(CLASSES), **shape)
    for i, image in enumerate(images):
        path = root / CLASSES[i % 3] / f"{i // 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    return root


def image_data(
    counts: tuple[int, ...] = (10, 10, 10), given: np.ndarray | None = None
) -> ImageData:
    """Random 4×4 grey images with so many of each class, in mixed order."""
    order = np.random.default_rng(3).permutation(np.repeat(np.arange(len(counts)), counts))
    n = len(order)
    return ImageData(
        name="made",
        origin="made/",
        images=pixels(n, 4, 4, 1),
        labels=order.astype(np.int64),
        classes=tuple(f"class{i}" for i in range(len(counts))),
        given=np.full(n, -1, np.int8) if given is None else given,
    )
