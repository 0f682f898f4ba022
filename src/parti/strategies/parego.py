"""ParEGO: many objectives as one, another one in each round.

Knowles, "ParEGO: A Hybrid Algorithm with On-Line Landscape Approximation for Expensive
Multiobjective Optimization Problems", IEEE Transactions on Evolutionary Computation 10(1), 2006.
A weight is drawn for each objective; the losses, scaled to [0, 1], become one by the augmented
Tchebycheff function (equation 2); a Gaussian process learns it, and the candidate of the highest
expected improvement is trained next.

Departures: the kernels are those over architectures (see `gaussian_process`), and a pool of
candidates takes the place of a genetic algorithm over a continuous space; the process learns
from all trials (the paper: from some of them when there are many); `first` random architectures
take the place of 11 d - 1 points of a Latin hypercube; losses that are further from the median
than the best are learned as being as far. Constraints weigh the improvement by the
probability that they hold (Schonlau 1998).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study, pareto_front
from parti.core.trial import Proposal, Trial
from parti.strategies.models.beliefs import believe
from parti.strategies.models.candidates import Pool, ordered
from parti.strategies.models.improvement import expected_improvement
from parti.strategies.models.kernels import kernel_for
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import clipped, loss_table

__all__ = ["ParEGO", "random_weights", "tchebycheff"]

Floats = npt.NDArray[np.float64]


class ParEGO:
    """Train what is expected to improve most on a random weighting of the objectives.

    Args:
        space: what is searched.
        study: all its objectives are optimized; its seed and constraints are used.
        first: number of random architectures at the beginning.
        batch: number of architectures trained with the same weights.
        pool: number of candidates in a round, half of them mutants of the Pareto front.
        divisions: weights are multiples of 1 / divisions (s in the paper).
        augmentation: how much the weighted sum counts beside the largest weighted loss (rho).
        depths: numbers of Weisfeiler-Lehman iterations to choose among.
        listed: a static space of at most so many architectures is its own pool; 0 for never.
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
        batch: int = 1,
        pool: int = 200,
        divisions: int = 10,
        augmentation: float = 0.05,
        depths: Sequence[int] = (1, 2),
        listed: int = 20_000,
        fidelity: int | None = None,
    ) -> None:
        if divisions < 1 or augmentation < 0:
            raise InvalidSettings(
                f"{divisions} divisions and an augmentation of {augmentation}: weights have at "
                "least 1 division, and the augmentation is 0 or more"
            )
        self._study = study
        self._divisions = divisions
        self._augmentation = augmentation
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
        weights = random_weights(len(study.objectives), self._divisions, round_.random)
        parents = pareto_front(study, round_.trials) or round_.best(study, 1)
        candidates = self._pool.draw(parents, round_.known, round_.random)
        rows = self._kernel.rows(candidate.architecture for candidate in candidates)
        losses = clipped(loss_table(study.objectives, round_.trials))
        scalars = tchebycheff(_scaled(losses), weights, self._augmentation)
        beliefs = believe(self._kernel, study, round_.trials, scalars[:, None])
        means, deviations = (each[:, 0] for each in beliefs.predict(rows))
        scores = beliefs.feasible(rows)
        if len(beliefs.losses):
            scores *= expected_improvement(beliefs.losses.min(), means, deviations)
        return ordered(candidates, scores, means)


def tchebycheff(losses: Floats, weights: Floats, augmentation: float) -> Floats:
    """Make one loss of several: the largest weighted one, and a share of their sum (equation 2).

    Args:
        losses: scaled to [0, 1], shape (trials, objectives); infinite where a trial has none.
        weights: sum to 1, shape (objectives,).
        augmentation: the share (rho).

    Returns:
        Shape (trials,); infinite where a loss is.
    """
    scalars = np.full(len(losses), math.inf)
    usable = np.flatnonzero(np.isfinite(losses).all(axis=1))
    weighted = weights * losses[usable]
    scalars[usable] = weighted.max(axis=1) + augmentation * weighted.sum(axis=1)
    return scalars


def random_weights(objectives: int, divisions: int, random: Random) -> Floats:
    """Draw one of all weight vectors of multiples of 1 / divisions that sum to 1 (equation 1).

    Each is equally likely: the places of objectives - 1 bars among divisions + objectives - 1.
    """
    places = range(divisions + objectives - 1)
    bars = [-1, *sorted(random.sample(places, objectives - 1)), len(places)]
    weights: Floats = (np.diff(bars) - 1) / divisions
    return weights


def _scaled(losses: Floats) -> Floats:
    """Losses from 0 (best) to 1 (worst), column by column; infinities stay."""
    finite = losses[np.isfinite(losses).all(axis=1)]
    extent = np.ptp(finite, axis=0)
    scaled: Floats = (losses - finite.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    return scaled
