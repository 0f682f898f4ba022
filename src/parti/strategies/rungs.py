"""Rungs of fidelity, and successive halving on them: who goes on, and when something new begins.

What successive halving, Hyperband and BOHB share. A rung is a fidelity; a bracket is one run of
successive halving: so many architectures begin on its lowest rung; when all of them have ended,
the best 1/eta go on to the next one. To go on is a proposal that `continues` the trial below.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["Bracket", "Halving", "ladder"]


def ladder(
    min_fidelity: int, max_fidelity: int, eta: int, fidelities: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the fidelities of the rungs, lowest first.

    The highest is the maximum (R in the papers); each lower one is it divided by eta once more,
    rounded to a whole number, down to the last that is not below the minimum (r).

    Args:
        min_fidelity: no rung is lower.
        max_fidelity: the highest rung.
        eta: the factor from rung to rung.
        fidelities: the rungs themselves, where they are given (a table may hold no others).

    Raises:
        InvalidSettings: eta is less than 2, or the fidelities are not positive and rising.
    """
    if eta < 2:
        raise InvalidSettings(f"eta {eta}: it must be at least 2, for 1/eta of a rung goes on")
    if fidelities is not None:
        given = tuple(fidelities)
        if not given or given[0] < 1 or list(given) != sorted(set(given)):
            raise InvalidSettings(
                f"fidelities {list(given)}: give whole numbers from 1 on, each once, lowest first"
            )
        return given
    if not 1 <= min_fidelity <= max_fidelity:
        raise InvalidSettings(
            f"fidelities from {min_fidelity} to {max_fidelity}: the minimum must be at least 1, "
            "the maximum no less than it"
        )
    steps = 0
    while min_fidelity * eta ** (steps + 1) <= max_fidelity:
        steps += 1
    return tuple(int(max_fidelity / eta**step + 0.5) for step in range(steps, -1, -1))


@dataclass(frozen=True, slots=True)
class Bracket:
    """One run of successive halving.

    Args:
        size: how many architectures begin (n in the papers).
        fidelities: of its rungs, lowest first.
    """

    size: int
    fidelities: tuple[int, ...]


class Halving:
    """Brackets of successive halving, one after the other, for ever the same cycle of them.

    A trial belongs to a bracket by its number: those that begin on a rung fill the brackets that
    begin there, in turn. So the same trials always make the same brackets, in whatever order they
    ended. Nothing is decided on a rung before all its trials have ended; while it waits for some
    that run elsewhere, the next bracket begins.

    A failed trial stands last on its rung and never goes on; one that was rejected was not trained,
    and leaves its place in the lowest rung to another. When a space has nothing new left, brackets
    go on with what they have, at least one of each rung.

    Args:
        space: what is searched.
        study: its first objective ranks the trials of a rung, after its constraints.
        cycle: the brackets; no two of them begin at the same fidelity.
        eta: one in so many goes on to the next rung.
    """

    def __init__(self, space: Space, study: Study, cycle: Sequence[Bracket], eta: int) -> None:
        self._memory = Memory(space, study.seed)
        self._study = study
        self._cycle = tuple(cycle)
        self._eta = eta
        self._begun: dict[int, list[int]] = {bracket.fidelities[0]: [] for bracket in cycle}
        self._trials: dict[int, Trial] = {}
        self._places: dict[int, tuple[tuple[float, float], int]] = {}
        self._above: dict[int, int] = {}
        self._over = 0  # so many brackets have ended, from the first on
        self._nothing_new = False

    def ask(self, draw: Callable[[Random], Architecture]) -> Proposal | None:
        """Return a promotion, or something new; None while others must end first, or for good.

        Args:
            draw: gives candidates for something new.
        """
        if (promotion := self._promotion()) is not None:
            return promotion
        if not self._nothing_new:
            random = self._memory.random()
            drawn = self._memory.fresh(random, lambda: draw(random))
            if drawn is not None:
                return Proposal(drawn, self._opening())
            self._nothing_new = True
        return self._promotion()

    def tell(self, trial: Trial) -> None:
        """Put a trial in its place."""
        number, proposal = trial.number, trial.proposal
        self._memory.tell(trial)
        self._trials[number] = trial
        self._places[number] = (rank(self._study, trial), number)
        if proposal.continues is not None:
            self._above[proposal.continues] = number
        elif proposal.fidelity in self._begun:
            begun = self._begun[proposal.fidelity]
            place = bisect_left(begun, number)
            known = place < len(begun) and begun[place] == number
            if trial.state is State.REJECTED and known:
                begun.pop(place)
            elif trial.state is not State.REJECTED and not known:
                insort(begun, number)

    def _promotion(self) -> Proposal | None:
        for index in range(self._over, self._brackets_begun()):
            promotion, over = self._look(index)
            if promotion is not None:
                return promotion
            if over and index == self._over:
                self._over += 1
        return None

    def _opening(self) -> int:
        """The fidelity at which the first bracket that is not full begins."""
        index = self._over
        while len(self._members(index)) == self._bracket(index).size:
            index += 1
        return self._bracket(index).fidelities[0]

    def _look(self, index: int) -> tuple[Proposal | None, bool]:
        """The next promotion within a bracket, if any, and whether the bracket is over."""
        bracket, rung = self._bracket(index), self._members(index)
        size = len(rung)
        if size < bracket.size and not self._nothing_new:
            return None, False
        for level, fidelity in enumerate((*bracket.fidelities[1:], None), start=1):
            trials = [self._trials[number] for number in rung]
            if any(trial.state is State.RUNNING for trial in trials):
                return None, False
            if fidelity is None:
                break
            done = [trial for trial in trials if trial.state is State.DONE]
            done.sort(key=lambda trial: self._places[trial.number])
            best = done[: max(1, size // self._eta**level)]
            for trial in best:
                if trial.number not in self._above:
                    return Proposal(trial.architecture, fidelity, continues=trial.number), False
            rung = [self._above[trial.number] for trial in best]
        return None, True

    def _bracket(self, index: int) -> Bracket:
        return self._cycle[index % len(self._cycle)]

    def _members(self, index: int) -> list[int]:
        """Numbers of the trials that began in a bracket."""
        bracket, turn = self._bracket(index), index // len(self._cycle)
        begun = self._begun[bracket.fidelities[0]]
        return begun[turn * bracket.size : (turn + 1) * bracket.size]

    def _brackets_begun(self) -> int:
        last = 0
        for place, bracket in enumerate(self._cycle):
            turns = -(-len(self._begun[bracket.fidelities[0]]) // bracket.size)
            if turns:
                last = max(last, (turns - 1) * len(self._cycle) + place + 1)
        return last
