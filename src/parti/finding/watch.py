"""What is told while a search runs, to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from parti.loop import Progress

__all__ = ["Silent", "Watcher"]


class Watcher(Protocol):
    """Shows the course of `find`: on a terminal, in a notebook, in a log."""

    def understood(self, rows: Sequence[tuple[str, str]]) -> None:
        """What is known of data, space and plan, before anything runs."""
        ...

    def stage(self, title: str) -> None:
        """The next stage begins."""
        ...

    def progress(self, progress: Progress) -> None:
        """Something was measured in this stage."""
        ...

    def say(self, text: str) -> None:
        """Anything else worth a line."""
        ...


class Silent:
    """Shows nothing."""

    def understood(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show nothing."""

    def stage(self, title: str) -> None:
        """Show nothing."""

    def progress(self, progress: Progress) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""
