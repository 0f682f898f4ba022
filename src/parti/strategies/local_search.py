"""Local search: hill-climbing from the best of a few random architectures.

White, Nolen, Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021,
Algorithm 1: train the neighbours of the best architecture, move to a better one, and stop at a
local minimum; then begin again. Defaults are those of the authors' code: ten random architectures
per run, neighbours in random order until one is better, a new run at a minimum. Their variants
are `neighbourhood="all"` (train every neighbour, move to the best) and `at_minimum="continue"`
(go on from the best architecture whose neighbourhood was not tried yet).

Departures: neighbours that are known already count in the decision where to move (in the authors'
code they are skipped), and so does all else that ends better than the centre: late neighbours of an
earlier one, or what another search has found. A worker that would have to wait for running
neighbours trains a random architecture, with which a later run begins. One that breaks a constraint
loses against any that does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random
from typing import Literal

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical, choices, sample
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["LocalSearch"]


class LocalSearch:
    """Move to a better neighbour until there is none; then begin again.

    Args:
        space: what is searched; neighbours differ by the change of one decision, and decisions
            that such a change brings into existence are drawn.
        study: its first objective is optimized; its seed and constraints are used.
        initial: number of random architectures of which the best begins a run.
        neighbourhood: "first": move as soon as a neighbour is better; "all": train every
            neighbour, then move to the best.
        at_minimum: "restart": begin a new run when no neighbour is better; "continue": go on from
            the best architecture so far whose neighbours were not tried.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: initial is less than 1, or a variant is unknown.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        initial: int = 10,
        neighbourhood: Literal["first", "all"] = "first",
        at_minimum: Literal["restart", "continue"] = "restart",
        fidelity: int | None = None,
    ) -> None:
        if initial < 1:
            raise InvalidSettings(
                f"local search from {initial} architectures: at least 1 is needed"
            )
        if neighbourhood not in ("first", "all") or at_minimum not in ("restart", "continue"):
            raise InvalidSettings(
                f"local search with neighbourhood={neighbourhood!r}, at_minimum={at_minimum!r}: "
                "the first must be 'first' or 'all', the second 'restart' or 'continue'"
            )
        self._space = space
        self._study = study
        self._initial = initial
        self._neighbourhood = neighbourhood
        self._at_minimum = at_minimum
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._known: dict[str, Trial] = {}
        self._starts: list[Trial] = []  # random ones, done since the last run began
        self._untried: list[tuple[tuple[float, float], int, Trial]] = []  # a heap, best first
        self._tried: set[int] = set()  # numbers of the trials that were centres
        self._centre: Trial | None = None
        self._around: Iterator[Architecture] = iter(())
        self._next: Architecture | None = None  # the neighbour that is looked at
        self._running: set[str] = set()  # neighbours whose measurement is awaited
        self._better: Trial | None = None  # where to move: the best that is better than the centre

    @property
    def centre(self) -> Trial | None:
        """The trial whose neighbours are tried; None while a run gathers random architectures."""
        return self._centre

    def ask(self) -> Proposal | None:
        """Return the next neighbour of the centre, or a random architecture to begin a run."""
        if self._centre is not None and self._next is not None:
            return Proposal(self._next, self._fidelity, (self._centre.number,))
        random = self._memory.random()
        drawn = self._memory.fresh(random, lambda: sample(self._space, random))
        return Proposal(drawn, self._fidelity) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Learn of a trial, and move as far as what is known allows."""
        form = self._form(trial.architecture)
        self._memory.tell(trial)
        self._known[form] = trial
        if trial.state is not State.RUNNING:
            self._running.discard(form)
        if trial.state is State.DONE:
            if not trial.proposal.parents:
                self._starts.append(trial)
            if self._at_minimum == "continue":
                heappush(self._untried, (self._rank(trial), trial.number, trial))
            self._compare(trial)
        while self._advances():
            pass

    def _advances(self) -> bool:
        """Take one step that needs no measurement; False when one is needed to go on."""
        if self._centre is None:
            if len(self._starts) < self._initial:
                return False
            best = min(self._starts, key=self._rank)
            self._starts.clear()
            self._move(best)
            return True
        if self._better is not None and self._neighbourhood == "first":
            self._move(self._better)
            return True
        if self._next is not None:
            form = self._form(self._next)
            if form not in self._known:
                return False
            known = self._known[form]
            if known.state is State.RUNNING:
                self._running.add(form)
            elif known.state is State.DONE:
                self._compare(known)
            self._next = next(self._around, None)
            return True
        if self._running:
            return False
        self._move(self._better or self._best_untried())
        return True

    def _compare(self, trial: Trial) -> None:
        rival = self._better or self._centre
        if rival is not None and self._rank(trial) < self._rank(rival):
            self._better = trial

    def _move(self, centre: Trial | None) -> None:
        self._centre = centre
        self._better = None
        self._around = iter(())
        if centre is not None:
            self._tried.add(centre.number)
            self._starts = [trial for trial in self._starts if trial is not centre]
            self._around = self._neighbours(centre)
        self._next = next(self._around, None)

    def _best_untried(self) -> Trial | None:
        """The best trial that was no centre yet, when the search goes on from there."""
        while self._untried:
            *_, trial = heappop(self._untried)
            if trial.number not in self._tried:
                return trial
        return None

    def _neighbours(self, centre: Trial) -> Iterator[Architecture]:
        """The neighbours of a trial, one by one, in a random order that is its own."""
        parent, random = centre.architecture, Random(f"{self._study.seed}/around/{centre.number}")
        changes = [
            (choice.name, option)
            for choice in choices(self._space, parent)
            for option in choice.options
            if option != parent[choice.name]
        ]
        random.shuffle(changes)
        for name, option in changes:
            yield self._changed(parent, name, option, random)

    def _changed(
        self, parent: Architecture, name: str, option: Option, random: Random
    ) -> Architecture:
        def pick(choice: Choice) -> Option:
            if choice.name == name:
                return option
            return parent[choice.name] if choice.name in parent else random.choice(choice.options)

        return self._space.walk(pick)

    def _rank(self, trial: Trial) -> tuple[float, float]:
        return rank(self._study, trial)

    def _form(self, architecture: Architecture) -> str:
        return canonical(self._space, architecture).fingerprint
