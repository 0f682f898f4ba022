"""`@space`: a space program as an object that can be walked and built."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial, update_wrapper
from random import Random
from typing import Any, TypeVar, overload

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidArchitecture, PartiError, SpaceError
from parti.core.graph import Graph
from parti.core.tree import Trace, Tree
from parti.core.words import Decide, EndlessSpace, reading, reading_as

__all__ = ["Program", "missing", "space"]

R = TypeVar("R", bound=Decide)
Canonical = Callable[[Architecture], Architecture]
Drawn = Callable[[Architecture], Graph]

MOST_CHECKS = 64
RANDOM_CHECKS = 4
"""A traced tree must foresee this many walks: some that together take every option, some random."""


class Program:
    """A space that is declared by a program; made by `@space`.

    Calling it outside any walk binds arguments and gives a space; calling it inside another
    program runs it in place, so that spaces are composed as functions are.

    Args:
        function: the program; a function, or a class such as an `nn.Module`.
        arguments: bound positional arguments.
        keywords: bound keyword arguments.
        dynamic: True: Python control flow depends on chosen values, so there is no static tree;
            False: there must be one; None: find out.
        canonical: maps an architecture to the one that stands for all isomorphic to it.
        graph: draws an architecture as a graph of operations.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
        *,
        dynamic: bool | None = None,
        canonical: Canonical | None = None,
        graph: Drawn | None = None,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.keywords = dict(keywords or {})
        self._dynamic = dynamic
        self._canonical = canonical
        self._graph = graph
        self._weightless = True
        update_wrapper(self, function, updated=())

    @property
    def name(self) -> str:
        """The program's name."""
        return str(self.function.__name__)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run in place inside a walk; else return the space with these arguments bound.

        Raises:
            SpaceError: the program does not take these arguments.
        """
        if reading() is not None:
            return self.function(*self.arguments, *arguments, **{**self.keywords, **keywords})
        made = Program(
            self.function,
            (*self.arguments, *arguments),
            {**self.keywords, **keywords},
            dynamic=self._dynamic,
            canonical=self._canonical,
            graph=self._graph,
        )
        try:
            inspect.signature(self.function).bind_partial(*made.arguments, **made.keywords)
        except TypeError as error:
            raise SpaceError(
                f"{self!r} is a space, not a network, and its program does not take these "
                f"arguments ({error}); build a network with .build(architecture)"
            ) from error
        return made

    def walk(self, pick: Callable[[Choice], Option]) -> Architecture:
        """Decide every choice that comes up.

        Raises:
            SpaceError: the program breaks a rule.
            InvalidArchitecture: `pick` answers with something that a choice does not offer.
        """
        if self.tree is not None:
            return self.tree.walk(pick)
        return self._decide(pick).architecture()

    def build(self, architecture: Mapping[str, Option]) -> Any:
        """Build one member: what the program returns, an ordinary network for most.

        Weights come from torch's global random numbers.

        Raises:
            InvalidArchitecture: a decision is missing, not offered, or not part of the space.
            SpaceError: the program breaks a rule.
        """
        run = Decide(lambda choice: _decided(architecture, choice))
        with reading_as(run):
            built = self._call()
        if len(run.decisions) < len(architecture):
            extra = [name for name in architecture if name not in run.decisions]
            raise InvalidArchitecture(f"{self!r} does not ask for {extra} in this architecture")
        return built

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture that stands for all that build the same network."""
        return self._canonical(architecture) if self._canonical else architecture

    def graph(self, architecture: Architecture) -> Graph | None:
        """Return the architecture as a graph of operations; None when the space draws none."""
        return self._graph(architecture) if self._graph else None

    @cached_property
    def tree(self) -> Tree | None:
        """The static tree; None when the space is dynamic.

        Raises:
            SpaceError: the program breaks a rule, or is dynamic although declared not to be.
        """
        if self._dynamic:
            return None
        try:
            trace = self._survey(lambda _: Trace())
        except (EndlessSpace, RecursionError) as error:
            self._refuse_dynamic(str(error) or "the program recurses too deep", error)
            return None
        tree = trace.tree()
        for pick in self._checks(tree):
            walked = self._decide(pick)
            expected = {name: tree.choices[name] for name in tree.active(walked.decisions)}
            if {choice.name: choice for choice, _ in walked.names.seen.values()} != expected:
                self._refuse_dynamic("control flow depends on a chosen value", None)
                return None
        return tree

    def _checks(self, tree: Tree) -> Iterator[Callable[[Choice], Option]]:
        """Walks that a correct tree must foresee: every option once, and some at random."""
        most = max((len(choice.options) for choice in tree.choices.values()), default=0)
        for turn in range(min(most, MOST_CHECKS)):
            yield partial(_turn, turn)
        for seed in range(RANDOM_CHECKS):
            yield partial(_draw, Random(seed))

    def _refuse_dynamic(self, why: str, error: BaseException | None) -> None:
        if self._dynamic is False:
            raise SpaceError(f"{self!r} is declared dynamic=False, but {why}") from error

    def _decide(self, pick: Callable[[Choice], Option]) -> Decide:
        def start(known: Mapping[str, Option]) -> Decide:
            return Decide(lambda c: known[c.name] if c.name in known else pick(c), builds=False)

        try:
            return self._survey(start)
        except RecursionError as error:
            raise EndlessSpace(
                f"{self!r} recursed too deep; does it recurse without end? Limit its depth"
            ) from error

    def _survey(self, start: Callable[[Mapping[str, Option]], R]) -> R:
        """Run the program for its choices alone: weights take no memory and no random numbers.

        `start` makes the reading; it is given the decisions of an attempt that has failed.
        """
        run = start({})
        if self._weightless:
            try:
                with reading_as(run), _meta():
                    self._call()
                return run
            except Exception as error:
                if isinstance(_first(error), PartiError | RecursionError):
                    raise
            # It may compute with its weights, which the meta device cannot; if something else is
            # wrong, that comes up again.
            run = start(run.decisions)
        with reading_as(run), _untouched_random():
            self._call()
        self._weightless = False
        return run

    def _call(self) -> Any:
        if lacking := missing(self.function, self.arguments, self.keywords):
            raise SpaceError(
                f"{self!r} needs arguments: {', '.join(lacking)}; "
                f"bind them with {self.name}({lacking[0]}=...)"
            )
        return self.function(*self.arguments, **self.keywords)

    def __repr__(self) -> str:
        given = [*map(repr, self.arguments), *(f"{k}={v!r}" for k, v in self.keywords.items())]
        return f"space {self.name}({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        module, name = self.function.__module__, self.function.__qualname__
        found = _resolve(module, name)
        if isinstance(found, Program) and found.function is self.function and module != "__main__":
            return (_bound, (module, name, self.arguments, self.keywords))
        options = {"dynamic": self._dynamic, "canonical": self._canonical, "graph": self._graph}
        return (_made, (self.function, self.arguments, self.keywords, options))


@overload
def space(function: Callable[..., Any], /) -> Program: ...
@overload
def space(
    *,
    dynamic: bool | None = None,
    canonical: Canonical | None = None,
    graph: Drawn | None = None,
) -> Callable[[Callable[..., Any]], Program]: ...
def space(
    function: Callable[..., Any] | None = None,
    /,
    *,
    dynamic: bool | None = None,
    canonical: Canonical | None = None,
    graph: Drawn | None = None,
) -> Program | Callable[[Callable[..., Any]], Program]:
    """Declare a space: decorate a function or class that builds a network and asks.

    Args:
        function: the program.
        dynamic: whether Python control flow depends on chosen values (a static space is
            sampled in microseconds, a dynamic one by running it); found out when None.
        canonical: maps an architecture to the one that stands for all isomorphic to it.
        graph: draws an architecture as a graph of operations, for strategies that learn from
            graphs.
    """
    if function is not None:
        return Program(function, dynamic=dynamic, canonical=canonical, graph=graph)
    return lambda program: Program(program, dynamic=dynamic, canonical=canonical, graph=graph)


def missing(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> list[str]:
    """Names of the arguments that a function still needs."""
    signature = inspect.signature(function)
    given = signature.bind_partial(*arguments, **keywords).arguments
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in given
    ]


def _turn(turn: int, choice: Choice) -> Option:
    return choice.options[turn % len(choice.options)]


def _draw(random: Random, choice: Choice) -> Option:
    return random.choice(choice.options)


def _decided(architecture: Mapping[str, Option], choice: Choice) -> Option:
    try:
        return architecture[choice.name]
    except KeyError:
        raise InvalidArchitecture(
            f"the architecture lacks choice {choice.name!r}; its options are {list(choice.options)}"
        ) from None


@contextmanager
def _meta() -> Iterator[None]:
    """Build modules without memory for their weights, when the program uses torch."""
    torch = sys.modules.get("torch")
    with torch.device("meta") if torch else ExitStack():
        yield


@contextmanager
def _untouched_random() -> Iterator[None]:
    torch = sys.modules.get("torch")
    with torch.random.fork_rng(devices=[]) if torch else ExitStack():
        yield


def _first(error: BaseException) -> BaseException:
    """What an error was first raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _resolve(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _bound(module: str, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Program:
    importlib.import_module(module)
    found = _resolve(module, name)
    assert isinstance(found, Program)
    return found(*arguments, **keywords) if arguments or keywords else found


def _made(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    options: dict[str, Any],
) -> Program:
    return Program(function, arguments, keywords, **options)
