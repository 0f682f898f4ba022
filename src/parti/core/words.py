"""The four words of a space program, and the readings that answer them.

A space program is an ordinary function that builds a network and asks wherever it is undecided:
`choose`, `one_of`, `some_of`, `repeat`, with `scope` to prefix names. What an answer *is* depends
on who reads the program. A `Reading` has one method per word; `Decide` (here) takes one option
and goes on with it, `Trace` (in `parti.core.tree`) visits every branch. A supernet is another.

Names carry their condition: a choice `kernel` asked inside option `conv3` of `op` is
`op=conv3/kernel`, one asked inside body 2 of repeat `depth` is `depth[2]/kernel`. So the same
name is the same decision, and a choice exists only when what it lies under does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from parti.core.architecture import Architecture, Option
from parti.core.choice import MOST_OPTIONS, Choice, check_options, count_subsets, subsets
from parti.core.errors import InvalidArchitecture, PartiError, SpaceError

__all__ = [
    "Decide",
    "Factory",
    "Names",
    "Reading",
    "building",
    "choose",
    "one_of",
    "reading",
    "repeat",
    "scope",
    "some_of",
]

Factory = Callable[[], Any]

MOST_CHOICES = 10_000
"""A run that asks more than this is taken for an endless recursion."""


class EndlessSpace(SpaceError):
    """A run of a program asks for more choices than any network needs."""


class Names:
    """The choices met so far in one run of a program, and the prefix that names get now."""

    __slots__ = ("prefix", "seen")

    def __init__(self) -> None:
        self.prefix = ""
        self.seen: dict[str, tuple[Choice, str]] = {}

    def declare(self, name: str, options: tuple[Option, ...], ordered: bool, kind: str) -> Choice:
        """Return the choice of that name under the current prefix.

        Raises:
            SpaceError: the name was used before with other options or another word.
        """
        full = self.prefix + name
        known = self.seen.get(full)
        if known is not None:
            choice, where = known
            if choice.options != options or choice.kind != kind:
                raise SpaceError(
                    f"choice {full!r} is asked with {kind} and {_short(options)} at {_caller()}, "
                    f"but with {choice.kind} and {_short(choice.options)} at {where}; the same "
                    "name is the same decision: give one of them another name or a scope"
                )
            return choice
        if len(self.seen) >= MOST_CHOICES:
            raise EndlessSpace(
                f"more than {MOST_CHOICES} choices in one architecture, the last one {full!r} at "
                f"{_caller()}; does the program recurse without end? Limit its depth"
            )
        choice = Choice(full, options, ordered, kind)
        self.seen[full] = (choice, _caller())
        return choice

    @contextmanager
    def under(self, part: str) -> Iterator[None]:
        """Prefix names with `part` and a slash."""
        before = self.prefix
        self.prefix = f"{before}{part}/"
        try:
            yield
        finally:
            self.prefix = before


class Reading(Protocol):
    """One way to run a space program: what each word gives back."""

    names: Names

    def choose(self, choice: Choice) -> Any:
        """Answer `choose`."""
        ...

    def one_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Answer `one_of`; the choice's options are the labels."""
        ...

    def some_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Answer `some_of`; the choice's options are the allowed tuples of labels."""
        ...

    def repeat(self, choice: Choice, factory: Callable[[int], Any], shared: bool) -> Any:
        """Answer `repeat`; the choice's options are the allowed counts."""
        ...


_reading: ContextVar[Reading | None] = ContextVar("parti_reading", default=None)


def reading() -> Reading | None:
    """Return the reading under way, or None outside any walk."""
    return _reading.get()


def building() -> bool:
    """Whether what the program makes is wanted, and not only what it asks.

    A dynamic program is run for every walk. One whose network is large may leave it out when
    this is False, and return something small instead, once it has asked all it asks.
    """
    return bool(getattr(_reading.get(), "builds", True))


@contextmanager
def reading_as(new: Reading) -> Iterator[None]:
    """Let `new` answer the words."""
    token = _reading.set(new)
    try:
        yield
    finally:
        _reading.reset(token)


# --- the words -------------------------------------------------------------------------------


def choose(name: str, options: Sequence[Option], *, ordered: bool | None = None) -> Any:
    """Ask for one value.

    Args:
        name: of the decision, unique under the current scope.
        options: int, float, str, bool or tuples of str; all different.
        ordered: whether the options are a scale; by default, numbers are.

    Returns:
        The chosen option: an ordinary Python value (in a supernet, an elastic one).

    Raises:
        SpaceError: outside any walk, or with options that are not allowed.
    """
    now = _asked(name)
    found = check_options(now.names.prefix + name, options, _caller())
    if ordered is None:
        ordered = all(isinstance(o, int | float) and not isinstance(o, bool) for o in found)
    return now.choose(now.names.declare(name, found, ordered, "choose"))


def one_of(name: str, options: Mapping[str, Factory]) -> Any:
    """Ask for one module of several.

    Args:
        name: of the decision, unique under the current scope.
        options: a label for each factory; a factory is called without arguments when it is
            chosen. Choices asked inside are named `name=label/...`.

    Returns:
        What the chosen factory builds (in a supernet, all of them, mixed or switched).

    Raises:
        SpaceError: outside any walk, with options that are not allowed, or when the chosen
            factory fails.
    """
    now = _asked(name)
    labels = _labels(now.names.prefix + name, options)
    return now.one_of(now.names.declare(name, labels, False, "one_of"), options)


def some_of(name: str, options: Mapping[str, Factory], k: int | Iterable[int]) -> Any:
    """Ask for k modules of several: edges into a node, branches of a block.

    Args:
        name: of the decision, unique under the current scope.
        options: a label for each factory. Choices asked inside are named `name=label/...`.
        k: how many are chosen; several numbers leave that open too.

    Returns:
        A `ModuleDict` of the chosen ones, in the order of `options` (a dict when they are not
        modules). Sum them, do not concatenate them, if the program is to become a supernet.

    Raises:
        SpaceError: outside any walk, with options or k that are not allowed, or when a chosen
            factory fails.
    """
    now = _asked(name)
    full = now.names.prefix + name
    labels = _labels(full, options)
    sizes = (k,) if isinstance(k, int) else tuple(k)
    if not sizes or not all(isinstance(s, int) and 0 <= s <= len(labels) for s in sizes):
        raise SpaceError(
            f"choice {full!r} at {_caller()}: k={k!r} of {len(labels)} options; "
            f"k is a number from 0 to {len(labels)}, or several"
        )
    if (count := count_subsets(len(labels), sizes)) > MOST_OPTIONS:
        raise SpaceError(
            f"choice {full!r} at {_caller()} has {count:,} subsets; at most {MOST_OPTIONS:,} can "
            "be one choice: split it into several"
        )
    choice = now.names.declare(name, subsets(labels, sizes), False, "some_of")
    return now.some_of(choice, options)


def repeat(
    name: str, factory: Callable[[int], Any], counts: Sequence[int], *, shared: bool = False
) -> Any:
    """Ask how many times a body is repeated.

    Args:
        name: of the decision, unique under the current scope.
        factory: builds body i, called with i = 0, 1, ...
        counts: the numbers of bodies allowed.
        shared: False: each body decides for itself (`name[2]/op`); True: what one body decides
            holds for all (`name[*]/op`), as in a stack of equal cells.

    Returns:
        An `nn.Sequential` of the bodies (a list when they are not modules).

    Raises:
        SpaceError: outside any walk, with counts that are not allowed, or when a body fails.
    """
    now = _asked(name)
    full = now.names.prefix + name
    found = check_options(full, counts, _caller())
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in found):
        raise SpaceError(
            f"choice {full!r} at {_caller()}: counts {list(found)} are not whole numbers"
        )
    return now.repeat(now.names.declare(name, found, True, "repeat"), factory, shared)


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Prefix the names of all choices asked inside with `name` and a slash."""
    with _asked(name, "scope").names.under(name):
        yield


# --- the first reading -----------------------------------------------------------------------


class Decide:
    """Take one option at every choice: what is built is an ordinary network.

    Args:
        pick: answers a choice that has not been decided yet.
        builds: whether what the program makes is wanted; else only its choices are.
    """

    def __init__(self, pick: Callable[[Choice], Option], *, builds: bool = True) -> None:
        self.names = Names()
        self.builds = builds
        self.decisions: dict[str, Option] = {}
        self._pick = pick

    def architecture(self) -> Architecture:
        """What was decided so far, in the order it was asked."""
        return Architecture(self.decisions)

    def choose(self, choice: Choice) -> Option:
        """Pick one value, or repeat the decision taken under this name."""
        name = choice.name
        if name in self.decisions:
            return self.decisions[name]
        option = check_pick(choice, self._pick(choice))
        self.decisions[name] = option
        return option

    def one_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Build the one chosen."""
        label = str(self.choose(choice))
        return self.branch(choice, label, factories[label])

    def some_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Build the chosen ones."""
        chosen = self.choose(choice)
        assert isinstance(chosen, tuple)
        return self.together(
            choice, {label: self.branch(choice, label, factories[label]) for label in chosen}
        )

    def repeat(self, choice: Choice, factory: Callable[[int], Any], shared: bool) -> Any:
        """Build as many bodies as were chosen."""
        count = self.choose(choice)
        assert isinstance(count, int)
        return in_sequence([self.body(choice, i, factory, shared) for i in range(count)])

    def branch(self, choice: Choice, label: str, factory: Factory) -> Any:
        """Call the factory of one label, under its name.

        Raises:
            SpaceError: it fails; the error names choice, option and line.
        """
        return self._call(f"{_last(choice)}={label}", factory, f"option {label!r}", choice)

    def body(self, choice: Choice, i: int, factory: Callable[[int], Any], shared: bool) -> Any:
        """Call the factory of one repeated body, under its name.

        Raises:
            SpaceError: it fails; the error names choice, body and line.
        """
        part = f"{_last(choice)}[{'*' if shared else i}]"
        return self._call(part, lambda: factory(i), f"body {i}", choice)

    def together(self, choice: Choice, results: dict[str, Any]) -> Any:
        """A `ModuleDict` of modules, or the dict itself when they are something else.

        Raises:
            SpaceError: torch does not allow a label as the name of a module.
        """
        nn = _torch_nn()
        if nn is None or not all(isinstance(result, nn.Module) for result in results.values()):
            return results
        try:
            return nn.ModuleDict(results)
        except KeyError as error:
            raise SpaceError(
                f"choice {choice.name!r} ({self.names.seen[choice.name][1]}): a label cannot be "
                f"the name of a module ({error.args[0]}); give it another"
            ) from error

    def _call(self, part: str, factory: Factory, what: str, choice: Choice) -> Any:
        before = self.names.prefix
        self.names.prefix = f"{choice.name[: len(choice.name) - len(_last(choice))]}{part}/"
        try:
            return factory()
        except (PartiError, RecursionError):
            raise
        except Exception as error:
            where = self.names.seen[choice.name][1]
            raise SpaceError(
                f"{what} of choice {choice.name!r} ({where}) failed: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            self.names.prefix = before


def check_pick(choice: Choice, option: Option) -> Option:
    """Return the option if the choice offers it.

    Raises:
        InvalidArchitecture: it does not.
    """
    if option in choice.options:
        return option
    raise InvalidArchitecture(
        f"choice {choice.name!r} does not offer {option!r}; its options are "
        f"{_short(choice.options)}"
    )


def in_sequence(results: list[Any]) -> Any:
    """An `nn.Sequential` of modules, or the list itself when they are something else."""
    nn = _torch_nn()
    if nn is None or not all(isinstance(result, nn.Module) for result in results):
        return results
    return nn.Sequential(*results)


def _torch_nn() -> Any:
    # A program that builds modules has imported torch itself; core need not, and must not.
    return sys.modules.get("torch.nn")


def _asked(name: str, word: str = "choice") -> Reading:
    now = _reading.get()
    if now is None:
        raise SpaceError(
            f"{word} {name!r} at {_caller()} is asked outside any walk; decorate the function that "
            "asks with @parti.space and call .build(architecture) on it, or parti.sample(space)"
        )
    if not isinstance(name, str) or not name or any(sign in name for sign in "=[]"):
        raise SpaceError(
            f"{word} {name!r} at {_caller()}: a name is a text that is not empty and has "
            "none of the signs = [ ]"
        )
    return now


def _labels(name: str, options: Mapping[str, Factory]) -> tuple[str, ...]:
    if not isinstance(options, Mapping):
        raise SpaceError(
            f"choice {name!r} at {_caller()}: options must be a dict of label and factory, "
            f"got {type(options).__name__}"
        )
    labels = check_options(name, tuple(options), _caller())
    for label, factory in options.items():
        if not isinstance(label, str) or not label or "/" in label:
            raise SpaceError(
                f"choice {name!r} at {_caller()}: label {label!r}; a label is a text without '/'"
            )
        if not callable(factory) or ((nn := _torch_nn()) and isinstance(factory, nn.Module)):
            raise SpaceError(
                f"choice {name!r} at {_caller()}: option {label!r} is a "
                f"{type(factory).__name__}, not a factory; write `lambda: ...` around it"
            )
    return labels  # type: ignore[return-value]


def _last(choice: Choice) -> str:
    return choice.name.rpartition("/")[2]


def _caller() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, _CONTEXTLIB):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_CONTEXTLIB = contextmanager.__code__.co_filename


def _short(options: tuple[Option, ...], most: int = 12) -> str:
    shown = ", ".join(map(repr, options[:most]))
    return f"[{shown}{f', ... {len(options)} in all' if len(options) > most else ''}]"
