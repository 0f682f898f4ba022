"""The section of the report on the study that a search started from, and what that brought."""

from __future__ import annotations

from collections.abc import Mapping

from parti.reports.facts import Facts, Rival
from parti.reports.formats import count, finite, percent
from parti.reports.markup import Html, join, tag
from parti.reports.standing import difference

__all__ = ["start_section"]

SCRATCH = "winner from scratch"
"""The baseline that is the winner's network, trained without the weights of the other study."""


def start_section(facts: Facts) -> Html | None:
    """Return where the weights came from, and the difference they made; None without any."""
    start = facts.get("init")
    if not isinstance(start, Mapping):
        return None
    study = tag("code", str(start.get("study", "")))
    values, of_values = finite(start.get("values")), finite(start.get("of_values"))
    given = None
    if values is not None and of_values:
        given = (
            f": {percent(values / of_values)} of its weights ({count(start.get('tensors'))} of "
            f"{count(start.get('of_tensors'))} tensors)"
        )
    images = "the same images" if start.get("same_data") else "other images"
    return join(
        tag("p", "The winner began with weights of study ", study, f", trained on {images}", given,
            ". The rest began fresh."
            if given and values != of_values
            else "."),
        *(tag("p", _brought(facts.rivals[0], rival)) for rival in facts.rivals[1:]
          if rival.name == SCRATCH),
    )  # fmt: skip


def _brought(winner: Rival, scratch: Rival) -> str:
    """What the weights brought, in a sentence."""
    found = difference(winner, scratch)
    if found is None:
        return "The same network from scratch could not be tested, so what they brought is unknown."
    apart, low, high = found
    if low <= 0 <= high:
        sure = "which may be chance, so it is not known whether they helped"
    elif apart > 0:
        sure = "more than chance makes it: they helped"
    else:
        sure = "more than chance makes it: they did harm"
    return (
        f"The same network from scratch, trained for as many epochs, reached "
        f"{percent(scratch.accuracy)} on the test split; with them it has {100 * apart:+.1f} "
        f"points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}), {sure}."
    )
