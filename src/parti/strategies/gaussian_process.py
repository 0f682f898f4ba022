"""Bayesian optimization with a Gaussian process over graphs (NAS-BOWL).

Ru, Wan, Dong, Osborne, "Interpretable Neural Architecture Search via Bayesian Optimisation with
Weisfeiler-Lehman Kernels", ICLR 2021, Algorithm 1: a Gaussian process with the Weisfeiler-Lehman
kernel learns from the architectures known; those of the highest expected improvement in a pool of
mutants and random architectures are trained next.

Departures: since a metric need not be an error, the logarithm that is learned is that of the
distance to the best loss, not of the error (`targets.LogRegret`); amplitude and noise are those
of the highest marginal likelihood over a grid (the paper: gradients); subtrees are compared by
the dot product of their counts on every benchmark (the paper: by optimal assignment on
NAS-Bench-101); without a graph the kernel is exp(-Hamming distance / lengthscale); constraints
weigh the improvement by the probability that they hold (Schonlau 1998).
"""

from __future__ import annotations

from collections.abc import Sequence

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.strategies.models.beliefs import believe
from parti.strategies.models.candidates import Pool, ordered
from parti.strategies.models.improvement import expected_improvement
from parti.strategies.models.kernels import kernel_for
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import LogRegret, loss_table

__all__ = ["GaussianProcess"]


class GaussianProcess:
    """Train what is expected to improve most on the best known, by a Gaussian process.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        first: number of random architectures at the beginning.
        batch: number of architectures trained between two fits of the process (B in the paper).
        pool: number of candidates in a round, half of them mutants (P).
        parents: number of best trials that are mutated.
        depths: numbers of Weisfeiler-Lehman iterations to choose among (H).
        listed: a static space of at most so many architectures is its own pool, which takes more
            time and, on NAS-Bench-201, more trials; 0 for never, as in the paper.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a number is not positive, or there is no depth.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        first: int = 10,
        batch: int = 5,
        pool: int = 200,
        parents: int = 10,
        depths: Sequence[int] = (1, 2),
        listed: int = 0,
        fidelity: int | None = None,
    ) -> None:
        if parents < 1:
            raise InvalidSettings(f"{parents} parents to mutate: there must be at least 1")
        self._study = study
        self._parents = parents
        self._pool = Pool(space, size=pool, listed=listed, fidelity=fidelity)
        self._kernel = kernel_for(space, depths)
        self._rounds = Rounds(
            space, study, self._ranking, first=first, batch=batch, fidelity=fidelity
        )

    def ask(self) -> Proposal | None:
        """Return a random architecture at first, then the most promising candidate left."""
        return self._rounds.ask()

    def tell(self, trial: Trial) -> None:
        """Learn of a trial."""
        self._rounds.tell(trial)

    def _ranking(self, round_: Round) -> list[Proposal]:
        best = round_.best(self._study, self._parents)
        candidates = self._pool.draw(best, round_.known, round_.random)
        rows = self._kernel.rows(candidate.architecture for candidate in candidates)
        losses = loss_table(self._study.objectives[:1], round_.trials)
        losses = LogRegret.of(losses)(losses)
        beliefs = believe(self._kernel, self._study, round_.trials, losses)
        means, deviations = (each[:, 0] for each in beliefs.predict(rows))
        scores = beliefs.feasible(rows)
        if len(beliefs.losses):
            scores *= expected_improvement(beliefs.losses.min(), means, deviations)
        return ordered(candidates, scores, means)
