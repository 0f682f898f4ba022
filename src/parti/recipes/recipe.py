"""A recipe: how a supernet is trained, as a row on axes.

What is built (`Relaxed`), which paths run and what is updated when (the step), how the weights are
trained (an ordinary training recipe), and which images each of them sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parti.core.errors import InvalidSettings
from parti.evaluators.recipe import Recipe
from parti.supernets.share import Relaxed

__all__ = ["Stage", "SupernetRecipe"]


@dataclass(frozen=True)
class Stage:
    """A part of a training that has a supernet, an optimizer and a schedule of its own.

    Its step takes over what it needs from the step of the stage before.

    Args:
        sizes: arguments of the space; those that its program does not take are left out.
        options: of the step, beside those of the recipe.
        relaxed: how the options of the supernet are built; None for as the recipe says.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    relaxed: Relaxed | None = None


@dataclass(frozen=True)
class SupernetRecipe:
    """How a supernet is trained.

    Args:
        name: what `--recipe` calls it.
        paper: who found it, and where.
        step: "package.module:Name" of what does one step: called with a `Bench` and `options`.
        options: arguments of the step; the authors' by default.
        training: how weights are trained; its epochs are the supernet's.
        held: share of the training images that weights never see, because architecture
            parameters are learned from them; 0 for recipes without.
        relaxed: how the options of the supernet are built.
        space: the space of the paper, taken when none is asked for.
        sizes: arguments of that space in the search.
        derives: whether it says itself which architectures are best; else a strategy searches
            them with inherited weights.
        searched_by: the name of that strategy, unless another is asked for.
        stages: parts of the training, one after another and equally long; by default it is one.
        costs: whether its loss counts what architectures cost: `Bench.costs`, in milliseconds.
        one_schedule: whether the learning rate falls once over all stages, not in each.

    Raises:
        InvalidSettings: `held` is no share, or there are more stages than epochs.
    """

    name: str
    paper: str
    step: str
    training: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    held: float = 0.0
    relaxed: Relaxed = field(default_factory=Relaxed)
    space: str = "darts"
    sizes: Mapping[str, int] = field(default_factory=dict)
    derives: bool = False
    searched_by: str = "evolution"
    costs: bool = False
    stages: tuple[Stage, ...] = ()
    one_schedule: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.held < 1.0:
            raise InvalidSettings(f"held={self.held}: choose a share from 0 to less than 1")
        if len(self.stages) > self.training.epochs:
            raise InvalidSettings(
                f"recipe {self.name!r} has {len(self.stages)} stages, but is to train for "
                f"{self.training.epochs} epochs; it needs at least one for each"
            )

    def relaxed_in(self, stage: int) -> Relaxed:
        """How options are built in a stage, numbered from 0."""
        own = self.stages[stage].relaxed if self.stages else None
        return self.relaxed if own is None else own
