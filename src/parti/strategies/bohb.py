"""BOHB: Hyperband whose new architectures come from a model.

Falkner, Klein, Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML
2018, Algorithms 1 and 2: brackets as in Hyperband; what begins in them is drawn, but for a random
fraction, from a density of the good trials, where the ratio of it to the density of the bad ones
is greatest. The model is that of the highest fidelity that has enough trials.

An architecture is a vector with one number for each choice; what does not exist in it is filled in
at random from others, as in the authors' code. In a dynamic space the choices are those of the
trials that the model is made of; whatever else comes up is drawn uniformly.

Departures: as in Hyperband (`parti.strategies.hyperband`); a candidate that is known already gives
way to the next best; bandwidths are limited to where a kernel is uniform; failed and rejected
trials are never good and always bad (the paper gives a crashed one an infinite loss, and a share
of all may be good), and only trials that are done make a model due.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from functools import partial
from math import nan
from random import Random

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import choices, sample, tree_of
from parti.strategies.hyperband import hyperband_brackets
from parti.strategies.kernel_density import KernelDensity, encoded, imputed
from parti.strategies.ranking import rank
from parti.strategies.rungs import Halving, ladder

__all__ = ["BOHB"]


class BOHB:
    """Hyperband, with a density of good architectures in place of random draws.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        min_fidelity: what the lowest rung costs at least (b_min in the paper).
        max_fidelity: what the highest rung costs (b_max).
        eta: one in so many goes on to the next rung, which costs so many times as much (η).
        random_fraction: share of random architectures (ρ).
        good: share of the trials whose density is drawn from (q).
        candidates: how many are drawn, of which the best is proposed (N_s).
        points: how many trials each of the two densities needs (N_min); by default one more than
            there are choices.
        bandwidth_factor: candidates are drawn with bandwidths so many times as wide (b_w).
        least_bandwidth: no bandwidth is smaller.
        fidelities: the rungs, lowest first, instead of the geometric ones between min and max.

    Raises:
        InvalidSettings: eta is less than 2, the fidelities are not positive and rising, a share is
            not from 0 to 1, or a count or width is not positive.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        min_fidelity: int = 1,
        max_fidelity: int = 27,
        eta: int = 3,
        random_fraction: float = 1 / 3,
        good: float = 0.15,
        candidates: int = 64,
        points: int | None = None,
        bandwidth_factor: float = 3.0,
        least_bandwidth: float = 1e-3,
        fidelities: Sequence[int] | None = None,
    ) -> None:
        if not 0 <= random_fraction <= 1 or not 0 < good < 1:
            raise InvalidSettings(
                f"random_fraction {random_fraction} must be from 0 to 1, good {good} between them"
            )
        if candidates < 1 or (points is not None and points < 2):
            raise InvalidSettings(
                f"candidates {candidates} must be at least 1, points {points} at least 2"
            )
        if bandwidth_factor <= 0 or not 0 < least_bandwidth < 0.5:
            raise InvalidSettings(
                f"bandwidth_factor {bandwidth_factor} must be more than 0, "
                f"least_bandwidth {least_bandwidth} between 0 and 0.5"
            )
        rungs = ladder(min_fidelity, max_fidelity, eta, fidelities)
        self._space = space
        self._study = study
        self._random_fraction = random_fraction
        self._good = good
        self._candidates = candidates
        self._points = points
        self._bandwidth_factor = bandwidth_factor
        self._least_bandwidth = least_bandwidth
        self._halving = Halving(space, study, hyperband_brackets(rungs, eta), eta)
        self._levels = {fidelity: _Level() for fidelity in rungs}

    def ask(self) -> Proposal | None:
        """Return a promotion, or something new; None when there is neither."""
        drawing: Iterator[Architecture] | None = None

        def draw(random: Random) -> Architecture:
            nonlocal drawing
            drawing = drawing or self._drawn(random)
            return next(drawing)

        return self._halving.ask(draw)

    def tell(self, trial: Trial) -> None:
        """Put the trial on its rung of its bracket; the model learns of it when it has ended."""
        self._halving.tell(trial)
        level = self._levels.get(trial.proposal.fidelity or 0)
        if level is not None and trial.state is not State.RUNNING:
            level.add(self._space, self._study, trial)

    def model(self, random: Random) -> tuple[KernelDensity, KernelDensity] | None:
        """Return the densities of good and of bad trials (l and g), or None with too few trials.

        Args:
            random: fills in what does not exist in some architectures.
        """
        for level in reversed(self._levels.values()):
            columns = self._columns(level)
            least = self._points or len(columns) + 1
            if not columns or level.done < least + 2:
                continue
            rows = level.rows(columns)
            most_good = max(least, int(self._good * level.done))  # N_{b,l} of Eq. 3
            most_bad = max(least, len(rows) - most_good)  # N_{b,g}
            densities = [
                KernelDensity(imputed(part, columns, random), columns, least=self._least_bandwidth)
                for part in (rows[:most_good], rows[-most_bad:])
            ]
            return densities[0], densities[1]
        return None

    def _drawn(self, random: Random) -> Iterator[Architecture]:
        """Candidates, best first (Algorithm 2); then random ones."""
        model = None if random.random() < self._random_fraction else self.model(random)
        if model is not None:
            good, bad = model
            drawn = [
                good.sample(random, wider=self._bandwidth_factor) for _ in range(self._candidates)
            ]
            at = np.array(
                [[encoded(c, i) for c, i in zip(good.choices, v, strict=True)] for v in drawn]
            )
            ratios = good.log_density(at) - bad.log_density(at)
            for place in np.argsort(-ratios, kind="stable"):
                taken = {
                    choice: choice.options[option]
                    for choice, option in zip(good.choices, drawn[place], strict=True)
                }
                yield self._space.walk(partial(_decide, taken, random))
        while True:
            yield sample(self._space, random)

    def _columns(self, level: _Level) -> list[Choice]:
        tree = tree_of(self._space)
        known = tree.choices.values() if tree is not None else level.choices
        return [choice for choice in known if len(choice.options) > 1]


class _Level:
    """The trials that ended at one fidelity, best first."""

    def __init__(self) -> None:
        self.done = 0
        self.choices: dict[Choice, int] = {}
        self._order: list[tuple[bool, tuple[float, float], int]] = []
        self._vectors: dict[int, dict[int, float]] = {}

    def add(self, space: Space, study: Study, trial: Trial) -> None:
        architecture = trial.architecture
        self._vectors[trial.number] = {
            self.choices.setdefault(choice, len(self.choices)): encoded(
                choice, choice.options.index(architecture[choice.name])
            )
            for choice in choices(space, architecture)
        }
        self.done += trial.state is State.DONE
        insort(self._order, (trial.state is not State.DONE, rank(study, trial), trial.number))

    def rows(self, columns: Sequence[Choice]) -> NDArray[np.float64]:
        """One row for each trial, best first; NaN where a choice does not exist."""
        keys = [self.choices.get(choice, -1) for choice in columns]
        vectors = (self._vectors[number] for _, _, number in self._order)
        return np.array([[vector.get(key, nan) for key in keys] for vector in vectors])


def _decide(taken: dict[Choice, Option], random: Random, choice: Choice) -> Option:
    if choice in taken:
        return taken[choice]
    return choice.options[int(random.random() * len(choice.options))]
