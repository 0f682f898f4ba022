"""Elastic values: what `choose` gives to a program that builds all of its networks at once.

A supernet holds every option of a choice, so a width there is not a number yet. An `Elastic` knows
which choices it hangs on and how it follows from them; arithmetic gives another one. Layers that
understand it (`parti.supernets.layers`) build for the largest value and cut to the current one.
While the supernet computes, it *is* the current value: a module that keeps it as an attribute, such
as a number of heads, may use it as a number.

A program says `computed` for arithmetic beyond operators, `select` for what depends on a value;
both are plain calls outside of supernets.
"""

from __future__ import annotations

import math
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from math import prod
from traceback import walk_stack
from types import FrameType
from typing import Any

from parti.core.architecture import Option
from parti.core.choice import Choice
from parti.core.errors import SpaceError
from parti.core.words import Factory, reading

__all__ = ["Active", "Elastic", "always_equal", "computed", "place", "possible", "select"]

EXACT = 4096
"""Combinations of options up to which all values are listed; beyond, value by value."""


MACHINERY = ("torch", "parti.core", "parti.supernets", "contextlib")
"""Modules whose lines are not those of a program."""

USABLE = (
    "parti's elastic layers (Conv1d, Conv2d, ConvTranspose2d, Linear, Embedding, BatchNorm, "
    "GroupNorm, LayerNorm, MultiheadAttention, Dropout, MaxPool2d, AvgPool2d, Upsample) and + - * "
    "// take it; other arithmetic goes through parti.computed(function, ...), modules by value "
    "through parti.select(value, {option: factory}), and what has to be decided while building is "
    "asked with one_of"
)
"""What can be done with an elastic value, for messages."""


class Active(ABC):
    """What is active in a supernet now.

    Attributes:
        decisions: an option for every choice of the space; those of choices that do not exist
            under the others mean nothing.
        running: whether the supernet computes, so that elastic values have a value.
    """

    def __init__(self) -> None:
        self.decisions: dict[str, Option] = {}
        self.running = False

    @contextmanager
    def under(self, decisions: Mapping[str, Option]) -> Iterator[None]:
        """Let other decisions hold for a while; those that are not given stay as they are."""
        before = dict(self.decisions)
        self.decisions.update(decisions)
        try:
            yield
        finally:
            self.decisions.clear()
            self.decisions.update(before)

    @abstractmethod
    def selected(self, value: Elastic, factories: Mapping[Any, Factory]) -> Any:
        """What `select` gives for an elastic value, all of whose values have a factory."""
        ...


class Elastic:
    """A value that follows from choices which stay open.

    Args:
        active: what is active in the supernet it belongs to.
        text: what it is in a program's words, for messages.
        choices: what it hangs on, by name.
        function: computes it from its parts; None for a choice itself.
        parts: elastic or plain values.
    """

    __slots__ = ("active", "choices", "function", "parts", "text")

    def __init__(
        self,
        active: Active,
        text: str,
        choices: Mapping[str, Choice],
        function: Callable[..., Any] | None,
        parts: tuple[Any, ...],
    ) -> None:
        self.active = active
        self.text = text
        self.choices = choices
        self.function = function
        self.parts = parts

    @classmethod
    def of(cls, choice: Choice, active: Active) -> Elastic:
        """The value of a choice."""
        return cls(active, choice.name, {choice.name: choice}, None, ())

    def value(self) -> Any:
        """What it is under the active decisions."""
        if self.function is None:
            return self.active.decisions[self.text]
        return self.function(
            *(part.value() if isinstance(part, Elastic) else part for part in self.parts)
        )

    def values(self) -> frozenset[Any]:
        """All that it can be; with very many combinations perhaps some more."""
        if self.function is None:
            (choice,) = self.choices.values()
            return frozenset(choice.options)
        if prod(len(choice.options) for choice in self.choices.values()) > EXACT:
            ranges = [p.values() if isinstance(p, Elastic) else (p,) for p in self.parts]
            return frozenset(self.function(*each) for each in product(*ranges))
        found = set()
        with self.active.under({}):
            for options in product(*(choice.options for choice in self.choices.values())):
                self.active.decisions.update(zip(self.choices, options, strict=True))
                found.add(self.value())
        return frozenset(found)

    def __repr__(self) -> str:
        return f"<elastic {self.text}>"

    def __add__(self, other: Any) -> Any:
        return _combined(operator.add, "{} + {}", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combined(operator.add, "{} + {}", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combined(operator.sub, "{} - {}", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combined(operator.sub, "{} - {}", other, self)

    def __mul__(self, other: Any) -> Any:
        return _combined(operator.mul, "{} * {}", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combined(operator.mul, "{} * {}", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _combined(operator.floordiv, "{} // {}", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _combined(operator.floordiv, "{} // {}", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combined(operator.truediv, "{} / {}", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combined(operator.truediv, "{} / {}", other, self)

    def __mod__(self, other: Any) -> Any:
        return _combined(operator.mod, "{} % {}", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _combined(operator.mod, "{} % {}", other, self)

    def __pow__(self, other: Any) -> Any:
        return _combined(operator.pow, "{} ** {}", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _combined(operator.pow, "{} ** {}", other, self)

    def __neg__(self) -> Any:
        return _made(operator.neg, "-{}", self)

    def __round__(self, digits: int | None = None) -> Any:
        return _made(round, "round({}, {})" if digits else "round({})", self, *_given(digits))

    def __floor__(self) -> Any:
        return _made(math.floor, "floor({})", self)

    def __ceil__(self) -> Any:
        return _made(math.ceil, "ceil({})", self)

    def __eq__(self, other: object) -> bool:
        return self is other or self._agreed(operator.eq, "{} == {}", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return self._agreed(operator.lt, "{} < {}", other)

    def __le__(self, other: Any) -> bool:
        return self._agreed(operator.le, "{} <= {}", other)

    def __gt__(self, other: Any) -> bool:
        return self._agreed(operator.gt, "{} > {}", other)

    def __ge__(self, other: Any) -> bool:
        return self._agreed(operator.ge, "{} >= {}", other)

    def __bool__(self) -> bool:
        return self._agreed(operator.truth, "bool({})")

    def __hash__(self) -> int:
        return hash(self._now("is looked up in a table"))

    def __index__(self) -> int:
        return operator.index(self._now("is used as a plain number"))

    def __int__(self) -> int:
        return int(self._now("is used as a plain number"))

    def __float__(self) -> float:
        return float(self._now("is used as a plain number"))

    def __str__(self) -> str:
        # A supernet can be shown once it is built; a text that a program makes would be wrong.
        built = reading() is None and not self.active.running
        return repr(self) if built else str(self._now("becomes text"))

    def __format__(self, spec: str) -> str:
        return format(str(self) if spec == "" else self._now("becomes text"), spec)

    def _now(self, what: str) -> Any:
        if self.active.running:
            return self.value()
        raise SpaceError(
            f"elastic value {self.text!r} {what}{_where()}; in a supernet it is "
            f"{_listed(self.values())} at once. {USABLE[0].upper()}{USABLE[1:]}"
        )

    def _agreed(self, compare: Callable[..., bool], text: str, *others: Any) -> bool:
        """Compare, if the result is the same for all that this value can be.

        Raises:
            SpaceError: it is not.
        """
        made = _made(compare, text, self, *others)
        if not isinstance(made, Elastic):
            return bool(made)
        results = made.values()
        if len(results) == 1:
            return bool(next(iter(results)))
        raise SpaceError(
            f"`{made.text}`{_where()} is true for some options and false for others, and a "
            "supernet takes all of them: let the program ask with one_of instead of branching on "
            "a chosen value, build with parti.select(value, {option: factory}), or compute with "
            "parti.computed(function, ...)"
        )


def computed(function: Callable[..., Any], *values: Any) -> Any:
    """Return function(*values), for values that a program may have chosen.

    For arithmetic beyond + - * // in a space that is to become a supernet, such as
    `computed(lambda width: max(8, width // 4), width)`: outside of supernets this is the plain
    call, and in one the result follows the choices. What `repeat` gave counts as its bodies, so
    that `computed(len, layers)` is how many there are.

    Args:
        function: of the values alone.
        values: chosen ones and others.
    """
    values = tuple(getattr(value, "elastic_value", value) for value in values)
    if not any(isinstance(value, Elastic) for value in values):
        return function(*values)
    name = getattr(function, "__name__", "function")
    return _made(function, f"{name}({', '.join('{}' for _ in values)})", *values)


def select(value: Any, factories: Mapping[Any, Factory]) -> Any:
    """Build what a chosen value stands for: `factories[value]()`.

    For modules that follow from a value which is chosen elsewhere, such as
    `select(activation, {"relu": nn.ReLU, "silu": nn.SiLU})`, or
    `select(computed(operator.eq, before, after), {True: nn.Identity, False: projection})`. Outside
    of supernets only that one is built; a supernet holds one for each value and runs the one
    that the choices say. Where the module itself is the question, ask with `one_of`.

    Args:
        value: chosen, or computed from chosen ones.
        factories: one for each value; called without arguments. Choices that are asked inside
            must be the same for all values.

    Returns:
        What the factory builds.

    Raises:
        SpaceError: there is no factory for a value.
    """
    if lacking := possible(value) - factories.keys():
        raise SpaceError(
            f"select{_where()} has no factory for {_listed(frozenset(lacking))}; it has "
            f"{', '.join(map(repr, factories))}"
        )
    if isinstance(value, Elastic):
        return value.active.selected(value, factories)
    return factories[value]()


def possible(value: Any) -> frozenset[Any]:
    """All that a value can be: of an elastic one the values, of any other itself alone."""
    return value.values() if isinstance(value, Elastic) else frozenset((value,))


def always_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, whatever is chosen."""
    return one is other or possible(computed(operator.eq, one, other)) == {True}


def _made(function: Callable[..., Any], text: str, *parts: Any) -> Any:
    elastic = [part for part in parts if isinstance(part, Elastic)]
    active = elastic[0].active
    if active.running:
        return function(*(part.value() if isinstance(part, Elastic) else part for part in parts))
    choices = {name: choice for part in elastic for name, choice in part.choices.items()}
    return Elastic(active, text.format(*map(_text, parts)), choices, function, parts)


def _combined(function: Callable[..., Any], text: str, one: Any, other: Any) -> Any:
    """An operator's result; nothing while a program builds with what is no number."""
    mine = one if isinstance(one, Elastic) else other
    theirs = other if mine is one else one
    if mine.active.running or isinstance(theirs, Elastic | int | float):
        return _made(function, text, one, other)
    return NotImplemented


def _given(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _text(value: Any) -> str:
    return value.text if isinstance(value, Elastic) else repr(value)


def _listed(values: frozenset[Any], most: int = 8) -> str:
    found = sorted(values, key=repr) if len({*map(type, values)}) > 1 else sorted(values)
    shown = ", ".join(map(repr, found[:most]))
    return shown + (f", ... ({len(found)} values)" if len(found) > most else "")


def place(frames: Iterable[tuple[FrameType, int]]) -> str:
    """Where a program goes wrong: the layer that is being built, if any, and the program's line.

    Args:
        frames: with their line, innermost first, as `traceback.walk_stack` gives them.
    """
    layer = ""
    where = ""
    for frame, line in frames:
        if not layer and frame.f_code.co_name == "__init__" and "self" in frame.f_locals:
            layer = f" in {type(frame.f_locals['self']).__name__}"
        where = f"{layer} at {frame.f_code.co_filename}:{line}"
        if not str(frame.f_globals.get("__name__")).startswith(MACHINERY):
            break
    return where


def _where() -> str:
    return place(walk_stack(sys._getframe(1)))
