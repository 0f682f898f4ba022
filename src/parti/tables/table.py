"""A table: what others have measured, one row per architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidData
from parti.core.protocols import Space

__all__ = ["Column", "Lazy", "Members", "Table"]

Column = NDArray[np.float64]
"""One value per row; NaN where there is none."""


class Members(Protocol):
    """Which architectures a table holds, and where."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def find(self, architecture: Architecture) -> int:
        """Return the row of an architecture.

        Raises:
            TrialError: the table does not hold it.
        """
        ...

    def architectures(self) -> Iterator[Architecture]:
        """Every architecture, the first row first."""
        ...


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers of architectures.

    Args:
        name: of the benchmark.
        space: what its architectures belong to.
        rows: which architectures there are.
        columns: by name, one value per row.
        source: where the numbers come from.
        licence: of the numbers.
        citation: of the paper.
    """

    name: str
    space: Space
    rows: Members
    columns: Mapping[str, Column]
    source: str = ""
    licence: str = ""
    citation: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, architecture: Architecture) -> int:
        """Return the row of an architecture, from 0.

        Raises:
            TrialError: the table does not hold it.
        """
        return self.rows.find(architecture)

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            InvalidData: there is none of that name (the message lists those there are), or it
                has not one value per row.
        """
        found = self.columns.get(name)
        if found is None:
            raise InvalidData(f"{self.name} has no column {name!r}; it has {list(self.columns)}")
        if len(found) != len(self):
            raise InvalidData(
                f"{self.name}: column {name!r} has {len(found):,} values for {len(self):,} "
                "architectures; is its file another version?"
            )
        return found

    def value(self, architecture: Architecture, column: str) -> float:
        """Return one number.

        Raises:
            TrialError: the table does not hold the architecture.
            InvalidData: there is no such column.
        """
        return float(self.column(column)[self.row(architecture)])

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """Every architecture, the first row first."""
        return tuple(self.rows.architectures())


class Lazy(Mapping[str, Column]):
    """Columns that are read when they are first asked for.

    Args:
        readers: for each column, what reads it.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Column]]) -> None:
        self._readers = dict(readers)
        self._read: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._read:
            self._read[name] = self._readers[name]()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers
