"""Nevergrad's optimizers over a dictionary of choices.

Rapin and Teytaud, "Nevergrad: A gradient-free optimization platform", 2018. Scales are transition
choices, which move to neighbours; other choices are plain ones. Constraints are penalties.
"""

from __future__ import annotations

import warnings
from typing import Any

from benchmarks.peers.waiting import Waiting, needed
from parti import Architecture, Study
from parti.core.protocols import Space

FAR = 1e9
"""Loss of a failed trial."""


class Nevergrad(Waiting):
    """Ask and tell an optimizer.

    Args:
        space: what is searched; not a dynamic one.
        study: its objectives are optimized.
        evaluations: how many the optimizer may plan with.
        fidelity: of every proposal.
    """

    optimizer = ""

    def __init__(
        self, space: Space, study: Study, *, evaluations: int = 300, fidelity: int | None = None
    ) -> None:
        super().__init__(space, study, fidelity)
        nevergrad = needed("nevergrad", "nevergrad")
        kinds = {False: nevergrad.p.Choice, True: nevergrad.p.TransitionChoice}
        variables = nevergrad.p.Dict(
            **{
                name: kinds[choice.ordered](list(range(len(choice.options))))
                for name, choice in self.fixed_choices().items()
            }
        )
        variables.random_state.seed(study.seed)
        maker = nevergrad.optimizers.registry[self.optimizer]
        self._optimizer = maker(variables, budget=evaluations)
        self._candidate: Any = None

    def next_architecture(self) -> Architecture:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._candidate = self._optimizer.ask()
        return self.decided(self._candidate.value)

    def learn(self, losses: list[float] | None, violated: float) -> None:
        told: Any = [FAR] * len(self.study.objectives) if losses is None else losses
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._optimizer.tell(
                self._candidate,
                told if len(told) > 1 else told[0],
                constraint_violation=[violated] if self.study.constraints else None,
            )


class NevergradNGOpt(Nevergrad):
    """Nevergrad's own choice of an optimizer for the problem."""

    optimizer = "NGOpt"


class NevergradDiscrete(Nevergrad):
    """A discrete (1+1) evolution strategy with a portfolio of mutation rates."""

    optimizer = "PortfolioDiscreteOnePlusOne"
