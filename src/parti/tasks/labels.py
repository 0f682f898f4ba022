"""Labels of any kind become class numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidData
from parti.tasks.found import few
from parti.tasks.values import Indices

__all__ = ["number_labels"]


def number_labels(
    raw: npt.NDArray[Any], names: Sequence[str] | None, n: int, origin: str
) -> tuple[Indices, tuple[str, ...], tuple[str, ...]]:
    """Number the classes from 0.

    Text is sorted by name, numbers (also written as text) by value.

    Args:
        raw: a label for each image: (n,) or (n, 1) of text, integers or whole floats, or
            (n, classes) with a single 1 in each row.
        names: of the labels 0, 1, ... where the source has them.
        n: number of images.
        origin: what to call the source in messages.

    Returns:
        The labels (n,) int64, the names of the classes, and notes on what was repaired.

    Raises:
        InvalidData: missing labels, a wrong count, numbers that are not whole, no or one class.
    """
    notes: list[str] = []
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if len(raw) != n:
        raise InvalidData(
            f"{origin}: {n} images with {len(raw)} labels; each image needs exactly one label"
        )
    if raw.ndim == 2:
        raw = _from_one_hot(raw, origin)
        notes.append("Labels were given as one column for each class (one-hot).")
    if raw.ndim != 1:
        raise InvalidData(f"{origin}: labels have shape {raw.shape}; allowed are (n,) and (n, 1)")
    _refuse_missing(raw, origin)
    values = _plain(raw, origin)
    if names is not None and values.dtype.kind == "i":
        labels, classes = _named(values, names, origin, notes)
    else:
        labels, classes = _sorted(values)
    if len(classes) < 2:
        raise InvalidData(
            f"{origin}: {'no class' if not classes else f'one class only, {classes[0]!r}'}; "
            "classification needs at least two. Check the folders or the label column"
        )
    return labels, classes, tuple(notes)


def _from_one_hot(raw: npt.NDArray[Any], origin: str) -> npt.NDArray[Any]:
    if raw.dtype.kind not in "biuf" or not np.isin(raw, (0, 1)).all() or (raw.sum(1) != 1).any():
        raise InvalidData(
            f"{origin}: labels have shape {raw.shape} and some rows do not hold exactly one 1; "
            "an image can have only one class (several labels for one image are not supported)"
        )
    return np.asarray(raw.argmax(1))


def _refuse_missing(raw: npt.NDArray[Any], origin: str) -> None:
    if raw.dtype.kind == "f":
        missing = ~np.isfinite(raw)
    elif raw.dtype.kind == "O":
        missing = np.array([x is None or x != x or x == "" for x in raw.tolist()], bool)
    else:
        empty = {"U": "", "S": b""}.get(raw.dtype.kind)
        missing = np.zeros(len(raw), bool) if empty is None else raw == empty
    if missing.any():
        raise InvalidData(
            f"{origin}: {int(missing.sum())} of {len(raw)} labels are missing or NaN (rows "
            f"{few(np.flatnonzero(missing))}); every image needs a label. Fill them in, or "
            "leave these rows out"
        )


def _plain(raw: npt.NDArray[Any], origin: str) -> npt.NDArray[Any]:
    """As int64 or as text."""
    if raw.dtype.kind == "O":
        kinds = {type(value) for value in raw.tolist()}
        if kinds <= {str}:
            return raw.astype(str)
        if not all(issubclass(kind, int | float | np.number) for kind in kinds):
            raise InvalidData(
                f"{origin}: labels are of the types {sorted(kind.__name__ for kind in kinds)}; "
                "they must be all text or all whole numbers"
            )
        raw = raw.astype(np.float64)
    if raw.dtype.kind == "f":
        broken = raw != np.rint(raw)
        if broken.any():
            raise InvalidData(
                f"{origin}: labels such as {raw[broken][0]:g} are not whole numbers; classes are "
                "text or whole numbers. For classes of a measured value, cut it into ranges first"
            )
    if raw.dtype.kind in "biuf":
        return raw.astype(np.int64)
    if raw.dtype.kind in "US":
        return raw.astype(str)
    raise InvalidData(f"{origin}: labels are {raw.dtype}; they must be text or whole numbers")


def _named(
    values: Indices, names: Sequence[str], origin: str, notes: list[str]
) -> tuple[Indices, tuple[str, ...]]:
    if len(values) and not 0 <= values.min() <= values.max() < len(names):
        raise InvalidData(
            f"{origin}: labels go from {values.min()} to {values.max()}, and the source names "
            f"{len(names)} classes, 0 to {len(names) - 1}. A label of -1 often marks an image "
            "without a label: leave these out"
        )
    used, labels = np.unique(values, return_inverse=True)
    absent = [name for number, name in enumerate(names) if number not in used]
    if absent:
        notes.append(f"Classes without images were left out: {few(absent)}.")
    return labels.astype(np.int64), tuple(str(names[number]) for number in used)


def _sorted(values: npt.NDArray[Any]) -> tuple[Indices, tuple[str, ...]]:
    found, labels = np.unique(values, return_inverse=True)
    classes = [str(value) for value in found]
    if values.dtype.kind != "i" and all(name.isdecimal() for name in classes):
        order = sorted(range(len(classes)), key=lambda place: (int(classes[place]), classes[place]))
        labels = np.argsort(order)[labels]
        classes = [classes[place] for place in order]
    return labels.astype(np.int64), tuple(classes)
