"""What every strategy remembers of the trials it was told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from random import Random

from parti.core.architecture import Architecture
from parti.core.protocols import Space
from parti.core.trial import Trial
from parti.core.walks import architectures, canonical, sample, tree_of

__all__ = ["Memory"]

TRIES = 200
"""Draws without anything new, after which a small space is listed instead."""

LISTED = 100_000
"""Spaces up to this size are listed to find what is left."""


class Memory:
    """The trials known so far: which architectures they hold, and the random numbers of now.

    Args:
        space: what is searched; isomorphic architectures count as one.
        seed: random numbers follow from it and from how many trials are known.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.seed = seed
        self._numbers: set[int] = set()
        self._seen: set[str] = set()

    def tell(self, trial: Trial) -> None:
        """Remember a trial, running or ended."""
        self._numbers.add(trial.number)
        self._seen.add(self._key(trial.architecture))

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, architecture: Architecture) -> bool:
        return self._key(architecture) in self._seen

    def random(self) -> Random:
        """Random numbers for the next proposal: equal whenever as many trials are known."""
        return Random(f"{self.seed}/{len(self._numbers)}")

    def fresh(self, random: Random, draw: Callable[[], Architecture]) -> Architecture | None:
        """Draw until there is something new; None when the space has nothing new left.

        What `draw` does not find is drawn from the whole space; the rest of a small space is
        listed.
        """
        for _ in range(TRIES):
            drawn = draw()
            if drawn not in self:
                return drawn
        for _ in range(TRIES):
            drawn = sample(self.space, random)
            if drawn not in self:
                return drawn
        tree = tree_of(self.space)
        if tree is not None and tree.size > LISTED:
            return sample(self.space, random)
        left = [a for a in islice(architectures(self.space), LISTED) if a not in self]
        return random.choice(left) if left else None

    def _key(self, architecture: Architecture) -> str:
        return canonical(self.space, architecture).fingerprint
