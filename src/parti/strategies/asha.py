"""ASHA: asynchronous successive halving.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar, "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, Algorithm 2: whenever a worker is free, promote what is
in the best 1/eta of its rung, from the highest rung down; if there is none, begin something new on
the lowest rung. Nobody waits for anybody.

Departures: the rungs are counted from the maximum down (R, R/eta, ...), so that it is reached
exactly. The early-stopping rate s is 0; raise `min_fidelity` for another. No architecture begins
twice. A failed trial counts on its rung but never goes on; one that was rejected does not count.
When the space has nothing new left, at least the best of each rung goes on.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import sample
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank
from parti.strategies.rungs import ladder

__all__ = ["ASHA"]


class ASHA:
    """Promote the best 1/eta of any rung as soon as it is among them; else begin something new.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        min_fidelity: what the lowest rung costs at least (r in the paper).
        max_fidelity: what the highest rung costs (R).
        eta: one in so many goes on to the next rung, which costs so many times as much.
        fidelities: the rungs, lowest first, instead of the geometric ones between min and max.

    Raises:
        InvalidSettings: eta is less than 2, or the fidelities are not positive and rising.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        min_fidelity: int = 1,
        max_fidelity: int = 64,
        eta: int = 4,
        fidelities: Sequence[int] | None = None,
    ) -> None:
        self._space = space
        self._study = study
        self._eta = eta
        self._fidelities = ladder(min_fidelity, max_fidelity, eta, fidelities)
        self._memory = Memory(space, study.seed)
        self._trials: dict[int, Trial] = {}
        self._rungs: dict[int, list[tuple[tuple[float, float], int]]] = {
            fidelity: [] for fidelity in self._fidelities
        }
        self._promoted: set[int] = set()
        self._nothing_new = False

    def ask(self) -> Proposal | None:
        """Return a promotion, or something new; None when there is neither."""
        if (promotion := self._promotion()) is not None:
            return promotion
        if not self._nothing_new:
            random = self._memory.random()
            drawn = self._memory.fresh(random, lambda: sample(self._space, random))
            if drawn is not None:
                return Proposal(drawn, self._fidelities[0])
            self._nothing_new = True
        return self._promotion()

    def tell(self, trial: Trial) -> None:
        """Put a trial that has ended on its rung."""
        self._memory.tell(trial)
        proposal = trial.proposal
        if proposal.continues is not None:
            self._promoted.add(proposal.continues)
        if trial.state in (State.DONE, State.FAILED) and proposal.fidelity in self._rungs:
            self._trials[trial.number] = trial
            insort(self._rungs[proposal.fidelity], (rank(self._study, trial), trial.number))

    def _promotion(self) -> Proposal | None:
        """The function get_job of Algorithm 2, but for its last lines."""
        for level in range(len(self._fidelities) - 2, -1, -1):
            rung = self._rungs[self._fidelities[level]]
            best = len(rung) // self._eta
            for _, number in rung[: max(1, best) if self._nothing_new else best]:
                trial = self._trials[number]
                if trial.state is State.DONE and number not in self._promoted:
                    above = self._fidelities[level + 1]
                    return Proposal(trial.architecture, above, continues=number)
        return None
