"""Architectures that a model may choose among."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import cycle
from random import Random

import numpy as np
import numpy.typing as npt

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.trial import Proposal, Trial
from parti.core.walks import architectures, canonical, mutate, sample, tree_of

__all__ = ["Pool", "distinct", "mutants", "ordered", "samples"]

PATIENCE = 100
"""A part of a pool ends after this many draws in a row without anything new."""


def distinct(
    space: Space,
    drawn: Iterable[Proposal],
    known: Collection[str],
    most: int,
    patience: float = math.inf,
) -> list[Proposal]:
    """Take proposals whose architectures are new, none isomorphic to another.

    Args:
        space: what they belong to.
        drawn: where to take from, in order.
        known: fingerprints of the canonical forms that are not new.
        most: how many to take.
        patience: how many in a row may be old before it ends.

    Returns:
        At most `most` of them; fewer when there are no more.
    """
    taken: dict[str, Proposal] = {}
    misses = 0
    for proposal in drawn if most else ():
        key = canonical(space, proposal.architecture).fingerprint
        if key in known or key in taken:
            misses += 1
        else:
            taken[key] = proposal
            misses = 0
        if len(taken) >= most or misses >= patience:
            break
    return list(taken.values())


def mutants(
    space: Space, parents: Sequence[Trial], random: Random, *, each: int, fidelity: int | None
) -> Iterator[Proposal]:
    """Change one decision of each parent, `each` times, the first parent first."""
    for parent in parents:
        for _ in range(each):
            child = mutate(space, parent.architecture, random)
            yield Proposal(child, fidelity, (parent.number,))


def samples(space: Space, random: Random, *, fidelity: int | None) -> Iterator[Proposal]:
    """Draw architectures at random, without end."""
    while True:
        yield Proposal(sample(space, random), fidelity)


def ordered(
    candidates: Sequence[Proposal],
    scores: npt.NDArray[np.float64],
    means: npt.NDArray[np.float64],
) -> list[Proposal]:
    """Sort candidates, the highest score first, of equal scores the lowest mean.

    Scores that differ by rounding alone are equal, so that processors agree.
    """
    rounded = (scores / (scores.max() or 1.0)).round(9)
    return [candidates[place] for place in np.lexsort((means, -rounded))]


class Pool:
    """The candidates of a Gaussian process: a whole space when it is small, else a part of it.

    The part is made of mutants of good trials, and of random architectures, half and half.

    Args:
        space: where they come from.
        size: of the part.
        listed: a static space of at most so many architectures is a pool as a whole.
        fidelity: of the proposals.

    Raises:
        InvalidSettings: size is less than 1, or `listed` negative.
    """

    def __init__(self, space: Space, *, size: int, listed: int, fidelity: int | None) -> None:
        if size < 1 or listed < 0:
            raise InvalidSettings(
                f"a pool of {size}, spaces of up to {listed} listed: a pool holds at least 1, "
                "and `listed` is 0 (never) or more"
            )
        self._space = space
        self._size = size
        self._listed = listed
        self._fidelity = fidelity
        self._members: list[Architecture] | None = None

    def draw(
        self, parents: Sequence[Trial], known: Collection[str], random: Random
    ) -> list[Proposal]:
        """Return candidates, none known, none isomorphic to another.

        Args:
            parents: to mutate, in turn.
            known: fingerprints of the canonical forms that are known.
            random: of the draws.
        """
        tree = tree_of(self._space)
        if tree is not None and tree.size <= self._listed:
            if self._members is None:
                self._members = _canonical_members(self._space)
            return [
                Proposal(m, self._fidelity) for m in self._members if m.fingerprint not in known
            ]
        half = self._size // 2
        turns = (
            proposal
            for parent in cycle(parents)
            for proposal in mutants(self._space, [parent], random, each=1, fidelity=self._fidelity)
        )
        found = distinct(self._space, turns, known, half, PATIENCE)
        taken = {canonical(self._space, each.architecture).fingerprint for each in found}
        drawn = samples(self._space, random, fidelity=self._fidelity)
        rest = self._size - len(found)
        return found + distinct(self._space, drawn, taken.union(known), rest, PATIENCE)


def _canonical_members(space: Space) -> list[Architecture]:
    return list(dict.fromkeys(canonical(space, member) for member in architectures(space)))
