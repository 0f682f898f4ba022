"""Readers of arrays: .npz and .npy files, and arrays, tensors or data sets from Python."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidData
from parti.tasks.found import Found, few, split_code, undecided
from parti.tasks.storage import allocate
from parti.tasks.values import UNDECIDED, Pixels

__all__ = ["as_pixels", "read_dataset", "read_npy", "read_npz", "read_pair", "to_array"]

IMAGE_KEYS = frozenset({"x", "image", "images", "img", "imgs", "data", "input", "inputs", "pixels"})
LABEL_KEYS = frozenset({"y", "label", "labels", "target", "targets", "class", "classes"})
CHECKED_AT_ONCE = 1024


def read_npz(path: Path) -> Found:
    """Find images and labels in an .npz file by the usual keys.

    Keys may be x and y, images and labels, x_train and y_train, train_images and train_labels
    (MedMNIST), and the same for val and test.

    Raises:
        InvalidData: it is no .npz file, or the keys do not pair up.
    """
    arrays = _load(path)
    pairs: dict[int, dict[str, str]] = {}
    for key in arrays:
        tokens = [token for token in re.split(r"[_\-. ]+", key.lower()) if token]
        codes = [code for token in tokens if (code := split_code(token)) is not None]
        roles = {
            "images" if token in IMAGE_KEYS else "labels"
            for token in tokens
            if token in IMAGE_KEYS | LABEL_KEYS
        }
        if len(roles) == 1 and len(codes) <= 1 and arrays[key].ndim:
            pairs.setdefault(codes[0] if codes else UNDECIDED, {})[roles.pop()] = key
    broken = [pair for pair in pairs.values() if len(pair) < 2]
    if not pairs or broken:
        shapes = {key: arrays[key].shape for key in arrays}
        raise InvalidData(
            f"{path}: no pairs of images and labels in {shapes}; allowed keys are x and y, images "
            "and labels, also with train, val, test as in x_train and y_train"
        )
    images = [arrays[pair["images"]] for pair in pairs.values()]
    labels = [_column(arrays[pair["labels"]]) for pair in pairs.values()]
    for pixels, targets, pair in zip(images, labels, pairs.values(), strict=True):
        if len(pixels) != len(targets):
            raise InvalidData(
                f"{path}: {len(pixels)} images in {pair['images']!r} with {len(targets)} labels in "
                f"{pair['labels']!r}; each image needs exactly one label"
            )
    if len({pixels.shape[1:] for pixels in images}) > 1:
        raise InvalidData(
            f"{path}: the splits hold images of different sizes, "
            f"{[pixels.shape[1:] for pixels in images]}; make them equal"
        )
    given = np.repeat(np.array(list(pairs), np.int8), [len(pixels) for pixels in images])
    return Found(
        name=path.stem,
        origin=str(path),
        pictures=images[0] if len(images) == 1 else np.concatenate(images),
        labels=np.concatenate(labels),
        given=given,
    )


def read_npy(path: Path) -> Found:
    """Find images in an .npy file and labels in the one beside it.

    X.npy goes with X_labels.npy, images.npy (or x.npy) with labels.npy (or y.npy).

    Raises:
        InvalidData: there is no file of labels, or one of them cannot be read.
    """
    candidates = [path.with_name(f"{path.stem}_labels.npy")]
    if path.stem.lower() in IMAGE_KEYS:
        candidates += [
            path.with_name(f"{name}.npy") for name in ("labels", "y", "label", "targets")
        ]
    labels = next((other for other in candidates if other.is_file()), None)
    if labels is None:
        raise InvalidData(
            f"{path} needs its labels in a file beside it; none of these exist: "
            f"{few([other.name for other in candidates])}"
        )
    found = read_pair(_load(path), _load(labels), f"{path} and {labels.name}")
    return replace(found, name=path.stem, origin=str(path))


def read_pair(images: object, labels: object, origin: str = "arrays") -> Found:
    """Take images and labels from Python: arrays, tensors, or lists of them.

    Raises:
        InvalidData: they are not arrays of numbers.
    """
    pixels = to_array(images, origin)
    return Found("arrays", origin, pixels, to_array(labels, origin), undecided(len(pixels)))


def read_dataset(dataset: Any) -> Found:
    """Take the (image, label) pairs that a `torch.utils.data.Dataset` gives.

    Images may be Pillow images (of any sizes), arrays or tensors (of one shape).

    Args:
        dataset: anything with `__getitem__` and `__len__`, or an iterable of pairs.

    Raises:
        InvalidData: it gives something else than pairs, or images of different shapes.
    """
    from PIL import Image

    origin = type(dataset).__name__
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    items: Iterable[Any] = (dataset[i] for i in range(len(dataset))) if sized else dataset
    images: list[Any] = []
    labels: list[Any] = []
    for place, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidData(
                f"{origin}[{place}] is a {type(item).__name__}; a data set must give pairs "
                "(image, label)"
            )
        image = item[0]
        images.append(image if isinstance(image, Image.Image) else to_array(image, origin))
        labels.append(item[1].item() if hasattr(item[1], "item") else item[1])
    names = getattr(dataset, "classes", None)
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    classes = tuple(names) if names is not None and listed else None
    given = undecided(len(images))
    targets = to_array(labels, origin)
    if images and all(isinstance(image, Image.Image) for image in images):
        pictures = list(zip((f"{origin}[{i}]" for i in count()), images, strict=False))
        return Found(origin, origin, pictures, targets, given, classes)
    shapes = {np.shape(image) for image in images}
    if len(shapes) > 1:
        raise InvalidData(
            f"{origin}: images have different shapes, {few(sorted(shapes, key=str))}; give arrays "
            "of one shape, or Pillow images, which are resized"
        )
    pixels = np.stack(images) if images else np.empty((0, 1, 1))
    return Found(origin, origin, pixels, targets, given, classes)


def to_array(value: object, origin: str) -> npt.NDArray[Any]:
    """Make an array of an array, a tensor on any device, or a (nested) list.

    Raises:
        InvalidData: the parts do not fit into one array.
    """
    tensor: Any = value
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        value = tensor.float().numpy() if "bfloat16" in str(tensor.dtype) else tensor.numpy()
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple) and value and hasattr(value[0], "detach"):
        value = [to_array(part, origin) for part in value]
    try:
        mixed = isinstance(value, list | tuple) and len({type(part) for part in value}) > 1
        return np.array(value, object) if mixed else np.asarray(value)
    except ValueError as error:
        raise InvalidData(
            f"{origin}: the parts are of different shapes; make them equal"
        ) from error


def as_pixels(
    raw: npt.NDArray[Any], origin: str, cache: Path | None = None
) -> tuple[Pixels, tuple[str, ...]]:
    """Bring an array of images to (n, height, width, channels), uint8 or float32.

    Args:
        raw: (n, height, width), (n, height, width, channels) or (n, channels, height, width),
            of any number type.
        origin: what to call it in messages.
        cache: the folder for images that do not fit in memory.

    Returns:
        The images, and notes on how the array was understood.

    Raises:
        InvalidData: another shape or type, or NaN or infinite pixels.
    """
    if raw.dtype.kind not in "biuf" or raw.ndim not in (3, 4) or 0 in raw.shape[1:]:
        raise InvalidData(
            f"{origin}: images are {raw.dtype}{raw.shape}; allowed are numbers of shape (n, "
            "height, width), (n, height, width, channels) or (n, channels, height, width). "
            "Reshape flat rows"
        )
    notes: list[str] = []
    pixels: Pixels = raw[..., None] if raw.ndim == 3 else raw
    if raw.ndim == 4 and _channels_first(raw.shape):
        pixels = raw.transpose(0, 2, 3, 1)
        notes.append(f"Images of shape {raw.shape} were read as (n, channels, height, width).")
    elif raw.ndim == 4 and raw.shape[1] <= 4:
        notes.append(f"Images of shape {raw.shape} were read as (n, height, width, channels).")
    if raw.dtype.kind == "f":
        _refuse_nonfinite(pixels, origin)
        return (pixels if raw.dtype == np.float32 else _cast(pixels, np.float32, cache)), tuple(
            notes
        )
    if raw.dtype == np.uint8:
        return pixels, tuple(notes)
    if raw.dtype == np.bool_:
        notes.append("Pixels were true and false: they became 255 and 0.")
        return _cast(pixels, np.uint8, cache) * np.uint8(255), tuple(notes)
    if not len(raw) or (raw.min() >= 0 and raw.max() <= 255):
        return _cast(pixels, np.uint8, cache), tuple(notes)
    notes.append(f"Pixels from {raw.min()} to {raw.max()} ({raw.dtype}) are kept as float32.")
    return _cast(pixels, np.float32, cache), tuple(notes)


def _channels_first(shape: tuple[int, ...]) -> bool:
    _, first, _, last = shape
    usual = (1, 3, 4)
    if (first in usual) != (last in usual):
        return first in usual
    return last not in usual and first < last


def _refuse_nonfinite(pixels: Pixels, origin: str) -> None:
    broken: list[int] = []
    for start in range(0, len(pixels), CHECKED_AT_ONCE):
        fine = np.isfinite(pixels[start : start + CHECKED_AT_ONCE]).all(axis=(1, 2, 3))
        broken += (start + np.flatnonzero(~fine)).tolist()
    if broken:
        raise InvalidData(
            f"{origin}: {len(broken)} of {len(pixels)} images hold NaN or infinite pixels (images "
            f"{few(broken)}); replace the values, or leave these images out"
        )


def _cast(pixels: Pixels, dtype: type[Any], cache: Path | None) -> Pixels:
    cast = allocate(pixels.shape, dtype, cache)
    for start in range(0, len(pixels), CHECKED_AT_ONCE):
        cast[start : start + CHECKED_AT_ONCE] = pixels[start : start + CHECKED_AT_ONCE]
    return cast


def _column(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _load(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r")
        with path.open("rb") as opened, np.load(opened) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidData(
            f"{path} cannot be read as NumPy arrays ({error}); allowed are plain arrays of numbers "
            "or text, as numpy.save and numpy.savez write them (no Python objects)"
        ) from error
