"""Random functions on a space whose optimum is known exactly.

A landscape adds a random term for every decision and one for every pair of decisions that follow
one another: a choice follows the choice before it in the same list of choices, and the first of a
list follows the choice under which the list lies. So interactions run along a tree, and the best
architecture of spaces far too large to list is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from hashlib import blake2b
from random import Random
from statistics import NormalDist, fmean, pstdev

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.tree import Node, Tree

__all__ = ["Landscape", "normal"]

Decision = tuple[str, Option]
"""The name of a choice, and the option taken."""

START: Decision = ("", "")
"""What the first choice of all follows."""

SAMPLES = 1_000
SLOPE = 6.0
"""From its peak, the term of an ordered choice falls by at most so much over the whole scale."""


def normal(text: str) -> float:
    """Return a draw of a standard normal variable that follows from the text alone."""
    digest = int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big")
    return NormalDist().inv_cdf((digest + 0.5) / 2**48)


class Landscape:
    """A random function: terms of decisions and of pairs of decisions, added up.

    Terms of unordered choices are standard normal; those of ordered ones fall linearly on both
    sides of a peak at a random place of the scale.

    Args:
        tree: of the space.
        seed: names the function; another text is another function.
        pairs: standard deviation of the terms of pairs.
    """

    def __init__(self, tree: Tree, seed: str, *, pairs: float = 1.0) -> None:
        self.tree = tree
        self.seed = seed
        self.pairs = pairs
        self._single: dict[Decision, float] = {}
        self._pair: dict[tuple[Decision, Decision], float] = {}
        self._below: dict[Decision, tuple[Node, ...]] = {}

    def __call__(self, architecture: Mapping[str, Option]) -> float:
        """Return the value of an architecture, which must be a member."""
        return self._sum(self.tree.nodes, START, architecture)

    def standard(self, architecture: Mapping[str, Option]) -> float:
        """Return the value of an architecture in deviations above the average one."""
        mean, deviation = self._moments
        return (self(architecture) - mean) / deviation

    @cached_property
    def _moments(self) -> tuple[float, float]:
        """Mean and standard deviation over architectures drawn at random, always the same ones."""
        random = Random(0)
        values = [self(self.tree.sample(random.random)) for _ in range(SAMPLES)]
        return fmean(values), pstdev(values) or 1.0

    def optimum(self) -> Architecture:
        """The architecture of the largest value; exact, by dynamic programming."""

        @cache
        def largest(names: tuple[str, ...], before: Decision) -> tuple[float, tuple[Decision, ...]]:
            """The largest sum over a list of choices and all below, and the decisions for it."""
            if not names:
                return 0.0, ()
            node, found = nodes[names[0]], []
            for option in node.choice.options:
                taken = (node.choice.name, option)
                under, decided_under = largest(listed(self._under(node, option)), taken)
                after, decided_after = largest(names[1:], taken)
                value = self._terms(node.choice, taken, before) + under + after
                found.append((value, (taken, *decided_under, *decided_after)))
            return max(found, key=lambda pair: pair[0])

        def listed(some: tuple[Node, ...]) -> tuple[str, ...]:
            nodes.update((node.choice.name, node) for node in some)
            return tuple(node.choice.name for node in some)

        nodes: dict[str, Node] = {}
        _, decisions = largest(listed(self.tree.nodes), START)
        return Architecture(dict(decisions))

    def _sum(
        self, nodes: tuple[Node, ...], before: Decision, decisions: Mapping[str, Option]
    ) -> float:
        total = 0.0
        for node in nodes:
            option = decisions[node.choice.name]
            taken = (node.choice.name, option)
            total += self._terms(node.choice, taken, before)
            if node.branches:
                total += self._sum(self._under(node, option), taken, decisions)
            before = taken
        return total

    def _terms(self, choice: Choice, taken: Decision, before: Decision) -> float:
        single = self._single.get(taken)
        if single is None:
            single = self._single[taken] = self._term(choice, taken)
        pair = self._pair.get((before, taken))
        if pair is None:
            pair = self._pair[before, taken] = self.pairs * normal(f"{self.seed}/{before}/{taken}")
        return single + pair

    def _term(self, choice: Choice, taken: Decision) -> float:
        if not choice.ordered or len(choice.options) == 1:
            return normal(f"{self.seed}/{taken}")
        peak = NormalDist().cdf(normal(f"{self.seed}/{choice.name}"))
        place = choice.options.index(taken[1]) / (len(choice.options) - 1)
        return SLOPE * (0.5 - abs(place - peak))

    def _under(self, node: Node, option: Option) -> tuple[Node, ...]:
        """The choices that an option opens."""
        key = (node.choice.name, option)
        if key not in self._below:
            self._below[key] = tuple(
                child
                for branch in node.branches
                if option in branch.when
                for child in branch.children
            )
        return self._below[key]
