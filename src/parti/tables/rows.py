"""Finding the row of an architecture in a table, in microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import TrialError
from parti.core.protocols import Space
from parti.core.walks import canonical
from parti.tables.table import Members

__all__ = ["Grid", "OnePerForm"]


class Grid:
    """Rows of a space whose choices are all asked, whatever is decided: a grid of options.

    An architecture's place in the grid is a number in a mixed radix, and an array says which row
    stands there.

    Args:
        choices: all choices of the space, in walking order.
        members: the architectures of the table as options in the order of the choices; the
            table's first row first.
        table: its name, for messages.

    Raises:
        TrialError: a member is not in the space.
    """

    def __init__(
        self, choices: Sequence[Choice], members: Sequence[tuple[Option, ...]], table: str
    ) -> None:
        self.table = table
        self._choices = tuple(choices)
        self._steps: list[tuple[str, dict[Option, int]]] = []
        stride = 1
        for choice in reversed(self._choices):
            self._steps.append((choice.name, {o: i * stride for i, o in enumerate(choice.options)}))
            stride *= len(choice.options)
        self._steps.reverse()
        steps = [step for _, step in self._steps]
        try:
            places = [
                sum(step[option] for step, option in zip(steps, member, strict=True))
                for member in members
            ]
        except (KeyError, ValueError) as error:
            raise TrialError(f"{table} holds what is not in its space: {error}") from error
        self._places = np.array(places, dtype=np.int64)
        self._rows = np.full(stride, -1, dtype=np.int32)
        self._rows[self._places] = np.arange(len(members), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, architecture: Architecture) -> int:
        """Return the row of an architecture.

        Raises:
            TrialError: the table does not hold it.
        """
        place = 0
        try:
            for name, step in self._steps:
                place += step[architecture[name]]
        except KeyError:
            place = -1
        row = int(self._rows[place]) if place >= 0 else -1
        if row < 0 or len(architecture) != len(self._steps):
            raise _unknown(self.table, architecture, len(self))
        return row

    def architectures(self) -> Iterator[Architecture]:
        """Every architecture of the table, the first row first."""
        names = [choice.name for choice in self._choices]
        options = [
            np.array(choice.options, dtype=object)[digits]
            for choice, digits in zip(self._choices, self._digits(), strict=True)
        ]
        for member in zip(*options, strict=True):
            yield Architecture.owning(dict(zip(names, member, strict=True)))

    def _digits(self) -> tuple[NDArray[np.int64], ...]:
        shape = [len(choice.options) for choice in self._choices]
        return tuple(np.unravel_index(self._places, shape))


class OnePerForm:
    """Rows of a table in which isomorphic architectures share one: that of their canonical form.

    Args:
        rows: those of the table.
        space: says what the canonical form is.
    """

    def __init__(self, rows: Members, space: Space) -> None:
        self.rows = rows
        self.space = space

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, architecture: Architecture) -> int:
        """Return the row of an architecture's canonical form.

        Raises:
            TrialError: the table does not hold it.
        """
        return self.rows.find(canonical(self.space, architecture))

    def architectures(self) -> Iterator[Architecture]:
        """Every architecture of the table, the first row first."""
        return self.rows.architectures()

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which rows are those of canonical forms."""
        forms = {canonical(self.space, member) for member in self.architectures()}
        return np.array([member in forms for member in self.architectures()])


def _unknown(table: str, architecture: Architecture, rows: int) -> TrialError:
    return TrialError(
        f"{table} does not hold {architecture!r}; it holds {rows:,} architectures: search its "
        "problem's space, or look at table.architectures"
    )
