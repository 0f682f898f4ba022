"""Rows of tables of NAS-Bench-101's cells, and a space for tables that hold only some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.graph import Graph
from parti.core.protocols import Pick
from parti.spaces.nasbench101 import cell_hash, from_matrix, nasbench101, to_matrix
from parti.spaces.nasbench101_cell import MOST_VERTICES, Cell, prune, renumber

__all__ = ["Cells", "Nearest", "Sample"]

REMEMBERED = 100_000
"""So many answers are kept, since the same architecture is looked up again and again."""


class Cells:
    """Rows of a table of cells, by the benchmark's hash.

    Args:
        hashes: of the cells, the first row first.
        upper: the adjacency matrices above their diagonals as digits, row by row.
        operations: of all vertices, with commas between.
    """

    def __init__(
        self, hashes: Sequence[str], upper: Sequence[str], operations: Sequence[str]
    ) -> None:
        self._rows = {cell: row for row, cell in enumerate(hashes)}
        self._upper = upper
        self._operations = operations
        self._found: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, architecture: Architecture) -> int:
        """Return the row of a cell, or of one that is isomorphic to it.

        Raises:
            TrialError: the table does not hold it.
        """
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        if architecture.fingerprint not in self._found:
            self._found[architecture.fingerprint] = self._rows.get(cell_hash(architecture))
        row = self._found[architecture.fingerprint]
        if row is None:
            raise TrialError(
                f"NAS-Bench-101 does not hold {architecture!r} here: {len(self):,} of its 423,624 "
                "cells are in this table"
            )
        return row

    def architectures(self) -> Iterator[Architecture]:
        """Every cell, the first row first."""
        return map(self.architecture, range(len(self)))

    def architecture(self, row: int) -> Architecture:
        """The cell of a row."""
        operations = self.operations(row)
        side = len(operations)
        edges = set(self.edges(row))
        return from_matrix(
            [[int((i, j) in edges) for j in range(side)] for i in range(side)], operations
        )

    def operations(self, row: int) -> list[str]:
        """The operations of all vertices of a row's cell."""
        return str(self._operations[row]).split(",")

    def edges(self, row: int) -> list[tuple[int, int]]:
        """The edges of a row's cell."""
        pairs = combinations(range(len(self.operations(row))), 2)
        return [
            pair for pair, digit in zip(pairs, str(self._upper[row]), strict=True) if digit == "1"
        ]


class Nearest:
    """Rows of a table of cells, where cells that it lacks have the row of the nearest one.

    Nearest is the cell of the same operations in canonical order whose edges differ least, and of
    equals the first in the table. When there is none of the same operations, it is the one with
    the fewest other operations, and then edges.

    Args:
        cells: the table's rows.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._found: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.cells)

    def find(self, architecture: Architecture) -> int:
        """Return the row of a cell, or of the nearest one."""
        known = self._found.get(architecture.fingerprint)
        if known is not None:
            return known
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        row = self._found[architecture.fingerprint] = self._nearest(architecture)
        return row

    def _nearest(self, architecture: Architecture) -> int:
        operations, edges = _form(_cell(architecture))
        groups = self._groups
        if operations not in groups:
            operations = min(groups, key=lambda known: (_differ(known, operations), known))
        rows, known = groups[operations]
        return int(rows[np.bitwise_count(known ^ np.uint64(edges)).argmin()])

    def architectures(self) -> Iterator[Architecture]:
        """Every cell of the table, the first row first."""
        return self.cells.architectures()

    @cached_property
    def _groups(self) -> dict[tuple[str, ...], tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """For each list of operations the rows that have it, and their edges as bits."""
        found: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        for row in range(len(self)):
            cell = prune(self.cells.operations(row)[1:-1], self.cells.edges(row))
            assert cell is not None
            operations, edges = _form(cell)
            found[operations].append((row, edges))
        return {
            operations: (
                np.array([row for row, _ in rows]),
                np.array([edges for _, edges in rows], dtype=np.uint64),
            )
            for operations, rows in found.items()
        }


class Sample:
    """The space of all cells, in which each stands for the nearest one of a table.

    So it is sampled, mutated and encoded as the whole space, while its canonical forms, and what
    is built and drawn, are those of the table.

    Args:
        nearest: finds the cell of the table.
    """

    def __init__(self, nearest: Nearest) -> None:
        self._nearest = nearest

    def walk(self, pick: Pick) -> Architecture:
        """Decide a cell, of the table or not."""
        return nasbench101.walk(pick)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the cell of the table that an architecture stands for."""
        return self._nearest.cells.architecture(self._nearest.find(architecture))

    def graph(self, architecture: Architecture) -> Graph | None:
        """Draw the cell of the table that an architecture stands for."""
        return nasbench101.graph(self.canonical(architecture))

    def build(self, architecture: Architecture) -> Any:
        """Build the network of the cell of the table that an architecture stands for."""
        return nasbench101.build(self.canonical(architecture))

    def __repr__(self) -> str:
        return f"Sample({len(self._nearest):,} cells of {nasbench101!r})"


def _cell(architecture: Architecture) -> Cell:
    matrix, operations = to_matrix(architecture)
    edges = [(i, j) for i, row in enumerate(matrix) for j, entry in enumerate(row) if entry]
    return Cell(operations[1:-1], tuple(edges))


def _form(cell: Cell) -> tuple[tuple[str, ...], int]:
    """Operations of the canonical cell, and its edges as bits."""
    first = renumber(cell)
    bits = 0
    for source, target in first.edges:
        bits |= 1 << (MOST_VERTICES * source + target)
    return first.operations, bits


def _differ(one: Sequence[str], other: Sequence[str]) -> int:
    """How many operations differ, where those that only one cell has differ."""
    same = sum(a == b for a, b in zip(one, other, strict=False))
    return max(len(one), len(other)) - same
