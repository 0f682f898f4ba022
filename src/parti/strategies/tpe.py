"""TPE: tree-structured Parzen estimators.

Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011,
section 4: trials are split into the good and the bad; l(x) is the density of the good ones, g(x)
that of the bad; of candidates drawn from l, the one with the greatest l(x) / g(x) is proposed, for
it has the greatest expected improvement (Eq. 3). Both densities follow the walk: a choice has one
of its own, made of the trials in which it exists.

As in the paper the good ones are a fixed share, and whole architectures are compared. Hyperopt, by
the first author, and Optuna take fewer (say `split` and `most_good`), choose each decision by
itself, and Hyperopt forgets old trials; startup and candidates are theirs, for the paper fits them
to its experiments. A scale is a mixture of Gaussians, each rounded to the options; its prior is
uniform.

Departures: a candidate that is known already gives way to the next best; failed and rejected trials
are never good and always bad; trials that still run count for neither.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Literal

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import choices, sample
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["TPE", "categorical_density", "scale_density"]


class TPE:
    """Draw from the density of good trials; propose what the bad ones hold least.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        startup: how many trials are random, before there is a model.
        quantile: how many trials are good (gamma), as `split` says.
        split: "linear": ⌈quantile · n⌉ of n trials that are done, as in the paper, and in Optuna
            with a quantile of 0.1; "sqrt": ⌈quantile · √n⌉, as in Hyperopt with 0.25.
        most_good: no more than so many trials are good (25 in Optuna and Hyperopt).
        candidates: how many are drawn, of which the best is proposed.
        prior_weight: how many trials the uniform prior counts for (for options without order, how
            many of each option).
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a count is less than 1, the prior does not count, the quantile is not from
            0 to 1, or the split is unknown.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        startup: int = 20,
        quantile: float = 0.15,
        split: Literal["linear", "sqrt"] = "linear",
        most_good: int | None = None,
        candidates: int = 24,
        prior_weight: float = 1.0,
        fidelity: int | None = None,
    ) -> None:
        if startup < 1 or candidates < 1 or (most_good is not None and most_good < 1):
            raise InvalidSettings(
                f"startup {startup}, most_good {most_good} and candidates {candidates}: "
                "each must be at least 1"
            )
        if not prior_weight > 0 or not 0 < quantile < 1:
            raise InvalidSettings(
                f"prior_weight {prior_weight} must be more than 0, quantile {quantile} between "
                "0 and 1"
            )
        if split not in ("linear", "sqrt"):
            raise InvalidSettings(f"split {split!r}: choose 'linear' or 'sqrt'")
        self._space = space
        self._study = study
        self._startup = startup
        self._quantile = quantile
        self._split = split
        self._most_good = most_good
        self._candidates = candidates
        self._prior_weight = prior_weight
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._order: list[tuple[bool, tuple[float, float], int]] = []  # best first
        self._decisions: dict[int, list[tuple[Choice, int]]] = {}
        self._all: dict[Choice, list[int]] = {}  # how often each option was taken
        self._good: dict[Choice, list[int]] | None = None
        self._known: dict[Choice, tuple[list[float], list[float]]] = {}
        self._done = 0

    def ask(self) -> Proposal | None:
        """Return something random at first, then the best of the candidates that is new."""
        random = self._memory.random()
        if self._done < self._startup:
            drawn = self._memory.fresh(random, lambda: sample(self._space, random))
        else:
            candidates = [self.draw(random) for _ in range(self._candidates)]
            new = [candidate for candidate in candidates if candidate not in self._memory]
            drawn = (
                max(new, key=self.log_ratio)
                if new
                else self._memory.fresh(random, lambda: self.draw(random))
            )
        return Proposal(drawn, self._fidelity) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""
        self._memory.tell(trial)
        if trial.state is State.RUNNING:
            return
        self._done += trial.state is State.DONE
        insort(
            self._order,
            (trial.state is not State.DONE, rank(self._study, trial), trial.number),
        )
        architecture = trial.architecture
        taken = [
            (choice, choice.options.index(architecture[choice.name]))
            for choice in choices(self._space, architecture)
        ]
        self._decisions[trial.number] = taken
        _count(taken, self._all)
        self._good = None
        self._known.clear()

    @property
    def good(self) -> tuple[int, ...]:
        """Numbers of the trials that count as good, best first."""
        share = math.sqrt(self._done) if self._split == "sqrt" else self._done
        count = math.ceil(self._quantile * share)
        if self._most_good is not None:
            count = min(count, self._most_good)
        return tuple(number for _, _, number in self._order[:count])

    def densities(self, choice: Choice) -> tuple[Sequence[float], Sequence[float]]:
        """How likely each option of a choice is among the good trials (l) and the bad (g)."""
        if choice not in self._known:
            if self._good is None:
                self._good = {}
                for number in self.good:
                    _count(self._decisions[number], self._good)
            none = [0] * len(choice.options)
            good = self._good.get(choice, none)
            bad = [a - b for a, b in zip(self._all.get(choice, none), good, strict=True)]
            density = scale_density if choice.ordered else categorical_density
            self._known[choice] = (
                density(good, self._prior_weight),
                density(bad, self._prior_weight),
            )
        return self._known[choice]

    def draw(self, random: Random) -> Architecture:
        """Draw an architecture from the density of the good trials, decision by decision."""

        def pick(choice: Choice) -> Option:
            return random.choices(choice.options, self.densities(choice)[0])[0]

        return self._space.walk(pick)

    def log_ratio(self, architecture: Architecture) -> float:
        """Logarithm of l(x) / g(x): the higher, the more improvement is expected (Eq. 3)."""
        total = 0.0
        for choice in choices(self._space, architecture):
            good, bad = self.densities(choice)
            place = choice.options.index(architecture[choice.name])
            total += math.log(good[place] / bad[place])
        return total


def categorical_density(counts: Sequence[int], prior_weight: float) -> list[float]:
    """Probabilities of options without order: in proportion to N p_i + C_i (section 4.2).

    Args:
        counts: how often each option was taken (C); the N options are equally likely (p) before.
        prior_weight: what N p_i is multiplied by.
    """
    total = sum(counts) + prior_weight * len(counts)
    return [(count + prior_weight) / total for count in counts]


def scale_density(counts: Sequence[int], prior_weight: float) -> list[float]:
    """Probabilities of the options of a scale: Gaussians at those taken, beside a uniform prior.

    Each Gaussian is as wide as the greater of the distances to its neighbours, within limits
    (section 4.2), and its part outside the scale is left out.

    Args:
        counts: how often each option was taken.
        prior_weight: weight of the prior, where a Gaussian has 1.
    """
    extent, seen = len(counts), sum(counts)
    narrowest = extent / min(100, 1 + seen)
    taken = [place for place, count in enumerate(counts) if count]
    widths: Counter[tuple[int, float]] = Counter()
    for place, before, after in zip(
        taken, taken[:1] + taken[:-1], taken[1:] + taken[-1:], strict=True
    ):
        gaps = [place - before, after - place]
        if counts[place] == 1:
            gaps = [max(gaps) if seen > 1 else extent]
        widths.update((place, max(gap, narrowest)) for gap in gaps)
        # Those between the first and the last of several on one place have neighbours there.
        widths[place, narrowest] += counts[place] - len(gaps)
    masses = [prior_weight / extent] * extent
    for (place, width), count in widths.items():
        for option, mass in enumerate(_gaussian(extent, place, width)):
            masses[option] += count * mass
    return [mass / (seen + prior_weight) for mass in masses]


@lru_cache(maxsize=4096)
def _gaussian(extent: int, place: int, width: float) -> tuple[float, ...]:
    """Probabilities of whole numbers below `extent` under a Gaussian that is cut at both ends."""
    scale = width * math.sqrt(2)
    below = [math.erf((edge - 0.5 - place) / scale) for edge in range(extent + 1)]
    inside = below[-1] - below[0]
    return tuple((high - low) / inside for low, high in pairwise(below))


def _count(taken: Sequence[tuple[Choice, int]], into: dict[Choice, list[int]]) -> None:
    for choice, place in taken:
        into.setdefault(choice, [0] * len(choice.options))[place] += 1
