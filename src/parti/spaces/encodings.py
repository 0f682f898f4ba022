"""Architectures as vectors, for predictors and for figures.

Both encodings have a fixed length for a space, whatever exists in an architecture, and tell any
two architectures apart. They need the static tree of a space. Isomorphic architectures differ:
encode their canonical form where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidArchitecture, SpaceError
from parti.core.protocols import Space
from parti.core.tree import Tree
from parti.core.walks import tree_of

__all__ = ["one_hot", "one_hot_names", "ordinal", "ordinal_names"]

Vector = NDArray[np.float32]


def one_hot(space: Space, architecture: Architecture) -> Vector:
    """Encode each option of each choice as a number that is 1 where it is taken, else 0.

    For `some_of` there is one number for each label instead, 1 where it is among the chosen. A
    choice that does not exist in the architecture is all zeros.

    Args:
        space: what the architecture belongs to; its tree must be static.
        architecture: to encode.

    Returns:
        A vector of float32, as long as `one_hot_names(space)`.

    Raises:
        SpaceError: the space is dynamic.
        InvalidArchitecture: the architecture holds what the space does not offer.
    """
    tree = _tree(space)
    _check(space, tree, architecture)
    flags: list[bool] = []
    for name, choice in tree.choices.items():
        columns = _columns(choice)
        if name not in architecture:
            flags.extend([False] * len(columns))
            continue
        taken = architecture[name]
        if choice.kind == "some_of":
            assert isinstance(taken, tuple)
            flags.extend(label in taken for label in columns)
        else:
            flags.extend(option == taken for option in columns)
    return np.array(flags, dtype=np.float32)


def one_hot_names(space: Space) -> list[str]:
    """Names of the numbers that `one_hot` gives: choice and option, as in `stage1/width=16`.

    Raises:
        SpaceError: the space is dynamic.
    """
    return [
        f"{name}={option}"
        for name, choice in _tree(space).choices.items()
        for option in _columns(choice)
    ]


def ordinal(space: Space, architecture: Architecture) -> Vector:
    """Encode each choice as two numbers: where its option stands, and whether it exists.

    The first option is 0 and the last one 1, so on a scale (widths, depths) near numbers mean
    similar networks; options that are no scale stand in the order they were listed. A choice
    that does not exist is 0 and 0.

    Args:
        space: what the architecture belongs to; its tree must be static.
        architecture: to encode.

    Returns:
        A vector of float32, as long as `ordinal_names(space)`.

    Raises:
        SpaceError: the space is dynamic.
        InvalidArchitecture: the architecture holds what the space does not offer.
    """
    tree = _tree(space)
    _check(space, tree, architecture)
    numbers: list[float] = []
    for name, choice in tree.choices.items():
        if name in architecture:
            last = max(1, len(choice.options) - 1)
            numbers += (choice.options.index(architecture[name]) / last, 1.0)
        else:
            numbers += (0.0, 0.0)
    return np.array(numbers, dtype=np.float32)


def ordinal_names(space: Space) -> list[str]:
    """Names of the numbers that `ordinal` gives: `stage1/width` and `stage1/width exists`, ...

    Raises:
        SpaceError: the space is dynamic.
    """
    return list(_ordinal_names(_tree(space).choices))


def _ordinal_names(names: Mapping[str, Choice]) -> Iterator[str]:
    for name in names:
        yield name
        yield f"{name} exists"


def _columns(choice: Choice) -> tuple[Option, ...]:
    if choice.kind != "some_of":
        return choice.options
    # Subsets are listed in the labels' order; a dict keeps the first of each.
    labels = {
        label: None for subset in choice.options if isinstance(subset, tuple) for label in subset
    }
    return tuple(labels)


def _tree(space: Space) -> Tree:
    tree = tree_of(space)
    if tree is None:
        raise SpaceError(
            f"{space!r} is dynamic: its choices are not known beforehand, so architectures have "
            "no encoding of fixed length; use one_of and repeat instead of Python control flow "
            "on chosen values"
        )
    return tree


def _check(space: Space, tree: Tree, architecture: Architecture) -> None:
    for name, option in architecture.items():
        if name not in tree.choices:
            raise InvalidArchitecture(f"{space!r} has no choice {name!r}; validate it first")
        if option not in tree.choices[name].options:
            raise InvalidArchitecture(
                f"choice {name!r} does not offer {option!r}; its options are "
                f"{list(tree.choices[name].options)}"
            )
