"""A choice: a name and the options it offers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from parti.core.architecture import Option
from parti.core.errors import SpaceError

__all__ = ["Choice", "labels", "subsets"]

MOST_OPTIONS = 65_536
"""More options than this in one choice are a mistake, or several choices in one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision: a name and its options.

    Args:
        name: the full name, with the scopes, options and repeats it lies under:
            `normal/op`, `op=conv3/kernel`, `depth[2]/op`.
        options: what may be picked; at least one, all different.
        ordered: whether the options are a scale (width, depth, kernel), so that neighbours
            in the list are similar.
        kind: the word that asked: "choose", "one_of", "some_of" or "repeat".
    """

    name: str
    options: tuple[Option, ...]
    ordered: bool = False
    kind: str = "choose"


def check_options(name: str, options: object, where: str) -> tuple[Option, ...]:
    """Return options as a tuple.

    Raises:
        SpaceError: there are none, or one is not allowed, or two are equal.
    """
    if isinstance(options, str) or not hasattr(options, "__iter__"):
        raise SpaceError(
            f"choice {name!r} at {where}: options must be a list or tuple, got {options!r}"
        )
    found: tuple[Option, ...] = tuple(options)
    if not found:
        raise SpaceError(f"choice {name!r} at {where} has no options; give it at least one")
    for option in found:
        plain = isinstance(option, str | int | float | bool) or (
            isinstance(option, tuple) and all(isinstance(item, str) for item in option)
        )
        if not plain:
            raise SpaceError(
                f"choice {name!r} at {where}: {option!r} is a {type(option).__name__}; an option "
                "is a str, int, float, bool or tuple of str. Choose a label and look the "
                "object up by it, or use one_of for modules"
            )
        if isinstance(option, float) and not math.isfinite(option):
            raise SpaceError(f"choice {name!r} at {where}: {option!r} is not a finite number")
    if len(set(found)) < len(found):
        raise SpaceError(f"choice {name!r} at {where} offers the same option twice: {list(found)}")
    return found


def subsets(labels: tuple[str, ...], k: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    """All subsets of the labels with a size in `k`, each in the labels' order."""
    return tuple(subset for size in k for subset in combinations(labels, size))


def labels(choice: Choice) -> tuple[str, ...]:
    """What a `some_of` chooses from, in the order of its declaration."""
    return tuple(
        dict.fromkeys(
            label for option in choice.options if isinstance(option, tuple) for label in option
        )
    )


def count_subsets(n: int, k: tuple[int, ...]) -> int:
    """How many subsets `subsets` would list."""
    return sum(math.comb(n, size) for size in k)
