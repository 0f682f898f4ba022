"""Architectures as rows of numbers, every view of them side by side, and remembered.

Beside the groups of `features` there are scores, when somebody can give them: numbers known
without training, such as parameters or synflow. They count by their place among the scores of the
reference, so neither their unit nor their spread matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from random import Random
from typing import cast

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.protocols import Space
from parti.core.walks import architectures, canonical, sample, tree_of
from parti.spaces.paths import Bag
from parti.strategies.models.additive import Part, Shape
from parti.strategies.models.features import describe
from parti.strategies.models.views import views_of

__all__ = ["Described", "Scores", "described"]

Floats = NDArray[np.float64]
Scores = Callable[[Architecture], Mapping[str, float]]

REFERENCE = 400
"""Random architectures that stand for a space too large to list."""

WALKED = 2_000
"""A dynamic space, which is listed by running its program, is listed only up to this size."""

REMEMBERED = 50_000
"""Rows remembered at most, so that a long search of a large space needs no more memory."""

SHAPES: dict[str, Shape] = {"choices": "gaussian"}
"""Shapes of the kernels of groups, where they are not Matérn's."""

TRUSTED = ("synflow", "nwot", "params", "macs")
"""Scores that are expected to rise with accuracy before anything is known.

Krishnakumar et al., "NAS-Bench-Suite-Zero", NeurIPS 2022: over 28 tasks these four (with
floating-point operations for MACs) are the ones that rank networks best and most stably; others
are only features.
"""


class Described:
    """Rows of numbers for the architectures of one space.

    Args:
        space: what they belong to.
        scores: gives training-free scores, or None.
        listed: a static space of at most so many architectures is listed.
    """

    def __init__(self, space: Space, scores: Scores | None, listed: int) -> None:
        self._space = space
        self._scores = scores
        self._rows: dict[str, Floats] = {}
        self.members = _members(space, listed)
        """All canonical members of a small space; None when it is not listed."""
        reference = self.members or _sampled(space)
        found = [describe(space, architecture) for architecture in reference]
        scored = [self._score(architecture) for architecture in reference]
        self._views = views_of(found)
        self._ranks = _ranks(scored)
        self._scores_from = sum(len(view.scale) for view in self._views)
        self.width = self._scores_from + len(self._ranks)
        """Number of columns."""
        self.parts = tuple(self._parts())
        """The terms of a kernel over the rows."""
        self.matrix = self._rows_of(found, scored) if self.members else np.zeros((0, self.width))
        """The rows of all members, when they are listed."""
        for architecture, row in zip(self.members or (), self.matrix, strict=True):
            self._rows[architecture.fingerprint] = row

    def rows(self, architectures: Iterable[Architecture]) -> Floats:
        """Return a row for each architecture, shape (architectures, columns)."""
        wanted = list(architectures)
        if not wanted:
            return np.zeros((0, self.width))
        new = [a for a in wanted if a.fingerprint not in self._rows]
        if new:
            if len(self._rows) > REMEMBERED:
                self._rows.clear()
                new = wanted
            rows = self._rows_of(
                [describe(self._space, architecture) for architecture in new],
                [self._score(architecture) for architecture in new],
            )
            for architecture, row in zip(new, rows, strict=True):
                self._rows[architecture.fingerprint] = row
        return np.array([self._rows[architecture.fingerprint] for architecture in wanted])

    def prior(self, rows: Floats) -> Floats:
        """Mean of the trusted scores, in deviations; 0 without scores. Shape (rows,)."""
        names = enumerate(self._ranks, self._scores_from)
        trusted = [place for place, name in names if name in TRUSTED]
        if not trusted:
            return np.zeros(len(rows))
        mean: Floats = rows[:, trusted].mean(axis=1)
        return mean * math.sqrt(len(self._ranks))  # undoes the scale of `_places`

    def _parts(self) -> Iterable[Part]:
        start = 0
        for view in self._views:
            columns = slice(start, start + len(view.scale))
            yield Part(columns, SHAPES.get(view.name, "matern"))
            start = columns.stop
        if self._ranks:
            columns = slice(start, start + len(self._ranks))
            yield Part(columns, "matern")
            yield Part(columns, "linear")

    def _score(self, architecture: Architecture) -> Mapping[str, float]:
        if self._scores is None:
            return {}
        return {k: v for k, v in self._scores(architecture).items() if math.isfinite(v)}

    def _rows_of(
        self, found: Sequence[Mapping[str, Bag]], scores: Sequence[Mapping[str, float]]
    ) -> Floats:
        blocks = [view.matrix([each.get(view.name, {}) for each in found]) for view in self._views]
        return np.hstack([*blocks, self._places(scores)])

    def _places(self, scores: Sequence[Mapping[str, float]]) -> Floats:
        """Places of scores among the reference's, as deviations of a normal distribution."""
        from scipy.special import ndtri

        table = np.zeros((len(scores), len(self._ranks)))
        for column, (name, ranks) in enumerate(self._ranks.items()):
            values = np.array([each.get(name, math.nan) for each in scores])
            below = np.searchsorted(ranks, values, "left")
            upto = np.searchsorted(ranks, values, "right")
            places = ndtri((below + upto + 1) / (2 * len(ranks) + 2))
            table[:, column] = np.where(np.isnan(values), 0.0, places)
        return table / math.sqrt(max(1, len(self._ranks)))


def described(space: Space, scores: Scores | None, listed: int) -> Described:
    """Return `Described`, shared by all strategies of a process over the same space and scores."""
    try:
        return _shared(cast(Hashable, space), scores, listed)
    except TypeError:  # a space of somebody else's that cannot be hashed
        return Described(space, scores, listed)


@lru_cache(maxsize=4)
def _shared(space: Hashable, scores: Scores | None, listed: int) -> Described:
    assert isinstance(space, Space)
    return Described(space, scores, listed)


def _members(space: Space, listed: int) -> list[Architecture] | None:
    tree = tree_of(space)
    if tree is not None:
        if tree.size > listed:
            return None
        every = architectures(space)
        return list(dict.fromkeys(canonical(space, member) for member in every))
    most = min(listed, WALKED)
    some = list(islice(architectures(space), most + 1))
    if len(some) > most:
        return None
    return list(dict.fromkeys(canonical(space, member) for member in some))


def _sampled(space: Space) -> list[Architecture]:
    random = Random(0)
    return [sample(space, random) for _ in range(REFERENCE)]


def _ranks(scores: Sequence[Mapping[str, float]]) -> dict[str, Floats]:
    """The sorted values of every score that most of the reference has, and that varies."""
    names = dict.fromkeys(name for each in scores for name in each)
    ranks = {
        name: np.sort([each[name] for each in scores if name in each]) for name in sorted(names)
    }
    return {
        name: values
        for name, values in ranks.items()
        if len(values) > len(scores) / 2 and values[0] < values[-1]
    }
