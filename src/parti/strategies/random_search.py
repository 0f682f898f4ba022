"""Random search.

Li and Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI 2019:
the baseline that every other strategy has to beat.
"""

from __future__ import annotations

from typing import Literal

from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import sample
from parti.strategies.memory import Memory

__all__ = ["RandomSearch"]


class RandomSearch:
    """Draw architectures at random, none twice.

    Args:
        space: what to draw from.
        study: its seed is used.
        uniform: "pick": every option is equally likely where it comes up; "architecture": every
            member of the space is (static spaces only).
        fidelity: how much to spend on each, None for the evaluator's default.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        uniform: Literal["pick", "architecture"] = "pick",
        fidelity: int | None = None,
    ) -> None:
        self._memory = Memory(space, study.seed)
        self._space = space
        self._uniform = uniform
        self._fidelity = fidelity

    def ask(self) -> Proposal | None:
        """Return something new, or None when the whole space is known."""
        random = self._memory.random()
        drawn = self._memory.fresh(
            random, lambda: sample(self._space, random, uniform=self._uniform)
        )
        return Proposal(drawn, self._fidelity) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Remember it, so that it is not proposed again."""
        self._memory.tell(trial)
