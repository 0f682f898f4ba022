"""Problems without files: random landscapes with a known optimum, on spaces of every shape.

They serve to judge strategies on what no table has: choices that come and go with others, grammars,
scales of many steps, spaces of 10^31 members, cheap fidelities that mislead, regions where trials
fail. All are made to look like accuracies: the best architecture has 95 %, the average one 70 %,
and differences shrink towards the top.

    synthetic/chain         12 choices of 4 options
    synthetic/wide          40 choices of 6 options
    synthetic/rugged        pairs of decisions matter three times as much as single ones
    synthetic/mixed         ordered scales of up to 32 steps; failing regions
    synthetic/conditional   choices under choices, subsets, repeats; failing regions
    synthetic/recursive     a grammar four deep
    synthetic/fronts        accuracy and latency, two objectives
    synthetic/limited       accuracy within the fastest quarter; failing regions

What a search sees is normally distributed around the accuracy at the fidelity asked, the more
widely the worse the architecture is. Fidelities are 1, 3, 9 and 27 epochs; the lower, the more a
second landscape shows through that has nothing to do with the truth. Training goes on from a lower
fidelity. The truth is the accuracy at 27 epochs without noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.program import Program
from parti.core.study import Constraint, Objective
from parti.core.trial import Job, Measurement
from parti.core.walks import architectures, sample
from parti.tables.landscape import Landscape, normal
from parti.tables.problem import Problem
from parti.tables.synthetic_spaces import SPACES

__all__ = ["Shape", "SyntheticFacts", "load_problem"]

BEST, SPREAD = 95.0, 25.0
"""The best accuracy, and how far the average one is below it, in percent."""

SHOWS = {1: 0.5, 3: 0.7, 9: 0.9, 27: 1.0}
"""How much of the truth each fidelity shows, as a share of the variance."""

FULL = max(SHOWS)
DRAWS = 1_000
FASTEST = 0.25
"""The share of architectures that a limit on latency lets pass."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a synthetic problem.

    Args:
        space: what is searched.
        pairs: how much pairs of decisions matter, where single ones matter 1.
        fails: share of architectures that fail, in a region that does not hold the best.
        latency: "objective" or "constraint" on latency_ms, or "none".
    """

    space: Program
    pairs: float = 1.0
    fails: float = 0.0
    latency: str = "none"


SHAPES = {
    "chain": Shape(SPACES["chain"]),
    "conditional": Shape(SPACES["conditional"], fails=0.15),
    "fronts": Shape(SPACES["fronts"], latency="objective"),
    "limited": Shape(SPACES["limited"], fails=0.2, latency="constraint"),
    "mixed": Shape(SPACES["mixed"], pairs=0.5, fails=0.1),
    "recursive": Shape(SPACES["recursive"]),
    "rugged": Shape(SPACES["rugged"], pairs=3.0),
    "wide": Shape(SPACES["wide"]),
}


@lru_cache(maxsize=len(SHAPES))
def load_problem(name: str, folder: Path | str | None = None) -> Problem:
    """Return a synthetic problem by name.

    Args:
        name: "synthetic/chain".
        folder: not needed: there are no files.

    Raises:
        InvalidSettings: there is no such problem; the message lists those there are.
    """
    shape = SHAPES.get(name.removeprefix("synthetic/"))
    if shape is None:
        known = ", ".join(f"synthetic/{key}" for key in SHAPES)
        raise InvalidSettings(f"no problem {name!r}; choose one of {known}")
    facts = SyntheticFacts(name, shape)
    objectives = [Objective("val_accuracy", "max")]
    constraints = []
    if shape.latency == "objective":
        objectives.append(Objective("latency_ms", "min"))
    if shape.latency == "constraint":
        drawn = [facts.latency(architecture) for architecture in facts.drawn]
        limit = float(f"{np.quantile(drawn, FASTEST):.4g}")
        constraints.append(Constraint("latency_ms", at_most=limit))
    return Problem(
        name,
        shape.space,
        tuple(objectives),
        facts,
        tuple(constraints),
        fidelities=tuple(SHOWS),
        default_fidelity=FULL,
        resumable=True,
        measured="accuracy with noise (%)",
        reported="accuracy at 27 epochs without noise (%)",
    )


class SyntheticFacts:
    """The formulas of a synthetic problem.

    Args:
        name: of the problem; every random number follows from it.
        shape: what makes it.
    """

    def __init__(self, name: str, shape: Shape) -> None:
        tree = shape.space.tree
        assert tree is not None
        self.name = name
        self.shape = shape
        self._truth = Landscape(tree, f"{name}/truth", pairs=shape.pairs)
        self._other = Landscape(tree, f"{name}/other", pairs=shape.pairs)
        self._strain = Landscape(tree, f"{name}/strain")
        self._cost = Landscape(tree, f"{name}/cost")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the study."""
        return ("val_accuracy",) if self.shape.latency == "none" else ("val_accuracy", "latency_ms")

    @cached_property
    def optimum(self) -> Architecture:
        """The architecture of the largest accuracy, whatever its latency."""
        return self._truth.optimum()

    @cached_property
    def drawn(self) -> list[Architecture]:
        """Architectures drawn at random, always the same."""
        random = Random(0)
        return [sample(self.shape.space, random) for _ in range(DRAWS)]

    def evaluator(self, *, seed: int, oracle: bool) -> Synthetic:
        """Return what a search measures with."""
        return Synthetic(self, seed=seed, oracle=oracle)

    def truths(self, architecture: Architecture) -> dict[str, float]:
        """The true value of every metric; NaN in a failing region."""
        if self.fails(architecture):
            return dict.fromkeys(self.metrics, math.nan)
        known = {"val_accuracy": self.accuracy(architecture)}
        if self.shape.latency != "none":
            known["latency_ms"] = self.latency(architecture)
        return known

    def contenders(self) -> Mapping[str, NDArray[np.float64]]:
        """The true values of all members where latency matters, else of the best one."""
        if self.shape.latency == "none":
            return {"val_accuracy": np.array([BEST])}
        return self._all

    def scores(self, architecture: Architecture) -> dict[str, float]:
        """A score that has half its variance from the truth, and one that has nothing of it."""
        return {
            "informed": self._level(architecture, 0.5),
            "uninformed": self._level(architecture, 0.0),
        }

    def accuracy(self, architecture: Architecture, fidelity: int = FULL) -> float:
        """Accuracy in percent, without noise."""
        shows = SHOWS[fidelity]
        below = max(0.0, 1.0 - self._level(architecture, shows))
        return max(10.0, BEST - SPREAD * math.pow(below, 1.5) - 20.0 * (1.0 - shows))

    def latency(self, architecture: Architecture) -> float:
        """Latency in milliseconds: some decisions are costlier than others."""
        return 5.0 * math.exp(0.5 * self._cost.standard(architecture))

    def seconds(self, architecture: Architecture, fidelity: int) -> float:
        """How long training takes from scratch; slow networks train slowly."""
        return 4.0 * fidelity * self.latency(architecture)

    def fails(self, architecture: Architecture) -> bool:
        """Whether the architecture lies in a failing region."""
        return self.shape.fails > 0 and self._strain(architecture) > self._limit

    def _level(self, architecture: Architecture, shows: float) -> float:
        """Where an architecture stands: the average one at 0, the best at 1.

        Args:
            architecture: a member.
            shows: the share of the truth in the variance; the rest is another landscape.
        """
        level = math.sqrt(shows) * self._truth.standard(architecture)
        if shows < 1:
            level += math.sqrt(1 - shows) * self._other.standard(architecture)
        return level / self._highest

    @cached_property
    def _highest(self) -> float:
        return self._truth.standard(self.optimum)

    @cached_property
    def _limit(self) -> float:
        """The most strain that an architecture bears; the best one always does."""
        strains = [self._strain(architecture) for architecture in self.drawn]
        return max(float(np.quantile(strains, 1 - self.shape.fails)), self._strain(self.optimum))

    @cached_property
    def _all(self) -> Mapping[str, NDArray[np.float64]]:
        found = [self.truths(architecture) for architecture in architectures(self.shape.space)]
        return {metric: np.array([truths[metric] for truths in found]) for metric in self.metrics}


class Synthetic:
    """Measure an architecture of a synthetic problem.

    Args:
        facts: the formulas.
        seed: of the noise; the same architecture is always measured the same.
        oracle: measure the truth, at the full fidelity alone.
    """

    def __init__(self, facts: SyntheticFacts, *, seed: int = 0, oracle: bool = False) -> None:
        self.facts = facts
        self.seed = seed
        self.oracle = oracle
        self.fidelities = (FULL,) if oracle else tuple(SHOWS)
        self.provides = frozenset(facts.metrics)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield all metrics at once; `seconds` is the time from scratch.

        Raises:
            TrialError: the architecture lies in a failing region, or there is no such fidelity.
        """
        fidelity = FULL if job.fidelity is None else job.fidelity
        if fidelity not in self.fidelities:
            raise TrialError(
                f"{self.facts.name} has no fidelity {fidelity}; it has {list(self.fidelities)}: "
                "propose one of them, or None for the default"
            )
        architecture = job.architecture
        if self.facts.fails(architecture):
            raise TrialError(f"{self.facts.name}: training fails in this region of the space")
        accuracy = self.facts.accuracy(architecture, fidelity)
        if not self.oracle:
            deviation = 0.1 + 0.02 * (BEST - accuracy)
            draw = normal(f"{self.seed}/{fidelity}/{architecture.fingerprint}")
            accuracy = min(100.0, max(0.0, accuracy + deviation * draw))
        metrics = {"val_accuracy": accuracy}
        if "latency_ms" in self.provides:
            metrics["latency_ms"] = self.facts.latency(architecture)
        yield Measurement(metrics, fidelity, self.facts.seconds(architecture, fidelity))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_evaluator, (self.facts.name, self.facts.shape, self.seed, self.oracle))


def _evaluator(name: str, shape: Shape, seed: int, oracle: bool) -> Synthetic:
    return Synthetic(SyntheticFacts(name, shape), seed=seed, oracle=oracle)
