"""The static tree of a space: its choices, their conditions and exact sizes.

One run of the program that visits every branch (`Trace`) yields it. From the tree, architectures
are sampled, counted, numbered and listed without running the program again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, product
from math import prod
from typing import Any

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidArchitecture
from parti.core.words import Decide, Factory, check_pick, in_sequence

__all__ = ["Branch", "Node", "Trace", "Tree"]


@dataclass(frozen=True)
class Branch:
    """What lies under some options of a choice."""

    when: frozenset[Option]
    """The options under which it exists."""
    children: tuple[Node, ...]

    @cached_property
    def size(self) -> int:
        """Number of ways to decide all of it."""
        return prod(child.size for child in self.children)


@dataclass(frozen=True)
class Node:
    """A choice and what lies under its options."""

    choice: Choice
    branches: tuple[Branch, ...] = ()

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """For each option, the number of ways to decide it and all that lies under it."""
        return tuple(
            prod(branch.size for branch in self.branches if option in branch.when)
            for option in self.choice.options
        )

    @cached_property
    def size(self) -> int:
        """Number of ways to decide this choice and all that lies under it."""
        return sum(self.weights)

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """Running sums of the weights."""
        return tuple(accumulate(self.weights))


@dataclass(frozen=True)
class Tree:
    """The choices of a static space, outermost first."""

    nodes: tuple[Node, ...]
    _choices: dict[str, Choice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_choices", {c.name: c for c, _, _ in self.steps})

    @cached_property
    def steps(self) -> tuple[tuple[Choice, str | None, frozenset[Option]], ...]:
        """Every choice in walking order, with the choice it lies under and under which options."""
        return tuple(_steps(self.nodes, None, frozenset()))

    @property
    def choices(self) -> Mapping[str, Choice]:
        """Every choice by name, in walking order."""
        return self._choices

    @cached_property
    def size(self) -> int:
        """The exact number of architectures."""
        return prod(node.size for node in self.nodes)

    def walk(self, pick: Callable[[Choice], Option]) -> Architecture:
        """Decide every active choice.

        Raises:
            InvalidArchitecture: `pick` answers with something that a choice does not offer.
        """
        decisions: dict[str, Option] = {}
        for choice, parent, when in self.steps:
            if parent is None or decisions.get(parent) in when:
                decisions[choice.name] = check_pick(choice, pick(choice))
        return Architecture.owning(decisions)

    def sample(self, random: Callable[[], float]) -> Architecture:
        """Decide every active choice uniformly; `random` gives numbers in [0, 1)."""
        decisions: dict[str, Option] = {}
        for choice, parent, when in self.steps:
            if parent is None or decisions.get(parent) in when:
                options = choice.options
                decisions[choice.name] = options[int(random() * len(options))]
        return Architecture.owning(decisions)

    def active(self, decisions: Mapping[str, Option]) -> list[str]:
        """Names of the choices that exist under these decisions."""
        return [
            choice.name
            for choice, parent, when in self.steps
            if parent is None or decisions.get(parent) in when
        ]

    def unrank(self, index: int) -> Architecture:
        """Return architecture number `index`, from 0 to size - 1, in the order of `members`.

        Raises:
            InvalidArchitecture: there is no such number.
        """
        if not 0 <= index < self.size:
            raise InvalidArchitecture(f"number {index}: the space has numbers 0 to {self.size - 1}")
        decisions: dict[str, Option] = {}
        _unrank(self.nodes, index, decisions)
        return Architecture.owning(decisions)

    def members(self) -> Iterator[Architecture]:
        """Every architecture once, the last choice changing fastest."""
        return map(Architecture.owning, _members(self.nodes))


def _steps(
    nodes: tuple[Node, ...], parent: str | None, when: frozenset[Option]
) -> Iterator[tuple[Choice, str | None, frozenset[Option]]]:
    for node in nodes:
        yield node.choice, parent, when
        for branch in node.branches:
            yield from _steps(branch.children, node.choice.name, branch.when)


def _unrank(nodes: tuple[Node, ...], index: int, into: dict[str, Option]) -> None:
    rest = prod(node.size for node in nodes)
    for node in nodes:
        rest //= node.size
        mine, index = divmod(index, rest)
        place = bisect_right(node.bounds, mine)
        option = node.choice.options[place]
        into[node.choice.name] = option
        mine -= node.bounds[place - 1] if place else 0
        below = tuple(
            child for branch in node.branches if option in branch.when for child in branch.children
        )
        if below:
            _unrank(below, mine, into)


def _members(nodes: tuple[Node, ...]) -> Iterator[dict[str, Option]]:
    if not any(node.branches for node in nodes):
        names = [node.choice.name for node in nodes]
        for options in product(*(node.choice.options for node in nodes)):
            yield dict(zip(names, options, strict=True))
        return
    first, rest = nodes[0], nodes[1:]
    for option in first.choice.options:
        below = tuple(
            child for branch in first.branches if option in branch.when for child in branch.children
        )
        for mine in _members(below):
            for others in _members(rest):
                yield {first.choice.name: option, **mine, **others}


# --- the reading that finds the tree ---------------------------------------------------------


class _Draft:
    """A node in the making: a choice asked again adds what is new under it."""

    __slots__ = ("branches", "choice")

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.branches: dict[str, tuple[frozenset[Option], dict[str, _Draft]]] = {}

    def branch(self, key: str, when: frozenset[Option]) -> dict[str, _Draft]:
        return self.branches.setdefault(key, (when, {}))[1]

    def node(self) -> Node:
        return Node(
            self.choice,
            tuple(
                Branch(when, tuple(draft.node() for draft in drafts.values()))
                for when, drafts in self.branches.values()
                if drafts
            ),
        )


class Trace(Decide):
    """Visit every branch of a program and note its choices.

    Each word gives back what its first option gives, so the program runs to its end.
    """

    def __init__(self) -> None:
        super().__init__(lambda choice: choice.options[0], builds=False)
        self._top: dict[str, _Draft] = {}
        self._here = self._top

    def tree(self) -> Tree:
        """What was found."""
        return Tree(tuple(draft.node() for draft in self._top.values()))

    def choose(self, choice: Choice) -> Option:
        """Note the choice; go on with its first option."""
        self._draft(choice)
        return choice.options[0]

    def one_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Visit every option; go on with the first."""
        draft = self._draft(choice)
        built = [
            self._visit(draft, label, frozenset((label,)), self.branch, (choice, label, factory))
            for label, factory in factories.items()
        ]
        return built[0]

    def some_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Visit every option; go on with the first subset."""
        draft = self._draft(choice)
        built = {}
        for label, factory in factories.items():
            when = frozenset(o for o in choice.options if isinstance(o, tuple) and label in o)
            built[label] = self._visit(draft, label, when, self.branch, (choice, label, factory))
        first = choice.options[0]
        assert isinstance(first, tuple)
        return self.together(choice, {label: built[label] for label in first})

    def repeat(self, choice: Choice, factory: Callable[[int], Any], shared: bool) -> Any:
        """Visit the longest; go on with the first count."""
        draft = self._draft(choice)
        counts = [count for count in choice.options if isinstance(count, int)]
        built = []
        for i in range(max(counts)):
            when = frozenset(count for count in counts if count > (0 if shared else i))
            key = "*" if shared else str(i)
            built.append(self._visit(draft, key, when, self.body, (choice, i, factory, shared)))
        return in_sequence(built[: counts[0]])

    def _draft(self, choice: Choice) -> _Draft:
        return self._here.setdefault(choice.name, _Draft(choice))

    def _visit(
        self,
        draft: _Draft,
        key: str,
        when: frozenset[Option],
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> Any:
        above, self._here = self._here, draft.branch(key, when)
        try:
            return call(*arguments)
        finally:
            self._here = above
