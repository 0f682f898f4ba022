"""An architecture as several groups of features, each a view of its own.

    choices      what was decided, choice by choice
    scales       the same for ordered choices alone, as places on their scales
    totals       the same summed over all places: how many conv3, how wide altogether
    paths        sequences of operations from input to output (`parti.spaces.paths`)
    subtrees     operations with what follows them
    statistics   of the graph: operations in all, and along its paths

Isomorphic architectures have equal features, for their canonical form is described. A space that
draws no graphs has the first three groups alone. No group needs a static tree.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from parti.core.architecture import Architecture
from parti.core.choice import Choice
from parti.core.graph import Graph
from parti.core.protocols import Space
from parti.core.walks import canonical, choices, graph_of
from parti.spaces.paths import Bag, paths, subtrees

__all__ = ["describe"]

PLACE = re.compile(r"\[[^]]*\]|\d+")
"""What tells two places of one kind apart in the name of a choice."""


def describe(space: Space, architecture: Architecture) -> dict[str, Bag]:
    """Return the features of an architecture, group by group.

    Args:
        space: what it belongs to.
        architecture: to describe.
    """
    form = canonical(space, architecture)
    decided = choices(space, form)
    groups: dict[str, Bag] = {
        "choices": _choices(decided, form),
        "scales": _scales(decided, form),
        "totals": _totals(decided, form),
    }
    graph = graph_of(space, form)
    if graph is not None:
        found = paths(graph, most=MOST_PATHS)
        groups["paths"] = {" > ".join(path): 1.0 for path in found}
        groups["subtrees"] = {k: float(n) for k, n in subtrees(graph, 1)[1].items()}
        groups["statistics"] = _statistics(graph, found)
    return groups


MOST_PATHS = 512
"""Longer paths of a graph with more are left out."""


def _choices(decided: list[Choice], architecture: Mapping[str, object]) -> Bag:
    bag: dict[str, float] = {}
    for choice in decided:
        option = architecture[choice.name]
        for value in option if isinstance(option, tuple) else (option,):
            bag[f"{choice.name}={value}"] = 1.0
    return bag


def _scales(decided: list[Choice], architecture: Mapping[str, object]) -> Bag:
    bag: dict[str, float] = {}
    for choice in decided:
        if choice.ordered:
            bag[choice.name] = _place(choice, architecture[choice.name])
            bag[f"{choice.name} exists"] = 1.0
    return bag


def _totals(decided: list[Choice], architecture: Mapping[str, object]) -> Bag:
    bag: defaultdict[str, float] = defaultdict(float)
    for choice in decided:
        option, kind = architecture[choice.name], PLACE.sub("", choice.name)
        if choice.ordered:
            bag[kind] += _place(choice, option)
            bag[f"{kind} exists"] += 1
        else:
            for value in option if isinstance(option, tuple) else (option,):
                bag[f"{kind}={value}"] += 1
    return dict(bag)


def _place(choice: Choice, option: object) -> float:
    """Where an option stands on its scale, from 0 to 1."""
    return choice.options.index(option) / max(1, len(choice.options) - 1)


def _statistics(graph: Graph, found: frozenset[tuple[str, ...]]) -> Bag:
    bag: Counter[str] = Counter()
    for label in graph.labels:
        bag[f"{label} in all"] += 1
    for path in found:
        for label, times in Counter(path).items():
            bag[f"{label} in a row"] = max(bag[f"{label} in a row"], times)
            bag[f"{label} on paths"] += times
        bag["longest path"] = max(bag["longest path"], len(path))
        bag["shortest path"] = min(bag.get("shortest path", len(path)), len(path))
    bag["paths"] = len(found)
    bag["edges"] = len(graph.edges)
    return dict(bag)
