"""Successive halving.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016, in the form of Li et al., "A System for Massively Parallel Hyperparameter Tuning",
MLSys 2020, Algorithm 1: n architectures are trained a little; the best 1/eta of them eta times as
long; and so on, up to the maximum.

Departures: when a bracket has ended, the next one begins, without end; in a parallel search it
begins while the rung of the last one waits for trials that still run. No architecture begins twice.
The rungs are counted from the maximum down (R, R/eta, ...), so that it is reached exactly. A failed
trial never goes on, and one that was rejected leaves its place to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import sample
from parti.strategies.rungs import Bracket, Halving, ladder

__all__ = ["SuccessiveHalving"]


class SuccessiveHalving:
    """Train many a little, the best longer, the best of these longer still.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        min_fidelity: what the lowest rung costs at least (r in the paper).
        max_fidelity: what the highest rung costs (R).
        eta: one in so many goes on to the next rung, which costs so many times as much.
        architectures: how many begin in a bracket (n); by default as many as it takes for one of
            them to reach the highest rung.
        fidelities: the rungs, lowest first, instead of the geometric ones between min and max.

    Raises:
        InvalidSettings: eta is less than 2, the fidelities are not positive and rising, or too few
            architectures begin for one to reach the highest rung.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        min_fidelity: int = 1,
        max_fidelity: int = 27,
        eta: int = 3,
        architectures: int | None = None,
        fidelities: Sequence[int] | None = None,
    ) -> None:
        rungs = ladder(min_fidelity, max_fidelity, eta, fidelities)
        least = eta ** (len(rungs) - 1)
        begin = least if architectures is None else architectures
        if begin < least:
            raise InvalidSettings(
                f"successive halving of {begin} architectures with eta {eta}: none would reach the "
                f"last of the rungs {list(rungs)}; begin with at least {least}, or with fewer rungs"
            )
        self._space = space
        self._halving = Halving(space, study, [Bracket(begin, rungs)], eta)

    def ask(self) -> Proposal | None:
        """Return a promotion, or something new; None when there is neither."""
        return self._halving.ask(self._draw)

    def tell(self, trial: Trial) -> None:
        """Put the trial on its rung."""
        self._halving.tell(trial)

    def _draw(self, random: Random) -> Architecture:
        return sample(self._space, random)
