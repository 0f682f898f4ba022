"""BANANAS: Bayesian optimization with an ensemble of neural networks on path encodings.

White, Neiswanger, Savani, "BANANAS: Bayesian Optimization with Neural Architectures for Neural
Architecture Search", AAAI 2021, Algorithm 1. Networks learn losses from the truncated path
encoding; candidates are mutants of the best architectures known; independent Thompson sampling
draws a loss for each from its own normal distribution, and those of the lowest draws are trained
next. Defaults are those of the authors' code for the paper.

Departures: losses are standardized, since a metric need not be an error in percent, and their
absolute error is minimized (the code does so; the paper weighs it by the distance to a lower
bound of the loss, which is known only for errors); which paths are frequent is measured on random
architectures of the space; without a graph the encoding is one number per decision, none left
out; above 256 trials the batches of training grow; what breaks a constraint is learned as worse
than all that do not (Deb 2000).
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from random import Random

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import canonical, graph_of, sample
from parti.spaces.paths import path_bag, vectors
from parti.strategies.models.candidates import distinct, mutants
from parti.strategies.models.networks import Training, train
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import penalized

__all__ = ["Bananas", "thompson"]

SAMPLED = 500
"""Random architectures whose paths are counted to find the frequent ones."""


class Bananas:
    """Train the mutants of the best that do best in a draw from an ensemble's predictions.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        first: number of random architectures at the beginning (t0 in the paper).
        batch: number of architectures trained between two trainings of the ensemble (k).
        candidates: number of mutants that the ensemble judges (c).
        parents: number of best trials that are mutated (x); the next one only when those before
            it give too few new mutants.
        paths: number of most frequent paths in the encoding; the others are left out.
        members: number of networks in the ensemble (M).
        layers: number of hidden layers of a network.
        width: of a hidden layer.
        epochs: of training.
        rate: learning rate of Adam.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a number is not positive.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        first: int = 10,
        batch: int = 10,
        candidates: int = 100,
        parents: int = 5,
        paths: int = 40,
        members: int = 5,
        layers: int = 10,
        width: int = 20,
        epochs: int = 150,
        rate: float = 0.01,
        fidelity: int | None = None,
    ) -> None:
        if min(candidates, parents, paths, layers) < 1:
            raise InvalidSettings(
                f"{candidates} candidates of {parents} parents, {paths} paths, {layers} layers: "
                "all must be at least 1"
            )
        self._space = space
        self._study = study
        self._candidates = candidates
        self._parents = parents
        self._paths = paths
        self._training = Training(
            hidden=(width,) * layers,
            members=members,
            loss="absolute",
            epochs=epochs,
            batch=32,
            rate=rate,
            betas=(0.9, 0.99),
        )
        self._fidelity = fidelity
        self._rounds = Rounds(
            space, study, self._ranking, first=first, batch=batch, fidelity=fidelity
        )

    def ask(self) -> Proposal | None:
        """Return a random architecture at first, then the candidate of the lowest draw left."""
        return self._rounds.ask()

    def tell(self, trial: Trial) -> None:
        """Learn of a trial."""
        self._rounds.tell(trial)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """What the numbers of the encoding stand for, the most frequent first."""
        random = Random(0)
        drawn = [sample(self._space, random) for _ in range(SAMPLED)]
        counts = Counter(
            feature
            for architecture in drawn
            for feature in path_bag(self._space, canonical(self._space, architecture))
        )
        ranked = sorted(counts, key=lambda feature: (-counts[feature], feature))
        graphless = graph_of(self._space, drawn[0]) is None
        return tuple(ranked if graphless else ranked[: self._paths])

    def _ranking(self, round_: Round) -> list[Proposal]:
        parents = round_.best(self._study, self._parents)
        drawn = mutants(
            self._space,
            parents,
            round_.random,
            each=self._candidates,
            fidelity=self._fidelity,
        )
        found = distinct(self._space, drawn, round_.known, self._candidates)
        if not found:
            return []
        trials, losses = penalized(self._study, round_.trials)
        rng = np.random.default_rng(round_.random.getrandbits(64))
        ensemble = train(self._encoded(trials), losses, self._training, rng)
        draws = thompson(ensemble.predict(self._encoded(found)), rng)
        return [found[place] for place in np.argsort(draws, kind="stable")]

    def _encoded(self, holders: list[Trial] | list[Proposal]) -> npt.NDArray[np.float32]:
        bags = (
            path_bag(self._space, canonical(self._space, holder.architecture)) for holder in holders
        )
        return vectors(bags, self.features)


def thompson(
    predictions: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw a loss for each candidate from a normal distribution of its own (section 5, ITS).

    Args:
        predictions: of each member for each candidate, shape (members, candidates).
        rng: of the draws.

    Returns:
        Shape (candidates,); the draws of two candidates are independent.
    """
    draws: npt.NDArray[np.float64] = rng.normal(predictions.mean(axis=0), predictions.std(axis=0))
    return draws
