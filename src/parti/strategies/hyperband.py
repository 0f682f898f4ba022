"""Hyperband.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband: A Novel Bandit-Based Approach to
Hyperparameter Optimization", JMLR 18, 2018, Algorithm 1: brackets of successive halving from the
boldest (many architectures, all begin at the lowest fidelity) to the most careful (few, all trained
in full), for it is not known how far a low fidelity can be trusted.

Departures: after the last bracket the first one begins again, without end; in a parallel search the
next bracket begins while a rung waits for trials that still run. No architecture begins twice, in
whatever brackets. A failed trial never goes on, and one that was rejected leaves its place to
another. The paper's lowest resource is 1; here it is what `min_fidelity` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from parti.core.architecture import Architecture
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import sample
from parti.strategies.rungs import Bracket, Halving, ladder

__all__ = ["Hyperband", "hyperband_brackets"]


def hyperband_brackets(rungs: tuple[int, ...], eta: int) -> list[Bracket]:
    """Return one cycle of Hyperband's brackets, boldest first.

    Bracket s begins s rungs below the highest, with n = ⌈(s_max + 1) / (s + 1) · eta^s⌉
    architectures (line 3 of Algorithm 1, where B = (s_max + 1) R).
    """
    most = len(rungs) - 1  # s_max
    return [
        Bracket(-(-(most + 1) * eta**s // (s + 1)), rungs[most - s :]) for s in range(most, -1, -1)
    ]


class Hyperband:
    """Successive halving with several trade-offs between how many and how long, in turn.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        min_fidelity: what the lowest rung costs at least (1 in the paper).
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
        max_fidelity: int = 27,
        eta: int = 3,
        fidelities: Sequence[int] | None = None,
    ) -> None:
        rungs = ladder(min_fidelity, max_fidelity, eta, fidelities)
        self._space = space
        self._halving = Halving(space, study, hyperband_brackets(rungs, eta), eta)

    def ask(self) -> Proposal | None:
        """Return a promotion, or something new; None when there is neither."""
        return self._halving.ask(self._draw)

    def tell(self, trial: Trial) -> None:
        """Put the trial on its rung of its bracket."""
        self._halving.tell(trial)

    def _draw(self, random: Random) -> Architecture:
        return sample(self._space, random)
