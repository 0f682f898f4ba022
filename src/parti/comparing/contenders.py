"""Contenders: strategies by name, with hyper-parameters, set before a problem."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from parti.comparing.code import code_digest
from parti.core.errors import InvalidSettings, PartiError
from parti.core.plugins import load, locate
from parti.core.protocols import Strategy
from parti.core.study import Study
from parti.core.walks import sample
from parti.strategies import STRATEGIES
from parti.tables.problem import Problem

__all__ = ["Contender", "contenders_of"]

ALL = "all"
"""Stands for every built-in strategy that needs no more than a space and a study."""

RESERVED = ("space", "study")


@dataclass(frozen=True)
class Contender:
    """A strategy with hyper-parameters.

    Args:
        spec: "evolution", "evolution:population=50,tournament=10", "package.module:Name",
            "path/to/file.py:Name", or one of the last two with ":key=value,..." at its end.

    Raises:
        InvalidSettings: a hyper-parameter is not written as key=value.
    """

    spec: str

    def __post_init__(self) -> None:
        _ = self.arguments

    @property
    def strategy(self) -> str:
        """The strategy's name or place, without hyper-parameters."""
        head, _, tail = self.spec.rpartition(":")
        return head if head and "=" in tail else self.spec

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The hyper-parameters given, as numbers, booleans, None or text."""
        if self.strategy == self.spec:
            return {}
        given: dict[str, Any] = {}
        for pair in self.spec[len(self.strategy) + 1 :].split(","):
            key, sign, value = (part.strip() for part in pair.partition("="))
            if not key or not sign or key in RESERVED or key in given:
                raise InvalidSettings(
                    f"{self.spec!r}: write hyper-parameters as NAME:key=value,key=value, each "
                    f"key once and none of {', '.join(RESERVED)}; got {pair!r}"
                )
            given[key] = _value(value)
        return given

    @property
    def label(self) -> str:
        """How it is called in tables: a strategy from a module or file goes by its own name."""
        name = self.strategy.rpartition(":")[2]
        return name + self.spec[len(self.strategy) :]

    @cached_property
    def code(self) -> str:
        """Digest of its source and of all of parti that it imports."""
        module, _ = locate("strategy", self.strategy, STRATEGIES)
        return code_digest([module.__name__])

    def check(self) -> None:
        """Find it and look at its signature, so that errors come now and not within a run.

        Raises:
            InvalidSettings: it is not there, cannot be made from a space and a study, or lacks a
                hyper-parameter of that name.
        """
        _ = self._accepted

    def wants_scores(self, problem: Problem) -> bool:
        """Whether it takes training-free scores, and the problem has some."""
        if "scores" not in self._accepted:
            return False
        return bool(problem.scores(sample(problem.space, Random(0))))

    def unfit(self, problem: Problem, *, oracle: bool) -> str | None:
        """Say why it cannot be compared on a problem, or None when it can."""
        if "min_fidelity" in self._accepted and (oracle or len(problem.fidelities) < 2):
            return "needs several fidelities"
        try:
            self.make(problem, problem.study(seed=0), oracle=oracle, scores=False)
        except PartiError as error:
            return str(error)
        return None

    def make(
        self, problem: Problem, study: Study, *, oracle: bool, scores: bool, timed: bool = False
    ) -> Strategy:
        """Return the strategy, new, for one search.

        It is offered what the problem has and its signature asks for: `fidelity`, or
        `min_fidelity` and `max_fidelity`, or all `fidelities`; and `scores`. A strategy that can
        do with one fidelity gets several only where time is limited: where evaluations are, a
        short one counts as much as a long one.

        Args:
            problem: what is searched.
            study: the question, with the seed.
            oracle: whether the truth is searched, which has one fidelity.
            scores: whether training-free scores may be used.
            timed: whether virtual time is limited.

        Raises:
            InvalidSettings: it is not a strategy, or lacks a hyper-parameter of that name.
        """
        offered: dict[str, Any] = {}
        if problem.fidelities and not oracle:
            offered = {"fidelity": problem.default_fidelity}
            if timed or "min_fidelity" in self._accepted:
                offered |= {
                    "fidelities": problem.fidelities,
                    "min_fidelity": problem.fidelities[0],
                    "max_fidelity": problem.fidelities[-1],
                }
        if scores and self.wants_scores(problem):
            offered["scores"] = problem.scores
        accepted = self._accepted
        given = {key: value for key, value in offered.items() if key in accepted}
        made: Strategy = self._maker(problem.space, study, **{**given, **self.arguments})
        return made

    @cached_property
    def _maker(self) -> Callable[..., Any]:
        maker: Callable[..., Any] = load("strategy", self.strategy, STRATEGIES)
        return maker

    @cached_property
    def _accepted(self) -> dict[str, inspect.Parameter]:
        parameters = dict(inspect.signature(self._maker).parameters)
        for name in RESERVED:
            if parameters.pop(name, None) is None:
                raise InvalidSettings(
                    f"{self.spec!r} cannot be compared: a strategy is made from a space and a "
                    f"study, as Name(space, study, *, ...); this takes ({', '.join(parameters)})"
                )
        unknown = [key for key in self.arguments if key not in parameters]
        if unknown:
            raise InvalidSettings(
                f"{self.spec!r}: no hyper-parameter {', '.join(unknown)}; "
                f"there are {', '.join(parameters) or 'none'}"
            )
        needed = inspect.Parameter.empty
        lacking = [
            name
            for name, parameter in parameters.items()
            if parameter.default is needed
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and name not in self.arguments
            and "fidelit" not in name
        ]
        if lacking:
            raise InvalidSettings(
                f"{self.spec!r} cannot be compared without {', '.join(lacking)}; give it as "
                f"{self.spec}:{lacking[0]}=VALUE, or wrap the strategy in a function of a space "
                "and a study"
            )
        return parameters


def contenders_of(specs: Iterable[str]) -> list[Contender]:
    """Return the contenders named; "all" stands for every built-in that needs no more.

    Raises:
        InvalidSettings: one cannot be found or compared, or is named twice, or there is none.
    """
    found: list[Contender] = []
    for spec in specs:
        if spec != ALL:
            found.append(Contender(spec))
            found[-1].check()
            continue
        named = {contender.spec for contender in found}
        found += [c for c in map(Contender, STRATEGIES) if c.spec not in named and _complete(c)]
    labels = [contender.label for contender in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InvalidSettings(f"named twice: {', '.join(twice)}; name each strategy once")
    if not found:
        raise InvalidSettings("nothing to compare; name strategies, or 'all'")
    return found


def _complete(contender: Contender) -> bool:
    try:
        contender.check()
    except InvalidSettings:
        return False
    return True


def _value(text: str) -> Any:
    special = {"true": True, "false": False, "none": None}
    if text.lower() in special:
        return special[text.lower()]
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, int | float) else text
