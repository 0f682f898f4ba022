"""How the winner did against the baselines, in the words that every part of the report uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from parti.reports.facts import Rival

__all__ = ["Standing", "difference", "same_network", "standing", "verdict"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the winner did against the others, by their names.

    Args:
        ahead: those that it is better than.
        level: those that differ from it by no more than chance makes it.
        behind: those that are better.
        same: searches that found the very same network.
    """

    ahead: tuple[str, ...]
    level: tuple[str, ...]
    behind: tuple[str, ...]
    same: tuple[str, ...]


def verdict(rivals: Sequence[Rival]) -> str:
    """Say in a sentence how the winner (the first) did against the others."""
    found = standing(rivals)
    groups = (
        ("ahead of", found.ahead),
        ("level with", found.level),
        ("behind", found.behind),
        ("the same network as that of", found.same),
    )
    text = ", ".join(f"{words} {' and '.join(names)}" for words, names in groups if names)
    return f"{text[0].upper()}{text[1:]}, on the same test split"


def standing(rivals: Sequence[Rival]) -> Standing:
    """Return how the winner (the first) did against the others."""
    winner, groups = rivals[0], dict[str, list[str]]()
    for rival in rivals[1:]:
        if same_network(winner, rival):
            group = "same"
        elif _level(winner, rival):
            group = "level"
        else:
            group = "ahead" if (winner.accuracy or 0) > (rival.accuracy or 0) else "behind"
        groups.setdefault(group, []).append(rival.name)
    names = ("ahead", "level", "behind", "same")
    return Standing(*(tuple(groups.get(name, ())) for name in names))


def same_network(winner: Rival, rival: Rival) -> bool:
    """Whether another search found the very network that won."""
    found = rival.record.get("fingerprint")
    search = rival.record.get("kind") == "search"
    return bool(search and found and found == winner.record.get("fingerprint"))


def _level(a: Rival, b: Rival) -> bool:
    """Whether the difference of two accuracies is within their sampling error."""
    found = difference(a, b)
    return a.accuracy == b.accuracy if found is None else found[1] <= 0 <= found[2]


def difference(a: Rival, b: Rival) -> tuple[float, float, float] | None:
    """Return by how much the test accuracy of one is above that of another, with 95 % bounds.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", Statistics in Medicine 17, 1998: method 10, from the score
    intervals of both.

    Returns:
        The difference and its bounds, from -1 to 1; None where one of them has no interval.
    """
    if a.accuracy is None or b.accuracy is None or not a.interval or not b.interval:
        return None
    apart = a.accuracy - b.accuracy
    low = apart - math.hypot(a.accuracy - a.interval[0], b.interval[1] - b.accuracy)
    high = apart + math.hypot(a.interval[1] - a.accuracy, b.accuracy - b.interval[0])
    return apart, low, high
