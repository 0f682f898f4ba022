"""What was given as objects, from Python, where a command line gives names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parti.core.protocols import Space, Strategy
from parti.core.study import Study

if TYPE_CHECKING:
    from parti.recipes.recipe import SupernetRecipe

__all__ = ["Given"]


@dataclass(frozen=True, slots=True)
class Given:
    """The objects behind some settings.

    Args:
        data: whatever `parti.tasks.images.read_images` reads.
        space: a space, or the name of one.
        strategy: what makes a strategy of a space and a study, or the name of one.
        recipe: how a supernet is trained, or the name of it; None for none.
    """

    data: object
    space: str | Space = "auto"
    strategy: str | Callable[[Space, Study], Strategy] = "auto"
    recipe: str | SupernetRecipe | None = None
