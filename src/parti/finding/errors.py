"""How the main job can end without a result."""

from __future__ import annotations

from parti.core.errors import PartiError

__all__ = ["NothingFound"]


class NothingFound(PartiError):
    """The search has ended without a network that could be trained."""
