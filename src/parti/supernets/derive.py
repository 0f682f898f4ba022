"""Architectures from what a supernet has learned about its options.

An architecture's strength is the product of the strengths of the options it takes. For cells whose
nodes keep k of several edges, the strongest is then DARTS' rule: of every edge the best operation,
and of the edges into a node the k whose best operation is strongest (Liu et al., ICLR 2019,
section 2.4); with strengths of edges too it is PC-DARTS' (Xu et al., ICLR 2020, equation 5).

Where architectures differ in how much they decide (open depths, choices under options), the product
is that of more factors for some: strengths that are probabilities favour those that decide less.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice, labels
from parti.core.errors import InvalidSettings, SpaceError
from parti.core.protocols import Space
from parti.core.tree import Node
from parti.core.walks import tree_of

__all__ = ["derive"]

Way = tuple[float, tuple[tuple[str, Option], ...]]
"""Logarithm of a strength, and what is decided."""

FAINTEST = 1e-30
"""A strength of 0 counts as this, so that such options still have an order."""


def derive(space: Space, strengths: Mapping[str, Tensor], k: int = 1) -> list[Architecture]:
    """Return the k strongest architectures, strongest first.

    Args:
        space: a static space.
        strengths: by choice, one for each option, for a `some_of` one for each label; none is
            negative. Choices that are not in it have options that are all alike, of which the
            first is preferred.
        k: how many; fewer when the space has fewer.

    Raises:
        SpaceError: the space is dynamic.
        InvalidSettings: there is no such choice; it has another number of options; a strength is
            negative or no number; or k is less than 1.
    """
    if k < 1:
        raise InvalidSettings(f"k={k}: at least 1 architecture is derived")
    tree = tree_of(space)
    if tree is None:
        raise SpaceError(f"{space!r} is dynamic: there is no tree of choices to derive from")
    found = {name: _logarithms(tree.choices, name, given) for name, given in strengths.items()}
    return [Architecture(dict(taken)) for _, taken in _together(tree.nodes, found, k)]


def _logarithms(choices: Mapping[str, Choice], name: str, given: Tensor) -> list[float]:
    if name not in choices:
        raise InvalidSettings(f"strengths for {name!r}, but the space asks {list(choices)}")
    choice = choices[name]
    wanted = labels(choice) if choice.kind == "some_of" else choice.options
    values = [float(value) for value in given.detach().flatten()]
    if len(values) != len(wanted) or not all(value >= 0 for value in values):
        raise InvalidSettings(
            f"strengths {values} for choice {name!r}: there must be {len(wanted)} "
            "numbers, none negative"
        )
    return [math.log(max(value, FAINTEST)) for value in values]


def _together(nodes: Sequence[Node], strengths: Mapping[str, list[float]], k: int) -> list[Way]:
    """The k strongest ways to decide all of these."""
    found: list[Way] = [(0.0, ())]
    for node in nodes:
        mine = _ways(node, strengths, k)
        pairs = ((a + b, one + other) for a, one in found for b, other in mine)
        found = _strongest(pairs, k)
    return found


def _ways(node: Node, strengths: Mapping[str, list[float]], k: int) -> list[Way]:
    """The k strongest ways to decide a choice and what lies under it."""
    choice = node.choice
    given = strengths.get(choice.name)
    own = (
        dict(zip(labels(choice), given, strict=True)) if given and choice.kind == "some_of" else {}
    )
    ways: list[Way] = []
    for place, option in enumerate(choice.options):
        below = [child for b in node.branches if option in b.when for child in b.children]
        strength = 0.0
        if isinstance(option, tuple):
            strength = sum(own.get(label, 0.0) for label in option)
        elif given:
            strength = given[place]
        ways += [
            (strength + more, ((choice.name, option), *taken))
            for more, taken in _together(below, strengths, k)
        ]
    return _strongest(ways, k)


def _strongest(ways: Iterable[Way], k: int) -> list[Way]:
    # nlargest keeps the order of equal ones, so the options listed first win.
    return heapq.nlargest(k, ways, key=lambda way: way[0])
