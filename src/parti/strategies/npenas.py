"""NPENAS-NP: evolution guided by a neural predictor.

Wei, Niu, Tang, Wang, Hu, Liang, "NPENAS: Neural Predictor Guided Evolution for Neural
Architecture Search", IEEE Transactions on Neural Networks and Learning Systems 34(11), 2023
(arXiv 2003.12857), Algorithm 1. The best architectures known have many mutants each; a predictor
trained on all that is known picks the mutants that are trained. Defaults are those of the
authors' code.

Departures: the predictor reads the Weisfeiler-Lehman histograms of three iterations with two
hidden layers (the paper: a graph isomorphism network of three layers, which can tell apart at
most what these histograms can: Xu, Hu, Leskovec, Jegelka, "How Powerful are Graph Neural
Networks?", ICLR 2019), and of these what at least two known architectures share; without a graph
it reads the decisions; there is no dropout; losses are standardized (the paper scales the output
by hand for each data set); above 128 trials the batches of training grow; what breaks a
constraint is learned as worse than all that do not (Deb 2000).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.core.walks import canonical
from parti.spaces.paths import Bag, subtree_bags, vectors
from parti.strategies.models.candidates import distinct, mutants
from parti.strategies.models.networks import Training, train
from parti.strategies.models.rounds import Round, Rounds
from parti.strategies.models.targets import penalized

__all__ = ["Npenas"]

DEPTH = 3
"""Weisfeiler-Lehman iterations, one for each layer of the paper's network."""


class Npenas:
    """Train those mutants of the best that a predictor expects to do best.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        first: number of random architectures at the beginning.
        batch: number of architectures trained between two trainings of the predictor (t in the
            paper).
        candidates: number of mutants that the predictor judges.
        parents: number of best trials that are mutated; the next one only when those before it
            give too few new mutants.
        members: number of networks whose mean is the prediction; the paper has one.
        width: of the first hidden layer; the second has half as many.
        epochs: of training.
        rate: learning rate of Adam at the beginning.
        decay: weight decay.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a number is not positive, or the width less than 2.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        first: int = 10,
        batch: int = 10,
        candidates: int = 100,
        parents: int = 50,
        members: int = 1,
        width: int = 32,
        epochs: int = 300,
        rate: float = 0.005,
        decay: float = 1e-4,
        fidelity: int | None = None,
    ) -> None:
        if min(candidates, parents) < 1 or width < 2:
            raise InvalidSettings(
                f"{candidates} candidates of {parents} parents, width {width}: candidates and "
                "parents must be at least 1, the width at least 2"
            )
        self._space = space
        self._study = study
        self._candidates = candidates
        self._parents = parents
        self._training = Training(
            hidden=(width, width // 2),
            members=members,
            loss="squared",
            epochs=epochs,
            batch=16,
            rate=rate,
            decay=decay,
            cosine=True,
        )
        self._fidelity = fidelity
        self._rounds = Rounds(
            space, study, self._ranking, first=first, batch=batch, fidelity=fidelity
        )

    def ask(self) -> Proposal | None:
        """Return a random architecture at first, then the candidate of the best prediction left."""
        return self._rounds.ask()

    def tell(self, trial: Trial) -> None:
        """Learn of a trial."""
        self._rounds.tell(trial)

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
        seen = self._bags(trial.architecture for trial in trials)
        counts = Counter(feature for bag in seen for feature in bag)
        features = sorted(feature for feature, count in counts.items() if count > 1)
        rng = np.random.default_rng(round_.random.getrandbits(64))
        ensemble = train(vectors(seen, features), losses, self._training, rng)
        judged = self._bags(candidate.architecture for candidate in found)
        predicted = ensemble.predict(vectors(judged, features)).mean(axis=0)
        # Rounded, so that equal features are equal whatever the order a processor adds numbers in.
        return [found[place] for place in np.argsort(predicted.round(6), kind="stable")]

    def _bags(self, architectures: Iterable[Architecture]) -> list[Bag]:
        """One bag for each, of the subtrees of all depths."""
        merged: list[Bag] = []
        for architecture in architectures:
            layers = subtree_bags(self._space, canonical(self._space, architecture), DEPTH)
            merged.append(
                {f"{d}:{name}": n for d, layer in enumerate(layers) for name, n in layer.items()}
            )
        return merged
