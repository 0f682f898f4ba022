"""Strategies decide what to measure next; each is a fold over trials, one paper a file."""

from __future__ import annotations

__all__ = ["STRATEGIES"]

STRATEGIES = {
    "random": "parti.strategies.random_search:RandomSearch",
    "evolution": "parti.strategies.regularized_evolution:RegularizedEvolution",
    "list": "parti.strategies.listed:Listed",
}
"""Built-in strategies by name, loaded on use."""
