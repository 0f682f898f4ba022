"""Reading columns of Parquet files, with pyarrow from the `parquet` extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidData

__all__ = ["column_names", "read_columns"]


def read_columns(file: Path, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some columns: numbers as float64 with NaN for nulls, all else as objects.

    Raises:
        InvalidData: pyarrow is missing, or the file is broken, or lacks a column.
    """
    arrow = _pyarrow(file)
    try:
        table = arrow.read_table(file, columns=list(columns))
    except (OSError, ValueError) as error:
        raise InvalidData(f"{file} is no Parquet file that can be read: {error}") from error
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise InvalidData(f"{file} has no column {lacking[0]!r}; it has {column_names(file)}")
    return {name: _array(table[name]) for name in columns}


def column_names(file: Path) -> list[str]:
    """Names of the columns of a file.

    Raises:
        InvalidData: pyarrow is missing, or the file is broken.
    """
    arrow = _pyarrow(file)
    try:
        return list(arrow.read_schema(file).names)
    except (OSError, ValueError) as error:
        raise InvalidData(f"{file} is no Parquet file that can be read: {error}") from error


def _array(column: Any) -> NDArray[Any]:
    array: NDArray[Any] = column.to_numpy()
    return array.astype(np.float64) if array.dtype.kind in "iufb" else array


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidData(
            f"{file}: reading Parquet needs pyarrow; pip install parti[parquet]"
        ) from error
    return pyarrow.parquet
