"""Reader of Hugging Face data sets: by name, saved on disk, or from Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parti.core.errors import InvalidData
from parti.tasks.found import Found, Picture, few, split_code
from parti.tasks.tables import IMAGE_NAMES, LABEL_NAMES, pick_column
from parti.tasks.values import UNDECIDED

__all__ = ["is_hub_dataset", "is_saved_dataset", "read_hub"]

ROWS_AT_ONCE = 1024


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def is_hub_dataset(value: object) -> bool:
    """Whether a value is a `datasets.Dataset` or `DatasetDict` (told without importing it)."""
    return type(value).__module__.partition(".")[0] == "datasets"


def read_hub(
    source: Any, image_column: str | None = None, label_column: str | None = None
) -> Found:
    """Find the images of a Hugging Face data set.

    Args:
        source: "hf:NAME" or "hf:NAME:CONFIGURATION", a folder that `save_to_disk` wrote, or a
            `datasets.Dataset` or `DatasetDict`.
        image_column: the column of images.
        label_column: the column of labels.

    Raises:
        InvalidData: the package `datasets` is missing, the data set cannot be loaded, or a
            column cannot be told.
    """
    origin = str(source) if isinstance(source, str | Path) else type(source).__name__
    try:
        import datasets
    except ImportError as error:
        raise InvalidData(
            f"{origin}: Hugging Face data sets need the package datasets; pip install parti[hf]"
        ) from error
    try:
        if isinstance(source, Path):
            source = datasets.load_from_disk(str(source))
        elif isinstance(source, str):
            source = datasets.load_dataset(*source.removeprefix("hf:").split(":", 1))
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidData(
            f"{origin} cannot be loaded ({error}); check the name and the connection, or give a "
            "folder that save_to_disk wrote"
        ) from error
    parts: dict[str, Any] = dict(source) if isinstance(source, dict) else {"train": source}
    if not all(isinstance(part, datasets.Dataset) for part in parts.values()):
        raise InvalidData(f"{origin} is streamed; load it without streaming=True")
    known = {name: part for name, part in parts.items() if split_code(name) is not None}
    notes: tuple[str, ...] = ()
    if len(known) < len(parts):
        notes = (f"Splits of {origin} that were not read: {few(set(parts) - set(known))}.",)
    if not known:
        raise InvalidData(f"{origin} has the splits {list(parts)}; none is train, val or test")
    features = next(iter(known.values())).features
    image = pick_column(
        origin, "image", image_column, _images(features, datasets), IMAGE_NAMES, list(features)
    )
    label = pick_column(
        origin, "label", label_column, _labels(features, datasets), LABEL_NAMES, list(features)
    )
    for name, part in known.items():
        if absent := {image, label} - set(part.column_names):
            raise InvalidData(f"{origin}: its split {name!r} has no column {few(sorted(absent))}")
    values = [x for part in known.values() for x in _arrow(part, label)[:][label].to_pylist()]
    codes = [split_code(name) if len(known) > 1 else UNDECIDED for name in known]
    names = getattr(features[label], "names", None)
    return Found(
        name=origin.removeprefix("hf:").rstrip("/").rpartition("/")[2],
        origin=origin,
        pictures=_Rows([_undecoded(part, image, datasets) for part in known.values()], image),
        labels=np.array(values, object if None in values else None),
        given=np.repeat(np.array(codes, np.int8), [len(part) for part in known.values()]),
        classes=tuple(names) if names else None,
        notes=notes,
    )


class _Rows:
    """The encoded images of a data set's splits, one split after the other."""

    def __init__(self, parts: list[Any], column: str) -> None:
        self.parts = parts
        self.column = column

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[tuple[str, Picture]]:
        row = 0
        for part in self.parts:
            for batch in _arrow(part, self.column).iter(ROWS_AT_ONCE):
                for value in batch[self.column].to_pylist():
                    yield f"row {row}", _content(value)
                    row += 1


def _content(value: Any) -> Picture:
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return Path(value["path"])
        value = value.get("bytes")
    return value or b""


def _arrow(part: Any, column: str) -> Any:
    return part.select_columns([column]).with_format("arrow")


def _undecoded(part: Any, image: str, datasets: Any) -> Any:
    if isinstance(part.features[image], datasets.Image):
        return part.cast_column(image, datasets.Image(decode=False))
    return part


def _images(features: Any, datasets: Any) -> list[str]:
    return [
        name
        for name, kind in features.items()
        if isinstance(kind, datasets.Image)
        or (isinstance(kind, datasets.Value) and "binary" in kind.dtype)
    ]


def _labels(features: Any, datasets: Any) -> list[str]:
    named = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return named or [
        name
        for name, kind in features.items()
        if isinstance(kind, datasets.Value) and "binary" not in kind.dtype
    ]
