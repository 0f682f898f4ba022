"""Crossover and mutation of genes: how genetic algorithms make a child of two parents.

A gene is a decision ("integer" encoding: the number of its option), or one bit of the number of
its option ("binary" and "gray": in Gray code, options next to one another differ by one bit).
Genes lie in walking order. Where the parents do not have the same genes, because a decision opens
others, the child takes what it needs from the parent that has it, or draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal, Protocol

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.trial import Proposal, Trial
from parti.core.walks import choices, crossover, sample
from parti.strategies.memory import Memory

__all__ = ["POINTS", "BinaryGenes", "Breeder", "Encoding", "Genes", "IntegerGenes", "genes_of"]

Encoding = Literal["integer", "binary", "gray"]

POINTS = {"one-point": 1, "two-point": 2, "uniform": None}
"""Kinds of crossover: at how many places the child changes the parent; None: each gene anew."""


class Genes(Protocol):
    """An encoding of architectures as genes."""

    def length(self, architecture: Architecture) -> int:
        """Number of genes that can change."""
        ...

    def cross(
        self, mother: Architecture, father: Architecture, random: Random, points: int | None
    ) -> Architecture:
        """Take every gene from one of two parents, who change at `points` places, or at random."""
        ...

    def mutate(self, architecture: Architecture, random: Random, rate: float) -> Architecture:
        """Change every gene with probability `rate`."""
        ...


class IntegerGenes:
    """One gene per decision; a mutation changes it to another option.

    Args:
        space: what the architectures belong to.
    """

    def __init__(self, space: Space) -> None:
        self._space = space

    def length(self, architecture: Architecture) -> int:
        """Number of decisions with more than one option."""
        return sum(len(choice.options) > 1 for choice in choices(self._space, architecture))

    def cross(
        self, mother: Architecture, father: Architecture, random: Random, points: int | None
    ) -> Architecture:
        """Take every decision from one of two parents."""
        return crossover(self._space, mother, father, random, points=points)

    def mutate(self, architecture: Architecture, random: Random, rate: float) -> Architecture:
        """Change every decision to another option with probability `rate`."""

        def pick(choice: Choice) -> Option:
            if choice.name not in architecture:
                return random.choice(choice.options)
            option = architecture[choice.name]
            if len(choice.options) == 1 or random.random() >= rate:
                return option
            return random.choice([other for other in choice.options if other != option])

        return self._space.walk(pick)


class BinaryGenes:
    """As many genes per decision as the number of its last option has bits.

    Bits that stand for no option are repaired: the number is taken modulo how many there are.

    Args:
        space: what the architectures belong to.
        gray: write numbers in Gray code.
    """

    def __init__(self, space: Space, *, gray: bool = False) -> None:
        self._space = space
        self._gray = gray

    def length(self, architecture: Architecture) -> int:
        """Number of bits."""
        return sum(_width(choice) for choice in choices(self._space, architecture))

    def cross(
        self, mother: Architecture, father: Architecture, random: Random, points: int | None
    ) -> Architecture:
        """Take every bit from one of two parents; they may change inside a decision."""
        places = range(1, max(self.length(mother), self.length(father)))
        cuts = set(random.sample(places, min(points or 0, len(places))))
        first, second = (mother, father) if random.random() < 0.5 else (father, mother)
        place = 0

        def pick(choice: Choice) -> Option:
            nonlocal first, second, place
            mixed = 0
            for bit in range(_width(choice)):
                if (place in cuts) if points is not None else random.random() < 0.5:
                    first, second = second, first
                place += 1
                source = first if choice.name in first else second
                mixed |= self._bits(choice, source, random) & 1 << bit
            return self._option(choice, mixed)

        return self._space.walk(pick)

    def mutate(self, architecture: Architecture, random: Random, rate: float) -> Architecture:
        """Flip every bit with probability `rate`."""

        def pick(choice: Choice) -> Option:
            bits = self._bits(choice, architecture, random)
            for bit in range(_width(choice)):
                bits ^= (random.random() < rate) << bit
            return self._option(choice, bits)

        return self._space.walk(pick)

    def _bits(self, choice: Choice, source: Architecture, random: Random) -> int:
        """The bits of a decision; random ones where the source does not have it."""
        if choice.name not in source:
            return random.getrandbits(_width(choice))
        number = choice.options.index(source[choice.name])
        return number ^ number >> 1 if self._gray else number

    def _option(self, choice: Choice, bits: int) -> Option:
        number = bits
        while self._gray and (bits := bits >> 1):
            number ^= bits
        return choice.options[number % len(choice.options)]


def genes_of(space: Space, encoding: Encoding) -> Genes:
    """Return the genes of an encoding by its name.

    Raises:
        InvalidSettings: there is no such encoding.
    """
    if encoding not in ("integer", "binary", "gray"):
        raise InvalidSettings(f"encoding {encoding!r} is not 'integer', 'binary' or 'gray'")
    return (
        IntegerGenes(space)
        if encoding == "integer"
        else BinaryGenes(space, gray=encoding == "gray")
    )


class Breeder:
    """Makes children that are not known yet.

    Args:
        space: what they belong to.
        encoding: what a gene is.
        crossover: "one-point", "two-point" or "uniform".
        crossover_rate: chance that a child has two parents; else it is a copy of one, mutated.
        mutation_rate: chance of every gene to change; None: one gene of a child on average.

    Raises:
        InvalidSettings: a name is unknown, or a rate is not between 0 and 1.
    """

    def __init__(
        self,
        space: Space,
        *,
        encoding: Encoding,
        crossover: str,
        crossover_rate: float,
        mutation_rate: float | None,
    ) -> None:
        if crossover not in POINTS:
            raise InvalidSettings(f"crossover {crossover!r} is not one of {list(POINTS)}")
        for name, rate in (("crossover", crossover_rate), ("mutation", mutation_rate)):
            if rate is not None and not 0 <= rate <= 1:
                raise InvalidSettings(f"{name} rate {rate}: a chance lies between 0 and 1")
        self._space = space
        self._genes = genes_of(space, encoding)
        self._points = POINTS[crossover]
        self._crossover_rate = crossover_rate
        self._mutation_rate = mutation_rate

    def child(self, mother: Architecture, father: Architecture, random: Random) -> Architecture:
        """Cross two parents and mutate the child; it may equal one of them."""
        child = mother
        if random.random() < self._crossover_rate:
            child = self._genes.cross(mother, father, random, self._points)
        rate = self._mutation_rate
        if rate is None:
            rate = 1 / max(1, self._genes.length(child))
        return self._genes.mutate(child, random, rate)

    def proposal(
        self,
        memory: Memory,
        select: Callable[[Random], Trial] | None,
        fidelity: int | None,
    ) -> Proposal | None:
        """Propose a child of parents that `select` draws, or a random architecture without it.

        Parents are drawn until their child is new. None when the space has nothing new left.
        """
        random = memory.random()
        parents: tuple[Trial, ...] = ()
        bred: Architecture | None = None

        def draw() -> Architecture:
            nonlocal parents, bred
            if select is None:
                return sample(self._space, random)
            parents = (select(random), select(random))
            bred = self.child(parents[0].architecture, parents[1].architecture, random)
            return bred

        drawn = memory.fresh(random, draw)
        if drawn is None:
            return None
        numbers = tuple(dict.fromkeys(p.number for p in parents)) if drawn is bred else ()
        return Proposal(drawn, fidelity, numbers)


def _width(choice: Choice) -> int:
    """Number of bits that count the options of a choice."""
    return (len(choice.options) - 1).bit_length()
