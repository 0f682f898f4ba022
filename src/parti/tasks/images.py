"""Reading labelled images: from files, folders, tables, arrays or Python, into one value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from parti.core.errors import InvalidData, InvalidSettings
from parti.core.plugins import did_you_mean
from parti.tasks.arrays import as_pixels, read_dataset, read_npy, read_npz, read_pair
from parti.tasks.decoding import decode, resize
from parti.tasks.folders import IMAGE_SUFFIXES, read_folder
from parti.tasks.found import Found, undecided
from parti.tasks.hub import is_hub_dataset, is_saved_dataset, read_hub
from parti.tasks.labels import number_labels
from parti.tasks.tables import read_parquet
from parti.tasks.values import ImageData, SearchData, Splits, TestData

__all__ = ["ImageData", "SearchData", "Splits", "TestData", "read_images"]

ALLOWED = (
    'allowed are "digits", a folder of images, an .npz, .npy or .parquet file, "hf:NAME", or from '
    "Python (images, labels), a torch Dataset or an ImageData"
)
SMALLEST, LARGEST = 4, 4096
ARRAYS = ("images.npy", "x.npy", "X.npy")
"""Images beside a file of labels, in a folder."""
PARQUET = (".parquet", ".pq")


def read_images(
    source: object,
    *,
    image_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
) -> ImageData:
    """Read labelled images from whatever holds them.

    Repairs that are safe are made and stated in the notes; anything else is refused.

    Args:
        source: "digits" (1,797 images that come with scikit-learn); the path of a folder, of an
            .npz or .npy file, or of a Parquet file; "hf:NAME"; or from Python a pair (images,
            labels) of arrays or tensors, a `torch.utils.data.Dataset` of such pairs, a Hugging
            Face data set, or an `ImageData`.
        image_size: height and width to resize all images to. By default images of one size keep
            it, up to 256 pixels a side, and images of mixed sizes become squares with the
            median of their sides, at most 224.
        image_column: of a table, the column of encoded images.
        label_column: of a table, the column of labels.
        cache: the folder for images that do not fit in memory; None for ~/.cache/parti.
        workers: threads that decode; None for one for each processor, at most 8.

    Returns:
        The images and their labels, with notes on every repair.

    Raises:
        InvalidData: the source is of no known kind, or cannot be used as it is.
        InvalidSettings: the image size is not a whole number from 4 to 4096, or a column is named
            where there are none.
    """
    if image_size is not None and not (
        isinstance(image_size, int) and SMALLEST <= image_size <= LARGEST
    ):
        raise InvalidSettings(
            f"image_size is {image_size!r}; it must be a whole number of pixels from {SMALLEST} "
            f"to {LARGEST}, or None to follow the images"
        )
    folder = Path(cache).expanduser() if cache is not None else None
    columns = {"image_column": image_column, "label_column": label_column}
    if (named := {k: v for k, v in columns.items() if v is not None}) and not _is_table(source):
        asked = " and ".join(
            f"{name}={column!r} (--{name.replace('_', '-')})" for name, column in named.items()
        )
        what = source if isinstance(source, str | Path) else f"a {type(source).__name__}"
        raise InvalidSettings(
            f"{asked}: {what} has no columns, only Parquet files and Hugging Face data sets have; "
            "leave it out"
        )
    if isinstance(source, ImageData):
        return _resized(source, image_size, folder)
    found = _find(source, image_column, label_column)
    if not len(found.labels) and not len(found.pictures):
        raise InvalidData(f"{found.origin} holds no images; {ALLOWED}")
    notes = list(found.notes)
    labels, classes, repairs = number_labels(
        found.labels, found.classes, len(found.pictures), found.origin
    )
    notes += repairs
    given = found.given
    if isinstance(found.pictures, np.ndarray):
        images, repairs = as_pixels(found.pictures, found.origin, folder)
        notes += repairs
    else:
        decoded = decode(
            found.pictures,
            origin=found.origin,
            image_size=image_size,
            cache=folder,
            workers=workers,
        )
        images = decoded.images
        given = given[decoded.kept]
        notes += decoded.notes
        labels, classes, repairs = number_labels(
            labels[decoded.kept], classes, len(decoded.kept), found.origin
        )
        notes += repairs
    if len(np.unique(given)) == 1:  # train alone, or test alone, is no split
        given = undecided(len(given))
    data = ImageData(found.name, found.origin, images, labels, classes, given, tuple(notes))
    return _resized(data, image_size, folder)


def _resized(data: ImageData, size: int | None, cache: Path | None) -> ImageData:
    if size is None or (data.height, data.width) == (size, size):
        return data
    note = f"Images of {data.width} × {data.height} pixels were resized to {size} × {size}."
    return replace(data, images=resize(data.images, size, cache), notes=(*data.notes, note))


def _is_table(source: object) -> bool:
    """Whether a source has columns; what is not there is for its reader to tell."""
    if isinstance(source, str) and source.startswith("hf:"):
        return True
    if not isinstance(source, str | Path):
        return is_hub_dataset(source)
    if source == "digits":
        return False
    path = Path(source).expanduser()
    if not path.is_dir():
        return not path.exists() or path.suffix.lower() in PARQUET
    arrays = any((path / name).is_file() for name in ARRAYS)
    return is_saved_dataset(path) or (not arrays and any(path.rglob("*.parquet")))


def _find(source: object, image_column: str | None, label_column: str | None) -> Found:
    """Choose the reader."""
    if isinstance(source, str) and source == "digits":
        return _digits()
    if isinstance(source, str) and source.startswith("hf:"):
        return read_hub(source, image_column, label_column)
    if isinstance(source, str | Path):
        return _find_path(Path(source).expanduser(), image_column, label_column)
    if is_hub_dataset(source):
        return read_hub(source, image_column, label_column)
    if isinstance(source, tuple | list):
        if len(source) != 2:
            raise InvalidData(f"{len(source)} values; a pair (images, labels) is needed; {ALLOWED}")
        return read_pair(*source)
    if isinstance(source, np.ndarray | dict | bytes) or hasattr(source, "detach"):
        raise InvalidData(f"a {type(source).__name__} has no labels beside it; {ALLOWED}")
    if hasattr(source, "__getitem__") or isinstance(source, Iterable):
        return read_dataset(source)
    raise InvalidData(f"a {type(source).__name__} is no source of images; {ALLOWED}")


def _find_path(path: Path, image_column: str | None, label_column: str | None) -> Found:
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, ["digits", *beside])
        raise InvalidData(f"{path} does not exist{hint}; {ALLOWED}")
    if path.is_dir():
        if is_saved_dataset(path):
            return read_hub(path, image_column, label_column)
        for name in ARRAYS:
            if (path / name).is_file():
                return read_npy(path / name)
        if any(path.rglob("*.parquet")):
            return read_parquet(path, image_column, label_column)
        return read_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".npy":
        return read_npy(path)
    if suffix in PARQUET:
        return read_parquet(path, image_column, label_column)
    if suffix in IMAGE_SUFFIXES:
        raise InvalidData(f"{path} is a single image; give the folder of the class folders")
    hint = "unpack it and give the folder" if suffix in (".zip", ".tar", ".gz", ".tgz") else ALLOWED
    raise InvalidData(f"{path} has the unknown suffix {suffix!r}; {hint}")


def _digits() -> Found:
    """Scikit-learn's handwritten digits; 16 grey levels above 0, spread over 0..255."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    return Found("digits", "digits", images, loaded.target, undecided(len(images)))
