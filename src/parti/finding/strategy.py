"""The strategy of a search: the one that was asked for, with what its plan decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings
from parti.core.plugins import load
from parti.core.protocols import Strategy
from parti.core.study import Budget, Study
from parti.strategies import STRATEGIES
from parti.strategies.listed import Listed

if TYPE_CHECKING:
    from parti.finding.desk import Desk

__all__ = ["check_strategy", "make_strategy", "strategy_arguments", "strategy_name"]

DERIVED = "strongest"
"""What the search is called where a supernet says which architectures are best."""


def make_strategy(desk: Desk, study: Study) -> Strategy:
    """Return the strategy that was asked for, with `strategy_arguments`.

    Raises:
        InvalidSettings: there is no such strategy, or it cannot be made like this.
    """
    if desk.shared is not None and desk.derives:
        return Listed(desk.shared.proposals())
    name, made = strategy_name(desk), _maker(desk)
    try:
        strategy = made(desk.space, study, **strategy_arguments(desk))
    except TypeError as error:
        raise InvalidSettings(
            f"strategy {name!r} cannot be made from a space and a study alone ({error}); "
            "give a function that makes it to parti.find(..., strategy=...)"
        ) from error
    if not isinstance(strategy, Strategy):
        raise InvalidSettings(
            f"strategy {name!r} gives a {type(strategy).__name__} without ask and tell"
        )
    return strategy


def check_strategy(desk: Desk) -> None:
    """See that the strategy can be made, before anything is trained.

    Raises:
        InvalidSettings: it cannot, or it does not go with the recipe.
    """
    asked = desk.asked_recipe
    if asked is None or not desk.derives:
        make_strategy(desk, desk.study("", budget=Budget(), seed=0))
        if desk.inherits and "max_fidelity" in _parameters(desk):
            raise InvalidSettings(
                f"strategy {strategy_name(desk)!r} trains networks longer and longer, but with "
                "inherited weights none is trained; take another, or leave out the recipe"
            )
    elif desk.settings.strategy != "auto":
        raise InvalidSettings(
            f"recipe {asked.name!r} says itself which architectures are best, so that there is "
            f"nothing to do for strategy {desk.settings.strategy!r}: leave it out, or take a "
            "recipe whose supernet is searched, as single-path"
        )


def strategy_name(desk: Desk) -> str:
    """The strategy's name; with a recipe, that of its paper unless another is asked for."""
    asked = desk.asked_recipe
    if asked is None or desk.settings.strategy != "auto":
        return desk.settings.strategy
    return DERIVED if asked.derives else asked.searched_by


def strategy_arguments(desk: Desk) -> dict[str, Any]:
    """What the plan decides for the strategy, as far as it is one of parti's by name.

    An evolution gets a population that the trials are enough for, with a quarter of it in a
    tournament, as in the paper; a strategy of several fidelities trains from a ninth of the
    epochs planned for a trial up to all of them. `auto` is told what its first networks cost,
    unless time is limited: large networks, which it would begin with, take most of it.
    """
    if desk.shared is not None and desk.derives:
        return {"k": desk.shared.derived}
    if not isinstance(desk.given.strategy, str):
        return {}
    taken = _parameters(desk)
    if "tournament" in taken and strategy_name(desk) == "evolution":
        size = desk.plan.population
        return {"population": size, "tournament": max(2, round(size / 4))}
    if strategy_name(desk) == "auto" and desk.settings.seconds is None:
        return {"scores": desk.costs, "scored": "first"}
    if "max_fidelity" in taken:
        most = desk.plan.epochs
        return {"min_fidelity": max(1, most // 9), "max_fidelity": most}
    return {}


def _parameters(desk: Desk) -> Mapping[str, Parameter]:
    return signature(_maker(desk)).parameters


def _maker(desk: Desk) -> Callable[..., Any]:
    own, name = desk.given.strategy, strategy_name(desk)
    made = load("strategy", name, STRATEGIES) if isinstance(own, str) else own
    if not callable(made):
        raise InvalidSettings(
            f"strategy {name!r} is a {type(made).__name__}; give a class, or a function that "
            "makes a strategy of a space and a study"
        )
    return made
