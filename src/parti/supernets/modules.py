"""What the words give in a supernet: modules that hold every option, and run what is active.

Each reads the supernet's `State` by the name of its choice, so that places which ask the same
choice always do the same. A choice is either decided (one option runs) or mixed: its options
run side by side and are summed with weights, through which gradients flow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from traceback import walk_stack
from typing import Any, cast

import torch
from torch import Tensor, nn

from parti.core.choice import Choice
from parti.core.elastic import Active, Elastic, place, possible
from parti.core.errors import SpaceError
from parti.core.words import Factory, reading

__all__ = ["Gates", "Mixture", "Prefix", "Selected", "State", "Switch"]


@dataclass(frozen=True)
class Mixture:
    """Weights of what a choice offers.

    Args:
        weights: one for each option of a `one_of` or `repeat`, for each label of a `some_of`.
        active: places of those that run; the others are left out, as if their weight were 0.
    """

    weights: Tensor
    active: tuple[int, ...]

    @staticmethod
    def of(weights: Tensor, active: Sequence[int] | None = None) -> Mixture:
        """Leave nothing out, unless `active` says what runs."""
        return Mixture(weights, tuple(range(len(weights)) if active is None else active))


class State(Active):
    """What is active in a supernet: decisions, and mixtures where there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.mixtures: dict[str, Mixture] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        """A copied supernet decides for itself; parts that a program copies belong to one."""
        if reading() is not None:
            return self
        copied = State()
        copied.decisions.update(self.decisions)
        copied.mixtures.update(self.mixtures)
        return copied

    def selected(self, value: Elastic, factories: Mapping[Any, Factory]) -> Any:
        """What `select` gives: a module for each value that is possible, the current one runs.

        Raises:
            SpaceError: a factory builds something else.
        """
        options = [option for option in factories if option in possible(value)]
        if len(options) == 1:
            return factories[options[0]]()
        built = [factories[option]() for option in options]
        for option, module in zip(options, built, strict=True):
            if not isinstance(module, nn.Module):
                raise SpaceError(
                    f"what select gives for {option!r} of {value.text!r} is a "
                    f"{type(module).__name__}; in a supernet it is a module"
                )
        return Selected(value, options, built)


class Selected(nn.ModuleList):
    """`select`: a module for every value; runs the one that the value names.

    Args:
        value: follows from choices.
        options: the values, one for each module.
        modules: in the same order.
    """

    def __init__(
        self, value: Elastic, options: Sequence[Any], modules: Sequence[nn.Module]
    ) -> None:
        super().__init__(modules)
        self.value = value
        self.options = tuple(options)

    def active(self) -> nn.Module:
        """The module for the current value."""
        return self[self.options.index(self.value.value())]

    def forward(self, *inputs: Any) -> Any:
        """Return what that module makes of the inputs."""
        return self.active()(*inputs)


class _Options(nn.ModuleDict):
    def __init__(self, choice: Choice, options: Mapping[str, nn.Module], state: State) -> None:
        super().__init__()
        self.choice = choice
        self.state = state
        self.update(options)


class Switch(_Options):
    """`one_of`: every option under its label; runs the one decided, or mixes them.

    Args:
        choice: what decides.
        options: modules by label.
        state: of the supernet.
    """

    def chosen(self) -> str:
        """Label of the option that is decided."""
        return str(self.state.decisions[self.choice.name])

    def active(self) -> nn.Module:
        """The option that is decided."""
        return self[self.chosen()]

    def forward(self, *inputs: Any) -> Any:
        """Return what the active option makes of the inputs, or the weighted sum of all."""
        mixture = self.state.mixtures.get(self.choice.name)
        if mixture is None:
            return self.active()(*inputs)
        modules = list(self.values())
        return _weighted(
            (modules[place](*inputs), mixture.weights[place]) for place in mixture.active
        )


class Gates(_Options):
    """`some_of`: every option under its label; whoever goes through it meets the active ones.

    Mixed, each option's output is scaled by its weight: sum them.

    Args:
        choice: what decides.
        options: modules by label.
        state: of the supernet.
    """

    def labels(self) -> tuple[str, ...]:
        """All labels, whatever is active."""
        return tuple(self._modules)

    def chosen(self) -> tuple[str, ...]:
        """Labels of the options that are decided."""
        return cast(tuple[str, ...], self.state.decisions[self.choice.name])

    def _open(self) -> dict[str, Any]:
        """What can be called for each active label.

        Raises:
            SpaceError: a program asks while it builds.
        """
        if not self.state.running:
            _refuse_building(
                f"what some_of {self.choice.name!r} gives is taken apart",
                "pass it on whole, and go through its items in forward",
            )
            return dict(self._modules)
        mixture = self.state.mixtures.get(self.choice.name)
        if mixture is None:
            return {label: self._modules[label] for label in self.chosen()}
        labels = self.labels()
        return {
            labels[place]: _Gated(self._modules[labels[place]], mixture.weights[place])
            for place in mixture.active
        }

    def __getitem__(self, key: str) -> Any:
        return self._open()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._open()

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())

    def keys(self) -> Any:
        """Active labels."""
        return self._open().keys()

    def values(self) -> Any:
        """Active options."""
        return self._open().values()

    def items(self) -> Any:
        """Active labels with their options."""
        return self._open().items()


@dataclass(frozen=True)
class _Gated:
    """A module whose output is scaled; no module itself, so that no name is added to weights."""

    module: Any
    weight: Tensor

    def __call__(self, *inputs: Any) -> Any:
        return self.weight * self.module(*inputs)


class Prefix(nn.Sequential):
    """`repeat`: as many bodies as the largest count; runs the first ones.

    Args:
        choice: how many.
        bodies: in order.
        state: of the supernet.
    """

    def __init__(self, choice: Choice, bodies: Sequence[nn.Module], state: State) -> None:
        super().__init__(*bodies)
        self.choice = choice
        self.state = state

    def chosen(self) -> int:
        """The count that is decided."""
        return cast(int, self.state.decisions[self.choice.name])

    @property
    def elastic_value(self) -> Any:
        """A range as long as there are active bodies, for `computed(len, layers)`."""
        if len(self.choice.options) == 1:
            return range(len(self._modules))
        count = Elastic.of(self.choice, self.state)
        return Elastic(self.state, self.choice.name, count.choices, range, (count,))

    def __len__(self) -> int:
        if self.state.running:
            return self._decided()
        if len(self.choice.options) > 1:
            _refuse_building(
                f"the number of bodies of repeat {self.choice.name!r} is used",
                "write parti.computed(len, ...) instead of len(...)",
            )
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        bodies = iter(self._modules.values())
        return islice(bodies, self._decided()) if self.state.running else bodies

    def _decided(self) -> int:
        if self.choice.name in self.state.mixtures:
            raise SpaceError(
                f"repeat {self.choice.name!r} is mixed: call what it gives as a whole, instead of "
                "going through its bodies"
            )
        return self.chosen()

    def forward(self, x: Any) -> Any:
        """Run the first bodies; or mix what comes out after each of the counts."""
        mixture = self.state.mixtures.get(self.choice.name)
        if mixture is None:
            return self._after([self.chosen()], x)[0]
        counts = [cast(int, self.choice.options[place]) for place in mixture.active]
        outputs = self._after(counts, x)
        return _weighted(zip(outputs, mixture.weights[list(mixture.active)], strict=True))

    def _after(self, counts: Sequence[int], x: Any) -> list[Any]:
        """What comes out after each of these counts."""
        outputs = {0: x}
        for number, body in enumerate(list(self._modules.values())[: max(counts)], start=1):
            outputs[number] = cast(Callable[[Any], Any], body)(outputs[number - 1])
        return [outputs[count] for count in counts]


def _refuse_building(what: str, instead: str) -> None:
    """Fail while a program runs: what it asks for stays open.

    Raises:
        SpaceError: always then.
    """
    if reading() is not None:
        raise SpaceError(
            f"{what}{place(walk_stack(sys._getframe(1)))}; in a supernet that stays open: {instead}"
        )


def _weighted(terms: Any) -> Any:
    return reduce(torch.add, [weight * output for output, weight in terms])
