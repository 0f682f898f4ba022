"""The supernet of a search: how it is trained, and what the search makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, InvalidStudy
from parti.core.plugins import load
from parti.core.trial import Proposal
from parti.core.walks import canonical
from parti.evaluators.inherited import InheritedWeights
from parti.evaluators.learner import STATISTICS_IMAGES
from parti.evaluators.recipe import default_recipe
from parti.finding.files import read_json, write_json
from parti.finding.option_costs import time_options
from parti.finding.plan import seconds_per_image
from parti.finding.settings import Settings
from parti.finding.supernet_plan import (
    Rehearsed,
    SupernetPlan,
    fitted,
    halved,
    longest,
    plan_supernet,
    rehearse,
    watched,
)
from parti.recipes import RECIPES
from parti.recipes.bench import Costs
from parti.recipes.costs import ExpectedCost
from parti.recipes.course import stage_space
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.training import SupernetTraining, load_supernet, reached
from parti.supernets.derive import derive
from parti.supernets.share import Relaxed, Supernet
from parti.supernets.subnets import extract
from parti.tasks.splits import part_of
from parti.tasks.values import SearchData

__all__ = ["Extracted", "Sharing", "recipe_of"]

DERIVED = 8
"""So many of the strongest architectures are compared, if nothing else is asked."""

SPARE = 56
"""So many more are listed, for those that break a limit or are one network."""


def recipe_of(given: str | SupernetRecipe) -> SupernetRecipe:
    """Return the recipe of a name; a recipe itself is returned as it is.

    Raises:
        InvalidSettings: there is none of that name, or it is something else.
    """
    found = load("recipe", given, RECIPES) if isinstance(given, str) else given
    if not isinstance(found, SupernetRecipe):
        raise InvalidSettings(
            f"recipe {given!r} is a {type(found).__name__}; give a SupernetRecipe, or the name of "
            f"one: {', '.join(RECIPES)}"
        )
    return found


@dataclass
class Sharing:
    """A supernet and how it is used.

    Args:
        asked: the recipe, as its authors have it, with those of their sizes that the space takes.
        settings: what else was asked.
        data: what the search may see.
        bound: gives the space with some sizes.
        member: gives a network of a space that keeps to the limits, or raises InvalidStudy.
        folder: of the study whose supernet it is.
        threads: of the CPU.
        workers: how many networks are trained at once.
    """

    asked: SupernetRecipe
    settings: Settings
    data: SearchData
    bound: Callable[[Mapping[str, int]], Any]
    member: Callable[[Any], Architecture]
    folder: Path
    threads: int
    workers: int

    @cached_property
    def plan(self) -> SupernetPlan:
        """Sizes, epochs and images."""

        def rehearsed(recipe: SupernetRecipe, steps: int) -> Rehearsed:
            make = partial(self._training, self.bound(recipe.sizes), costs=None)
            return rehearse(make, recipe, self.data, steps)

        def trained(recipe: SupernetRecipe) -> float:
            space = self.bound(recipe.sizes)
            try:
                network = space.build(self.member(space))
            except InvalidStudy:
                return math.inf
            once = default_recipe(self.data, 1)
            return seconds_per_image(network, self.data, once, self.threads)

        file = self.plan_file
        return plan_supernet(
            self.settings, self.asked, self.data, rehearsed, trained, file, self.workers
        )

    @property
    def plan_file(self) -> Path:
        """Where the plan is kept."""
        return self.folder / "supernet.json"

    @cached_property
    def recipe(self) -> SupernetRecipe:
        """How it is trained here."""
        return fitted(halved(self.asked, self.plan.halvings), self.data, self.plan.epochs)

    @cached_property
    def space(self) -> Any:
        """What is shared."""
        return self.bound(self.recipe.sizes)

    @cached_property
    def last_space(self) -> Any:
        """What the supernet holds at the end; a recipe of stages may have made it larger."""
        return stage_space(self.space, self.recipe, len(self.recipe.stages) - 1)

    @property
    def extractable(self) -> bool:
        """Whether its subnets are plain networks of the space, which can be taken out."""
        plain = self.recipe.relaxed_in(-1) == Relaxed()
        return plain and repr(self.last_space) == repr(self.space)

    @property
    def inherits(self) -> bool:
        """Whether the search measures networks with its weights."""
        return self.extractable or not self.recipe.derives

    def training(self) -> SupernetTraining:
        """What trains it."""
        data, images = watched(self.data, self.settings.seed), self.plan.images
        if images < len(data.train_labels):
            data = part_of(data, images, len(data.val_labels), seed=self.settings.seed)
        costs = self._costs() if self.recipe.costs else None
        return self._training(self.space, data, self.recipe, costs=costs)

    def _training(
        self, space: Any, data: SearchData, recipe: SupernetRecipe, costs: Costs | None
    ) -> SupernetTraining:
        return SupernetTraining(
            space,
            data,
            recipe,
            costs=costs,
            device=self.settings.device,
            threads=self.threads,
            seconds=longest(self.settings),
        )

    def _costs(self) -> ExpectedCost:
        """Latency of the options in milliseconds, as it was measured first."""
        kept = read_json(self.costs_file)
        if kept is None:
            found, told = time_options(
                self.space, self.recipe.relaxed_in(0), self.data, self.settings
            )
            rows = [list(row) for row in found.table.items()]
            kept = {"sizes": found.sizes, "table": rows, "measured": told}
            write_json(self.costs_file, kept)
        table = {
            tuple((name, tuple(places)) for name, places in path): cost
            for path, cost in kept["table"]
        }
        return ExpectedCost(kept["sizes"], table)

    @property
    def costs_file(self) -> Path:
        """Where it is kept what options cost, and with what that was measured."""
        return self.folder / "costs.json"

    @property
    def costs_in_words(self) -> str | None:
        """With what it was measured what options cost, in a line; None where it was not."""
        kept = read_json(self.costs_file)
        if kept is None:
            return None
        told = kept.get("measured")
        if told is None:
            return "latency of the options was measured in PyTorch, by an older version of parti"
        refused = "".join(f"NOT with {reason}, but " for reason in told["instead_of"])
        return f"latency of the options was measured {refused}with {told['conditions']}"

    @property
    def trial_folder(self) -> Path:
        """Where its weights are."""
        return self.folder / "supernet" / "trials" / "00000"

    @property
    def load(self) -> Callable[[], Supernet]:
        """Gives the trained supernet; it can be sent to other processes."""
        return partial(_loaded, self.space, self.recipe, self.trial_folder)

    def inherited(self) -> InheritedWeights:
        """Measures architectures with the weights of the trained supernet."""
        most, stage = self.plan.looked_at, reached(self.recipe, self.trial_folder).stage
        return InheritedWeights(
            stage_space(self.space, self.recipe, stage),
            watched(self.data, self.settings.seed, most),
            self.load,
            images=min(STATISTICS_IMAGES, most),
            device=self.settings.device,
            threads=self.threads,
        )

    @property
    def derived(self) -> int:
        """How many of the derived architectures are compared."""
        return self.settings.trials or DERIVED

    def proposals(self) -> list[Proposal]:
        """The architectures that the trained supernet thinks strongest, and some to spare."""
        trained = load_supernet(self.space, self.recipe, self.trial_folder)
        found = derive(self.space, trained.probabilities, self.derived + SPARE)
        different: dict[Architecture, Architecture] = {}
        for architecture in found:
            different.setdefault(canonical(self.space, architecture), architecture)
        return [Proposal(architecture) for architecture in different.values()]


class Extracted:
    """A space whose networks come with the weights that they have in a supernet.

    Args:
        load: gives the trained supernet; called once in every process.
    """

    def __init__(self, load: Callable[[], Supernet]) -> None:
        self._load = load
        self._supernet: Supernet | None = None

    def build(self, architecture: Architecture) -> nn.Module:
        """Return one network with its weights."""
        if self._supernet is None:
            self._supernet = self._load()
        return extract(self._supernet, architecture)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_supernet": None}


def _loaded(space: Any, recipe: SupernetRecipe, folder: Path) -> Supernet:
    return load_supernet(space, recipe, folder).supernet
