"""A strategy that measures what it was given: a list of proposals, each once."""

from __future__ import annotations

from collections.abc import Sequence

from parti.core.trial import Proposal, Trial

__all__ = ["Listed"]


class Listed:
    """Propose a fixed list in order; trial i is proposal i.

    Args:
        proposals: what to measure.
    """

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        self._proposals = tuple(proposals)
        self._known: set[int] = set()

    def ask(self) -> Proposal | None:
        """Return the next of the list, or None at its end."""
        place = len(self._known)
        return self._proposals[place] if place < len(self._proposals) else None

    def tell(self, trial: Trial) -> None:
        """Count it."""
        self._known.add(trial.number)
