"""The decisions of a space as a product of options, and architectures as places in it.

A decision that does not exist in an architecture changes nothing there, whatever its option. So
the accuracy of a conditional space is a function on the product of all options: drawing each
decision uniformly from its options, and then ignoring those that do not exist, is exactly how
`parti.core.walks.sample` draws with `uniform="pick"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice, labels
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.core.walks import tree_of

__all__ = ["ABSENT", "Decisions", "comparable", "decisions_of"]

ABSENT = -1
"""The place of a decision that does not exist in an architecture."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Decisions:
    """All choices of a space with more than one option.

    Args:
        choices: in walking order.
    """

    choices: tuple[Choice, ...]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of options of each choice, shape (choices,)."""
        return np.array([len(choice.options) for choice in self.choices], dtype=np.int64)

    @cached_property
    def columns(self) -> tuple[tuple[int, NDArray[np.float64]], ...]:
        """What a tree may split on: the number of a choice, and a value for each of its options.

        A scale has one column, the place of the option; `some_of` one for each label; any other
        choice one for each option.
        """
        found: list[tuple[int, NDArray[np.float64]]] = []
        for number, choice in enumerate(self.choices):
            if choice.ordered:
                found.append((number, np.arange(len(choice.options), dtype=np.float64)))
            elif choice.kind == "some_of":
                for label in labels(choice):
                    held = [isinstance(o, tuple) and label in o for o in choice.options]
                    found.append((number, np.array(held, dtype=np.float64)))
            else:
                found += [(number, row) for row in np.eye(len(choice.options))]
        return tuple(found)

    def places(self, architectures: Sequence[Mapping[str, Option]]) -> Places:
        """Return where the options of architectures stand.

        Args:
            architectures: where a choice does not exist, or an option is none of its own (which
                can be where the options are only those seen), the place is `ABSENT`.

        Returns:
            Shape (architectures, choices).
        """
        rows = [
            [
                choice.options.index(architecture[choice.name])
                if architecture.get(choice.name) in choice.options
                else ABSENT
                for choice in self.choices
            ]
            for architecture in architectures
        ]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.choices))


def decisions_of(space: Space | None, architectures: Iterable[Architecture]) -> Decisions:
    """Return the decisions of a space.

    Args:
        space: None when it is not at hand.
        architectures: where the space has no static tree, the options are those that these took;
            numbers stand in their order then.
    """
    tree = tree_of(space) if space is not None else None
    if tree is not None:
        return Decisions(tuple(c for c in tree.choices.values() if len(c.options) > 1))
    seen: dict[str, dict[Option, None]] = {}
    for architecture in architectures:
        for name, option in architecture.items():
            seen.setdefault(name, {})[option] = None
    found = [_choice(name, list(options)) for name, options in seen.items() if len(options) > 1]
    return Decisions(tuple(found))


def _choice(name: str, options: list[Option]) -> Choice:
    scale = all(isinstance(o, int | float) and not isinstance(o, bool) for o in options)
    kind = "some_of" if all(isinstance(o, tuple) for o in options) else "choose"
    ordered = sorted(options, key=_number) if scale else options
    return Choice(name, tuple(ordered), ordered=scale, kind=kind)


def _number(option: Option) -> float:
    assert isinstance(option, int | float)
    return option


def comparable(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """Return trials whose first objective may be compared: one for each architecture.

    Accuracies after different numbers of epochs are not. So of several fidelities, the one at
    which most architectures were measured is taken, the larger of two with as many.

    Args:
        study: its first objective must have been measured.
        trials: in any order.

    Returns:
        By number. Those that break a limit but were measured are among them.
    """
    metric = study.objectives[0].metric
    done = [t for t in trials if t.state is State.DONE and np.isfinite(t.metric(metric))]
    by_fidelity: dict[int, dict[Architecture, Trial]] = {}
    for trial in sorted(done, key=lambda t: t.number):
        by_fidelity.setdefault(trial.proposal.fidelity or 0, {})[trial.architecture] = trial
    if not by_fidelity:
        return []
    most = max(by_fidelity, key=lambda fidelity: (len(by_fidelity[fidelity]), fidelity))
    return sorted(by_fidelity[most].values(), key=lambda t: t.number)
