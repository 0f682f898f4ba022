"""What can be done with any space: each verb is a walk with another pick.

Spaces with a static tree are served from it, in microseconds; any other space by its `walk`.
Random numbers come from `random.Random`, so that results depend on nothing but its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Literal, TypeVar

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidArchitecture, SpaceError
from parti.core.graph import Graph
from parti.core.protocols import Space
from parti.core.tree import Tree

T = TypeVar("T")

__all__ = [
    "architectures",
    "canonical",
    "choices",
    "crossover",
    "distance",
    "graph_of",
    "mutate",
    "neighbours",
    "sample",
    "size",
    "validate",
]


def sample(
    space: Space, random: Random, *, uniform: Literal["pick", "architecture"] = "pick"
) -> Architecture:
    """Draw one architecture.

    Args:
        space: what to draw from.
        random: the source of random numbers.
        uniform: "pick": every option of a choice is equally likely when it comes up;
            "architecture": every member of the space is equally likely (static spaces only).
            They differ when some options open more choices than others.

    Raises:
        SpaceError: the space is dynamic, and "architecture" was asked for.
    """
    tree = tree_of(space)
    if uniform == "architecture":
        if tree is None:
            raise SpaceError(
                f"{space!r} is dynamic: its size is unknown, so it cannot be sampled uniformly "
                "over architectures; use uniform='pick'"
            )
        return tree.unrank(random.randrange(tree.size))
    if tree is not None:
        return tree.sample(random.random)
    return space.walk(lambda choice: _any(choice.options, random))


def validate(space: Space, architecture: Mapping[str, Option]) -> Architecture:
    """Return the architecture in walking order if it is a member of the space.

    Raises:
        InvalidArchitecture: a decision is missing, not offered, or does not belong to it.
    """

    def pick(choice: Choice) -> Option:
        if choice.name not in architecture:
            raise InvalidArchitecture(
                f"the architecture lacks choice {choice.name!r}; "
                f"its options are {list(choice.options)}"
            )
        return architecture[choice.name]

    walked = space.walk(pick)
    if extra := [name for name in architecture if name not in walked]:
        raise InvalidArchitecture(f"{extra} do not exist under these decisions; leave them out")
    return walked


def choices(space: Space, architecture: Mapping[str, Option]) -> list[Choice]:
    """Return the choices that exist in one architecture, in walking order."""
    tree = tree_of(space)
    if tree is not None:
        return [tree.choices[name] for name in tree.active(architecture)]
    met: list[Choice] = []

    def pick(choice: Choice) -> Option:
        met.append(choice)
        return architecture[choice.name]

    space.walk(pick)
    return met


def mutate(space: Space, parent: Architecture, random: Random) -> Architecture:
    """Change one decision of the parent to another option.

    Decisions that still exist are kept; those that newly exist are drawn. A space without an
    open choice gives back the parent.
    """
    open_ = [choice for choice in choices(space, parent) if len(choice.options) > 1]
    if not open_:
        return parent
    changed = _any(open_, random)
    options = changed.options
    # Draw among the others: skip over the parent's own option.
    place = int(random.random() * (len(options) - 1))
    place += place >= options.index(parent[changed.name])
    return _completed(space, parent.replacing({changed.name: options[place]}), random)


def crossover(
    space: Space,
    mother: Architecture,
    father: Architecture,
    random: Random,
    *,
    points: int | None = None,
) -> Architecture:
    """Take every decision from one of two parents.

    Args:
        space: what both belong to.
        mother: one parent.
        father: the other.
        random: the source of random numbers.
        points: None: uniform, each decision from either parent with equal chance; n: n-point,
            the parent changes at n places of the walk.

    A decision that the drawn parent does not hold comes from the other, or is drawn.
    """
    places = range(1, max(len(mother), len(father)))
    cuts = set(random.sample(places, min(points or 0, len(places))))
    place = 0
    first, second = (mother, father) if random.random() < 0.5 else (father, mother)

    def pick(choice: Choice) -> Option:
        nonlocal first, second, place
        if (place in cuts) if points is not None else random.random() < 0.5:
            first, second = second, first
        place += 1
        for parent in (first, second):
            if choice.name in parent:
                return parent[choice.name]
        return _any(choice.options, random)

    return space.walk(pick)


def neighbours(
    space: Space, architecture: Architecture, random: Random | None = None
) -> Iterator[Architecture]:
    """Every architecture that differs by the change of one decision.

    Decisions that a change brings into existence are drawn with `random`; by default it is
    seeded with the architecture, so that its neighbours are always the same.
    """
    random = random or Random(architecture.fingerprint)
    for choice in choices(space, architecture):
        for option in choice.options:
            if option != architecture[choice.name]:
                yield _completed(space, architecture.replacing({choice.name: option}), random)


def architectures(space: Space) -> Iterator[Architecture]:
    """Every architecture of a finite space once, the last choice changing fastest."""
    tree = tree_of(space)
    if tree is not None:
        yield from tree.members()
        return
    # An odometer over the walk: replay the digits known, take first options beyond them,
    # then turn the last digit that can still be turned.
    digits: list[int] = []
    while True:
        limits: list[int] = []

        def pick(choice: Choice, limits: list[int] = limits) -> Option:
            place = len(limits)
            limits.append(len(choice.options))
            if place == len(digits):
                digits.append(0)
            return choice.options[digits[place]]

        yield space.walk(pick)
        while digits and digits[-1] + 1 == limits[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def size(space: Space, *, most: int = 10_000) -> int | None:
    """Return the exact number of architectures.

    A dynamic space is counted by listing it, and every walk runs its program; None when it has
    more than `most`.
    """
    tree = tree_of(space)
    if tree is not None:
        return tree.size
    count = 0
    for count, _ in enumerate(architectures(space), start=1):
        if count > most:
            return None
    return count


def distance(one: Mapping[str, Option], other: Mapping[str, Option]) -> int:
    """Edit distance: how many choices are decided differently or exist in only one."""
    return sum(
        name not in one or name not in other or one[name] != other[name]
        for name in one.keys() | other.keys()
    )


def canonical(space: Space, architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that build the same network."""
    form = getattr(space, "canonical", None)
    return form(architecture) if form is not None else architecture


def graph_of(space: Space, architecture: Architecture) -> Graph | None:
    """Return an architecture as a graph of operations, or None when the space draws none."""
    drawn = getattr(space, "graph", None)
    graph = drawn(architecture) if drawn is not None else None
    return graph if isinstance(graph, Graph) else None


def tree_of(space: Space) -> Tree | None:
    """Return the static tree of a space, or None."""
    tree = getattr(space, "tree", None)
    return tree if isinstance(tree, Tree) else None


def _completed(space: Space, partial: Architecture, random: Random) -> Architecture:
    def pick(choice: Choice) -> Option:
        known = partial.get(choice.name)
        return _any(choice.options, random) if known is None else known

    return space.walk(pick)


def _any(options: Sequence[T], random: Random) -> T:
    return options[int(random.random() * len(options))]
