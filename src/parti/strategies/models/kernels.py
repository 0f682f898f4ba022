"""How alike two architectures are: kernels of Gaussian processes.

A kernel remembers the architectures it has been shown by number, so that each is described once,
however many rounds it is compared in.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from random import Random
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.walks import canonical, graph_of, sample
from parti.spaces.paths import Bag, decisions, subtree_bags

__all__ = ["Hamming", "Kernel", "WeisfeilerLehman", "kernel_for"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

LENGTHSCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""In units of the mean distance between two random architectures."""

PAIRS = 64
"""So many pairs of random architectures are drawn to find their mean distance."""


class Kernel(Protocol):
    """A family of positive semi-definite functions of two architectures, each 1 for the same."""

    @property
    def settings(self) -> Sequence[float]:
        """What tells the members of the family apart; marginal likelihood chooses one."""
        ...

    def rows(self, architectures: Iterable[Architecture]) -> Rows:
        """Return the number of each architecture; a new one gets the next."""
        ...

    def gram(self, setting: float, rows: Rows, columns: Rows) -> Floats:
        """Compare architectures by number; shape (rows, columns), values from 0 to 1."""
        ...


def kernel_for(space: Space, depths: Sequence[int]) -> Kernel:
    """Return the Weisfeiler-Lehman kernel where the space draws graphs, else Hamming's."""
    drawn = graph_of(space, sample(space, Random(0)))
    return Hamming(space) if drawn is None else WeisfeilerLehman(space, depths)


class WeisfeilerLehman:
    """The share of subtrees that two graphs have in common (Ru 2021, section 3.1, normalized).

    The kernel of depth h is the dot product of the histograms of iterations 0 to h, divided by
    the lengths of both.

    Args:
        space: draws the graphs.
        depths: the numbers of iterations (h) to choose among.

    Raises:
        InvalidSettings: there are none, or one is negative.
    """

    def __init__(self, space: Space, depths: Sequence[int]) -> None:
        if not depths or min(depths) < 0:
            raise InvalidSettings(
                f"depths {list(depths)}: give at least one number of Weisfeiler-Lehman "
                "iterations, 0 or more"
            )
        most = max(depths)
        self._depths = tuple(depths)
        self._known = _Known(space, lambda a: subtree_bags(space, a, most), most + 1)

    @property
    def settings(self) -> Sequence[float]:
        """The depths."""
        return self._depths

    def rows(self, architectures: Iterable[Architecture]) -> Rows:
        """Number the architectures; isomorphic ones have the same number."""
        return self._known.rows(architectures)

    def gram(self, setting: float, rows: Rows, columns: Rows) -> Floats:
        """Compare at one depth."""
        layers = self._known.layers[: int(setting) + 1]
        shared = np.zeros((len(rows), len(columns)))
        lengths = np.zeros(len(self._known))
        for layer in layers:
            shared += layer.dot(rows, columns)
            lengths += layer.squares
        return shared / np.sqrt(lengths[rows][:, None] * lengths[columns][None, :])


class Hamming:
    """exp(-d/l): d is the number of decisions that differ, l the lengthscale.

    A choice that only one of two architectures holds counts half of one decided differently, so
    conditional and dynamic spaces need nothing special. It is positive semi-definite, as a
    product of exponentials over the features of `decisions`.

    Args:
        space: what the architectures belong to.
        lengthscales: to choose among, in units of the mean distance of random architectures.

    Raises:
        InvalidSettings: there are none, or one is not positive.
    """

    def __init__(self, space: Space, lengthscales: Sequence[float] = LENGTHSCALES) -> None:
        if not lengthscales or min(lengthscales) <= 0:
            raise InvalidSettings(
                f"lengthscales {list(lengthscales)}: give at least one, all more than 0"
            )
        self._lengthscales = tuple(lengthscales)
        self._known = _Known(space, lambda a: (decisions(a),), 1)
        self._space = space

    @property
    def settings(self) -> Sequence[float]:
        """The lengthscales."""
        return self._lengthscales

    def rows(self, architectures: Iterable[Architecture]) -> Rows:
        """Number the architectures; isomorphic ones have the same number."""
        return self._known.rows(architectures)

    @cached_property
    def _unit(self) -> float:
        """The mean distance between two random architectures; 1 where there is only one."""
        random = Random(0)
        apart = 0
        for _ in range(PAIRS):
            one, other = (decisions(sample(self._space, random)) for _ in range(2))
            apart += len(one.keys() ^ other.keys())
        return apart / 2 / PAIRS or 1.0

    def gram(self, setting: float, rows: Rows, columns: Rows) -> Floats:
        """Compare at one lengthscale."""
        (bags,) = self._known.layers
        squares = bags.squares
        apart = squares[rows][:, None] + squares[columns][None, :] - 2 * bags.dot(rows, columns)
        compared: Floats = np.exp(apart / (-2 * setting * self._unit))
        return compared


class _Known:
    """The architectures a kernel has been shown, in canonical form, as rows of bags.

    Args:
        space: what they belong to.
        describe: gives the bags of one, as many as there are layers.
        layers: how many bags describe one.
    """

    def __init__(
        self, space: Space, describe: Callable[[Architecture], Sequence[Bag]], layers: int
    ) -> None:
        self.layers = [_Bags() for _ in range(layers)]
        self._space = space
        self._describe = describe
        self._numbers: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def rows(self, architectures: Iterable[Architecture]) -> Rows:
        return np.array([self._number(each) for each in architectures], dtype=np.intp)

    def _number(self, architecture: Architecture) -> int:
        if (number := self._numbers.get(architecture.fingerprint)) is None:
            form = canonical(self._space, architecture)
            if (number := self._numbers.get(form.fingerprint)) is None:
                number = self._numbers[form.fingerprint] = self._count
                self._count += 1
                for layer, bag in zip(self.layers, self._describe(form), strict=True):
                    layer.add(bag)
            self._numbers[architecture.fingerprint] = number
        return number


class _Bags:
    """A growing sparse matrix, a row for each bag and a column for each feature."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._places = array("q")
        self._values = array("d")
        self._ends = array("q", [0])
        self._squares = array("d")
        self._matrix: Any = None

    @property
    def squares(self) -> Floats:
        """The dot product of each row with itself."""
        return np.array(self._squares)

    def add(self, bag: Bag) -> None:
        """Append a row."""
        for feature, value in bag.items():
            self._places.append(self._columns.setdefault(feature, len(self._columns)))
            self._values.append(value)
        self._ends.append(len(self._places))
        self._squares.append(sum(value * value for value in bag.values()))
        self._matrix = None

    def dot(self, rows: Rows, columns: Rows) -> Floats:
        """Dot products of rows with rows, shape (rows, columns)."""
        from scipy.sparse import csr_matrix

        if self._matrix is None:
            parts = (np.array(self._values), np.array(self._places), np.array(self._ends))
            self._matrix = csr_matrix(parts, shape=(len(self._squares), len(self._columns)))
        product: Floats = self._matrix[rows] @ self._matrix[columns].toarray().T
        return product
