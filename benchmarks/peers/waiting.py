"""What all adapters share: one proposal at a time, which waits until its trial has ended."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from parti import Architecture, Choice, Proposal, Study, Trial
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.trial import State
from parti.core.walks import tree_of
from parti.strategies.ranking import violation


class Waiting:
    """A peer; for a serial search that is not resumed, as comparisons make.

    Args:
        space: what is searched.
        study: its objectives are optimized, all as losses; its seed and constraints are used.
        fidelity: of every proposal.
    """

    def __init__(self, space: Space, study: Study, fidelity: int | None) -> None:
        self.space = space
        self.study = study
        self._fidelity = fidelity
        self._waiting: Proposal | None = None

    def ask(self) -> Proposal | None:
        """Return what the peer wants measured, until its trial has ended."""
        if self._waiting is None:
            self._waiting = Proposal(self.next_architecture(), self._fidelity)
        return self._waiting

    def tell(self, trial: Trial) -> None:
        """Let the peer learn."""
        if trial.state is State.RUNNING:
            return
        self._waiting = None
        done = trial.state is State.DONE
        losses = [objective.loss(trial) for objective in self.study.objectives]
        self.learn(losses if done else None, violation(self.study, trial) if done else 0.0)

    def next_architecture(self) -> Architecture:
        """Ask the peer."""
        raise NotImplementedError

    def learn(self, losses: list[float] | None, violated: float) -> None:
        """Tell the peer of its last architecture: losses, lower is better; None when it failed.

        `violated` says by how much the constraints are broken, 0 if they are not.
        """
        raise NotImplementedError

    def fixed_choices(self) -> Mapping[str, Choice]:
        """All choices there ever are, for peers whose variables are a fixed list.

        What does not exist under the others is not read.
        """
        tree = tree_of(self.space)
        if tree is None:
            raise InvalidSettings("the space is dynamic, and this peer needs a list of choices")
        return tree.choices

    def decided(self, places: Mapping[str, Any]) -> Architecture:
        """The architecture with these places among the options."""
        return self.space.walk(lambda choice: choice.options[int(places[choice.name])])


def needed(library: str, package: str) -> ModuleType:
    """Import a peer's library.

    Raises:
        InvalidSettings: it is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise InvalidSettings(
            f"{library} cannot be imported ({error}); this contender needs: pip install {package}"
        ) from error
