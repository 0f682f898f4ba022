"""Reader of Parquet files with encoded images and a column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parti.core.errors import InvalidData
from parti.tasks.found import Found, split_code, split_codes
from parti.tasks.values import UNDECIDED

__all__ = ["pick_column", "read_parquet"]

IMAGE_NAMES = ("image", "img", "jpeg", "jpg", "png", "picture", "photo", "bytes")
LABEL_NAMES = ("label", "labels", "class", "class_name", "target", "category", "fine_label", "y")
SPLIT_COLUMNS = ("split", "subset", "partition")
ROWS_AT_ONCE = 1024


def read_parquet(
    source: Path, image_column: str | None = None, label_column: str | None = None
) -> Found:
    """Find the images of a Parquet file, or of all Parquet files under a folder.

    Images are read when they are decoded, some rows at a time; so the files may be larger than
    memory. Where there is no `split` column, files named train..., test... fix the split.

    Args:
        source: a file or a folder.
        image_column: the column of encoded images (bytes, or a struct with a field `bytes`).
        label_column: the column of labels.

    Raises:
        InvalidData: pyarrow is missing, a file is broken, or a column cannot be told.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InvalidData(
            f"{source}: reading Parquet needs pyarrow; pip install parti[parquet]"
        ) from error
    paths = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    try:
        schemas = [pq.read_schema(path) for path in paths]
        schema = schemas[0]
        _refuse_duplicates(source, schema.names)
        for path, other in zip(paths, schemas, strict=True):
            if set(other.names) != set(schema.names):
                raise InvalidData(
                    f"{path} has the columns {other.names} and {paths[0].name} {schema.names}; "
                    "the files of one data set must have the same columns"
                )
        split = next((name for name in schema.names if name.lower() in SPLIT_COLUMNS), None)
        image = pick_column(
            str(source),
            "image",
            image_column,
            [field.name for field in schema if _holds_images(field.type)],
            IMAGE_NAMES,
            schema.names,
        )
        label = pick_column(
            str(source),
            "label",
            label_column,
            [f.name for f in schema if f.name not in (image, split) and _holds_labels(f.type)],
            LABEL_NAMES,
            schema.names,
        )
        wanted = [label] if split is None else [label, split]
        tables = [pq.read_table(path, columns=wanted) for path in paths]
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidData(
            f"{source} cannot be read as Parquet ({error}); is the file whole?"
        ) from error
    counts = [table.num_rows for table in tables]
    if split is not None:
        given = split_codes((x for t in tables for x in t[split].to_pylist()), str(source))
    else:
        given = np.repeat(
            np.array([_split_of_file(path, source) for path in paths], np.int8), counts
        )
    values = [value for table in tables for value in table[label].to_pylist()]
    kinds = {type(value) for value in values}
    return Found(
        name=source.resolve().stem,
        origin=str(source),
        pictures=_Rows(paths, image, sum(counts)),
        labels=np.array(values, object if type(None) in kinds or len(kinds) > 1 else None),
        given=given,
        classes=_class_names(schema, label),
    )


def pick_column(
    origin: str,
    role: str,
    named: str | None,
    candidates: Sequence[str],
    usual: Sequence[str],
    columns: Sequence[str],
) -> str:
    """Choose the column of images or of labels.

    Args:
        origin: what to call the source in messages.
        role: "image" or "label".
        named: the column that the user names, or None.
        candidates: columns of a fitting type.
        usual: names to prefer, best first.
        columns: all columns.

    Raises:
        InvalidData: the named column does not exist, or it cannot be told which one to take.
    """
    if named is not None:
        if named not in columns:
            raise InvalidData(f"{origin} has no column {named!r}; its columns are {list(columns)}")
        return named
    if len(candidates) == 1:
        return candidates[0]
    preferred = [name for word in usual for name in candidates if name.lower() == word]
    if preferred:
        return preferred[0]
    which = f"each of {list(candidates)} could be one" if candidates else "none fits"
    raise InvalidData(
        f"{origin}: which column holds the {role}s? Of {list(columns)}, {which}. Name it with "
        f"{role}_column (on the command line, --{role}-column)"
    )


class _Rows:
    """The encoded images of Parquet files, read some rows at a time."""

    def __init__(self, paths: list[Path], column: str, count: int) -> None:
        self.paths = paths
        self.column = column
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        import pyarrow.parquet as pq

        for path in self.paths:
            row = 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[self.column]):
                    for value in batch.column(0).to_pylist():
                        content = value.get("bytes") if isinstance(value, dict) else value
                        yield f"{path.name} row {row}", content or b""
                        row += 1


def _refuse_duplicates(source: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidData(f"{source} has two columns named {twice}; rename or remove one of each")


def _holds_images(kind: Any) -> bool:
    import pyarrow.types as is_a

    if is_a.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(is_a.is_binary(kind) or is_a.is_large_binary(kind))


def _holds_labels(kind: Any) -> bool:
    import pyarrow.types as is_a

    if is_a.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        is_a.is_integer,
        is_a.is_string,
        is_a.is_large_string,
        is_a.is_boolean,
        is_a.is_floating,
    )
    return any(test(kind) for test in tests)


def _split_of_file(path: Path, source: Path) -> int:
    """By the name of the file (train-00000-of-00002.parquet) or of a folder (train/0.parquet)."""
    folders = path.relative_to(source).parts[:-1]
    for name in (path.name.split(".")[0].split("-")[0], *folders):
        code = split_code(name)
        if code is not None:
            return code
    return UNDECIDED


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The names that Hugging Face's writer keeps in the metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(text)["info"]["features"][label]["names"] if text else None
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if names else None
