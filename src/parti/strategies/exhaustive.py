"""Exhaustive search: every architecture once.

The reference for spaces that are small enough, and how benchmark tables are made (Ying, Klein,
Christiansen, Real, Murphy, Hutter, "NAS-Bench-101: Towards Reproducible Neural Architecture
Search", ICML 2019, section 2: every distinct cell, isomorphic ones only once).

Members are taken in the order in which the space lists them, or in a random one. Random order
needs no list: a static space numbers its members, and the numbers are shuffled by a Feistel
network (Luby and Rackoff, "How to Construct Pseudorandom Permutations from Pseudorandom
Functions", SIAM Journal on Computing 17(2), 1988), whatever the size. So neither order ever holds
more than one architecture that was not proposed yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Literal

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import architectures, tree_of
from parti.strategies.memory import Memory

__all__ = ["Exhaustive", "shuffled"]

LISTED = 10_000
"""Dynamic spaces up to this size are listed for a random order; every walk runs their program."""

ROUNDS = 4
"""Of the Feistel network; Luby and Rackoff show that four are as good as random."""


class Exhaustive:
    """Propose every member of a finite space once; isomorphic ones count as one.

    A space too large to finish is searched until the budget is spent.

    Args:
        space: what is listed.
        study: its seed decides the random order.
        order: "listed": as the space lists its members, the last choice changing fastest;
            "random": every order is equally likely, so that any beginning of it is a fair sample.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: the order is unknown, or it is random and the space is dynamic and has
            too many members to list them.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        order: Literal["listed", "random"] = "listed",
        fidelity: int | None = None,
    ) -> None:
        if order not in ("listed", "random"):
            raise InvalidSettings(f"order {order!r} is not 'listed' or 'random'")
        self._memory = Memory(space, study.seed)
        self._fidelity = fidelity
        self._rest = architectures(space) if order == "listed" else _in_random_order(space, study)
        self._next = next(self._rest, None)

    def ask(self) -> Proposal | None:
        """Return the first member of the order that is not known; None when all are."""
        while self._next is not None and self._next in self._memory:
            self._next = next(self._rest, None)
        return Proposal(self._next, self._fidelity) if self._next is not None else None

    def tell(self, trial: Trial) -> None:
        """Remember it, so that it is not proposed again."""
        self._memory.tell(trial)


def shuffled(size: int, seed: object) -> Iterator[int]:
    """Yield the numbers 0 to size - 1, each once, in an order that follows from the seed.

    Takes no memory, whatever the size.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    for start in range(size):
        number = _scattered(start, half, seed)
        while number >= size:  # it fell beyond the end: go on along its cycle
            number = _scattered(number, half, seed)
        yield number


def _scattered(number: int, half: int, seed: object) -> int:
    """Map the numbers of 2 × half bits one to one onto themselves."""
    left, right = number >> half, number & ((1 << half) - 1)
    for turn in range(ROUNDS):
        left, right = right, left ^ Random(f"{seed}/{turn}/{right}").getrandbits(half)
    return left << half | right


def _in_random_order(space: Space, study: Study) -> Iterator[Architecture]:
    tree = tree_of(space)
    if tree is not None:
        return map(tree.unrank, shuffled(tree.size, study.seed))
    members = list(islice(architectures(space), LISTED + 1))
    if len(members) > LISTED:
        raise InvalidSettings(
            f"{space!r} is dynamic and has more than {LISTED:,} members: their number is unknown, "
            "so they cannot be put in random order. Use order='listed', or random search"
        )
    Random(f"{study.seed}/order").shuffle(members)
    return iter(members)
