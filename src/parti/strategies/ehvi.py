"""Expected hypervolume improvement, for several expensive objectives.

Emmerich, Giannakoglou, Naujoks, "Single- and Multiobjective Evolutionary Optimization Assisted by
Gaussian Random Field Metamodels", IEEE Transactions on Evolutionary Computation 10(4), 2006: an
independent Gaussian process learns each objective; trained next is what is expected to enlarge
most the volume that the Pareto front dominates. The expectation is exact for up to three
objectives, as a sum over boxes (Daulton, Balandat, Bakshy, "Differentiable Expected Hypervolume
Improvement for Parallel Multi-Objective Bayesian Optimization", NeurIPS 2020, section 3), and
sampled for more. For one objective it is the expected improvement.

Departures: the kernels are those over architectures (see `gaussian_process`), and a pool of
candidates takes the place of a continuous space; the reference point, which the papers leave to
the user, is the worst of the front in each objective and a tenth of its extent more, as in
BoTorch; losses that are further from the median than the best are learned as being as far, since
networks that hardly learn are far from all others; with `batch` above 1 the best of one ranking
are trained (Daulton 2020 optimizes them jointly). Constraints weigh the improvement by the
probability that they hold (Daulton 2020, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study, pareto_front
from parti.core.trial import Proposal, Trial
from parti.strategies.models.beliefs import believe
from parti.strategies.models.candidates import Pool, ordered
from parti.strategies.models.improvement import boxes, expected_hypervolume, sampled_hypervolume
from parti.strategies.models.kernels import kernel_for
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import clipped, loss_table
from parti.strategies.pareto import nondominated

__all__ = ["ExpectedHypervolume", "reference_point"]

Floats = npt.NDArray[np.float64]

EXACT = 3
"""Up to so many objectives the expectation is exact."""

SAMPLED = 2_000_000
"""Beyond that, candidates × samples; but each candidate has at least `LEAST_SAMPLES`."""

LEAST_SAMPLES = 512


class ExpectedHypervolume:
    """Train what is expected to enlarge the dominated hypervolume most.

    Args:
        space: what is searched.
        study: all its objectives are optimized; its seed and constraints are used.
        first: number of random architectures at the beginning.
        batch: number of architectures trained between two fits (q in Daulton 2020).
        pool: number of candidates in a round, half of them mutants of the Pareto front.
        depths: numbers of Weisfeiler-Lehman iterations to choose among.
        listed: a static space of at most so many architectures is its own pool; 0 for never.
        reference: the worst loss of interest for each objective (r); by default it follows the
            front. The loss of a metric that is maximized is its negative.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a number is not positive, there is no depth, or the reference does not
            fit the objectives.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        first: int = 10,
        batch: int = 1,
        pool: int = 200,
        depths: Sequence[int] = (1, 2),
        listed: int = 20_000,
        reference: Sequence[float] | None = None,
        fidelity: int | None = None,
    ) -> None:
        if reference is not None and (
            len(reference) != len(study.objectives) or not all(map(math.isfinite, reference))
        ):
            raise InvalidSettings(
                f"reference {list(reference)}: give a finite loss for each of "
                f"{[objective.metric for objective in study.objectives]}"
            )
        self._study = study
        self._reference = reference
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
        study = self._study
        parents = pareto_front(study, round_.trials) or round_.best(study, 1)
        candidates = self._pool.draw(parents, round_.known, round_.random)
        rows = self._kernel.rows(candidate.architecture for candidate in candidates)
        losses = clipped(loss_table(study.objectives, round_.trials))
        beliefs = believe(self._kernel, study, round_.trials, losses)
        means, deviations = beliefs.predict(rows)
        scores = beliefs.feasible(rows)
        if len(beliefs.losses) and len(candidates):
            scores *= self._gain(beliefs.losses, means, deviations, round_)
        return ordered(candidates, scores, means[:, 0])

    def _gain(self, losses: Floats, means: Floats, deviations: Floats, round_: Round) -> Floats:
        front = losses[nondominated(losses)]
        reference = reference_point(losses) if self._reference is None else self._reference
        corner = np.asarray(reference, dtype=np.float64)
        if len(corner) <= EXACT:
            return expected_hypervolume(boxes(front, corner), means, deviations)
        rng = np.random.default_rng(round_.random.getrandbits(64))
        samples = max(LEAST_SAMPLES, SAMPLED // len(means))
        return sampled_hypervolume(front, corner, means, deviations, rng, samples=samples)


def reference_point(losses: Floats) -> Floats:
    """Return the worst corner up to which volume counts.

    It is the worst of the front and a tenth of the front's extent more, in each objective; where
    all of the front is equal, a tenth of the extent of all losses.

    Args:
        losses: shape (points, objectives), at least one point.
    """
    front = losses[nondominated(losses)]
    extent = np.ptp(front, axis=0)
    extent = np.where(extent > 0, extent, np.ptp(losses, axis=0))
    worst: Floats = front.max(axis=0) + 0.1 * np.where(extent > 0, extent, 1.0)
    return worst
