"""Starting from another study: its best architectures, and the weights of its network.

With `init`, the best architectures of a finished study are measured first, and the network that
it found gives its weights to every candidate, layer by layer, where name and shape agree; the
rest starts fresh. With `keep_architecture`, nothing is searched: the network that was found is
fine-tuned on the data, all layers at once with the usual recipe, whose warm-up protects the
weights at first. Lower learning rates and a backbone that is frozen at first were worse where it
was measured (`docs/how-to/transfer.md`): a fresh classifier then learns too slowly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings, StoreError
from parti.core.protocols import Space, Store, Strategy
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.finding.files import read_json
from parti.finding.strategy import strategy_arguments
from parti.strategies.listed import Listed
from parti.strategies.wrappers import WarmStarted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from parti.finding.desk import Desk

__all__ = [
    "Initialized",
    "Matching",
    "Source",
    "described_start",
    "load_source",
    "mapped",
    "starting",
]

FIRST = 10
"""At most so many architectures of the other study are measured first, and a third of the
trials."""

LEAST_CARRIED = 0.5
"""An architecture of which a smaller share of decisions carries over is another one."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How much of a network another one gave weights to.

    Args:
        tensors: parameters and buffers that were given.
        of_tensors: all there are.
        values: numbers in them.
        of_values: in all.
    """

    tensors: int
    of_tensors: int
    values: int
    of_values: int

    def __str__(self) -> str:
        share = 100 * self.values / max(1, self.of_values)
        return f"{self.tensors} of {self.of_tensors} tensors ({share:.0f} % of all weights)"


@dataclass(frozen=True)
class Source:
    """A finished study that another one starts from.

    Args:
        study: what it asked.
        trials: of its search.
        result: what was written down.
        folder: its files.
    """

    study: Study
    trials: Sequence[Trial]
    result: Mapping[str, Any]
    folder: Path

    @cached_property
    def winner(self) -> Architecture:
        """The architecture it found."""
        return Architecture.from_json(json.dumps(self.result["best"]["architecture"]))

    @property
    def weights(self) -> Path:
        """The weights of the network it found."""
        return self.folder / "model" / "weights.safetensors"

    @property
    def splits(self) -> Path:
        """How its data was split."""
        return self.folder / "splits.npz"

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of its data; None where its splits are gone."""
        if not self.splits.exists():
            return None
        with np.load(self.splits, allow_pickle=False) as kept:
            return str(kept["fingerprint"])

    @property
    def space_name(self) -> str:
        """The name of its space.

        Raises:
            InvalidSettings: the space was given from Python.
        """
        name = str(self.result["space"]["name"])
        if name.startswith("python:"):
            raise InvalidSettings(
                f"the space of study {self.study.name!r} was given from Python; give it again, "
                "as parti.find(..., space=...)"
            )
        return name

    def sizes(self, shape: Mapping[str, int]) -> dict[str, int]:
        """Return further arguments of its space, those that say nothing about the images."""
        arguments = self.result["space"].get("arguments") or {}
        return {name: value for name, value in arguments.items() if name not in shape}

    def tells_apart(self, classes: Sequence[str]) -> bool:
        """Return whether its network tells these classes apart, so that its classifier is of use.

        Classes that are mere numbers are taken for others: in arrays, each data set counts from 0.
        """
        names = [str(name) for name in classes]
        numbered = all(name.isdigit() for name in names)
        return names == list(map(str, self.result["data"]["classes"])) and not numbered

    def kept(self, space: Space) -> Architecture:
        """Return the architecture it found, as a member of a space.

        Raises:
            InvalidSettings: it is none.
        """
        architecture, _ = mapped(space, self.winner)
        names = sorted({*self.winner, *architecture})
        if other := [n for n in names if self.winner.get(n) != architecture.get(n)]:
            raise InvalidSettings(
                f"the network of study {self.study.name!r} is no member of {space!r}: "
                f"{', '.join(other[:5])} cannot be kept; leave out --keep-architecture, and what "
                "fits is searched from there"
            )
        return architecture

    def followed_by(
        self, strategy: Strategy, space: Space, study: Study, fidelity: int | None
    ) -> tuple[Strategy, int]:
        """Return a strategy that begins with the best architectures of this study.

        Args:
            strategy: goes on from there; it must be new.
            space: what is searched now.
            study: what is asked now.
            fidelity: of the first trials, None for the evaluator's default.

        Returns:
            The strategy, and how many architectures it begins with.

        Raises:
            InvalidSettings: no architecture of the study carries over.
        """
        carried = [
            replace(trial, proposal=replace(trial.proposal, architecture=architecture))
            for trial in self.trials
            for architecture, share in [mapped(space, trial.architecture)]
            if share >= LEAST_CARRIED
        ]
        if not carried:
            raise InvalidSettings(
                f"no architecture of study {self.study.name!r} carries over to {space!r}; search "
                f"the same space, --space {self.result['space']['name']}, or leave out --init"
            )
        most = max(1, min(FIRST, (study.budget.trials or 3 * FIRST) // 3))
        started = WarmStarted(
            strategy,
            space,
            study,
            carried,
            mode="propose",
            best=most,
            fidelity=fidelity,
            source=self.study,
        )
        return started, min(most, len({trial.architecture for trial in carried}))


def load_source(store: Store, folder: Path, name: str) -> Source:
    """Return a finished study to start from.

    Args:
        store: keeps it.
        folder: of the study that starts; the other's is beside it.
        name: of the other study.

    Raises:
        StoreError: there is no such study, or it is not finished, or its weights are gone.
    """
    study = store.study(name)
    own = folder.parent / name
    result = read_json(own / "result.json")
    if result is None:
        raise StoreError(f"study {name!r} is not finished; go on with: parti resume {name}")
    trials, _ = store.trials(name)
    source = Source(study, sorted(trials, key=lambda t: t.number), result, own)
    if not source.weights.exists():
        raise StoreError(
            f"{source.weights} is gone, so study {name!r} has no weights to start from"
        )
    return source


def starting(desk: Desk, strategy: Strategy, study: Study) -> Strategy:
    """Return a strategy that begins where the study ended that a search starts from.

    Args:
        desk: what the search works with.
        strategy: goes on from there; it must be new. It is returned as it is where a search
            starts from nothing.
        study: the search.

    Raises:
        InvalidSettings: no architecture of the other study carries over.
    """
    source, initialized = desk.source, desk.initialized
    if source is None or initialized is None:
        return strategy
    architecture, _ = mapped(desk.space, source.winner)
    given = f"its weights start {initialized.matching(architecture)} of its own network here"
    name = source.study.name
    if desk.settings.keep_architecture:
        desk.watcher.say(f"fine-tuning the network of {name}; {given}")
        return Listed([Proposal(source.kept(desk.space))])
    fidelity = strategy_arguments(desk).get("max_fidelity")
    started, first = source.followed_by(strategy, desk.space, study, fidelity)
    desk.watcher.say(f"starting from the {first} best architectures of {name}; {given}")
    return started


def described_start(desk: Desk, winner: Architecture) -> dict[str, Any] | None:
    """Return what a search started from, and how much of its winner that gave weights to.

    Args:
        desk: what the search worked with.
        winner: what was found.

    Returns:
        JSON values; None where it started from nothing.
    """
    if desk.source is None or desk.initialized is None:
        return None
    given = desk.initialized.matching(winner)
    return {"study": desk.source.study.name, "same_data": desk.continues_data, **asdict(given)}


def mapped(space: Space, architecture: Mapping[str, Option]) -> tuple[Architecture, float]:
    """Return the member of a space that is most like an architecture of another one.

    Decisions of the same name keep their option; on a scale that does not offer it, the nearest
    is taken. Decisions that are new, or whose option is not offered, are drawn at random, always
    in the same way.

    Args:
        space: what the result belongs to.
        architecture: of any space.

    Returns:
        The architecture, and the share of its decisions that kept their option.
    """
    owned = Architecture(architecture)
    random = Random(owned.fingerprint)
    kept = 0

    def pick(choice: Choice) -> Option:
        nonlocal kept
        option = owned.get(choice.name)
        if option in choice.options:
            kept += 1
            return option
        near = _nearest(choice, option)
        return choice.options[random.randrange(len(choice.options))] if near is None else near

    found = space.walk(pick)
    return found, kept / max(1, len(found))


def _nearest(choice: Choice, option: Option | None) -> Option | None:
    """The option of a scale that is nearest to a number; None where there is no scale or number."""
    if not choice.ordered or not isinstance(option, int | float):
        return None
    numbers = [o for o in choice.options if isinstance(o, int | float)]
    return min(numbers, key=lambda o: abs(o - option), default=None)


class Initialized:
    """A space whose networks begin with the weights of one that was trained before.

    Args:
        space: builds networks.
        weights: a safetensors file.
        fresh_head: whether the classifier, the last layer, starts fresh though its shape agrees.
    """

    def __init__(self, space: Any, weights: Path, *, fresh_head: bool) -> None:
        self._space, self._weights, self._fresh_head = space, weights, fresh_head
        self._tensors: dict[str, Tensor] | None = None

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a network with the weights that agree in name and shape, the rest fresh."""
        network: nn.Module = self._space.build(architecture)
        own = network.state_dict()
        network.load_state_dict({**own, **dict(self._agreeing(own))})
        return network

    def matching(self, architecture: Architecture) -> Matching:
        """Return how much of a network's weights come from the other one."""
        own = self._space.build(architecture).state_dict()
        given = dict(self._agreeing(own))
        return Matching(
            len(given),
            len(own),
            sum(tensor.numel() for tensor in given.values()),
            sum(tensor.numel() for tensor in own.values()),
        )

    def _agreeing(self, own: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        if self._tensors is None:
            from safetensors.torch import load_file

            self._tensors = load_file(self._weights)
        last = list(own)[-1].rpartition(".")[0] if own else ""
        for name, tensor in self._tensors.items():
            head = self._fresh_head and name.rpartition(".")[0] == last
            if name in own and own[name].shape == tensor.shape and not head:
                yield name, tensor

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tensors": None}
