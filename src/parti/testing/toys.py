"""Small spaces without networks, and an evaluator that costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.program import Program, space
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Job, Measurement
from parti.core.words import choose, one_of, repeat, scope, some_of

__all__ = [
    "SPACES",
    "Landscape",
    "conditional",
    "dynamic",
    "recursive",
    "tiny",
    "toy_study",
    "wide",
]


@space
def tiny() -> str:
    """Three members."""
    return str(choose("letter", ["a", "b", "c"]))


@space
def wide() -> list[Any]:
    """Forty independent choices: 10^30 and more members."""
    return [choose(f"digit{i}", list(range(6))) for i in range(40)]


@space
def conditional() -> list[Any]:
    """All four words, nested: an option opens choices, a body decides for itself."""
    width = choose("width", [8, 16, 32])

    def block(i: int) -> Any:
        return one_of(
            "op",
            {
                "conv": lambda: ("conv", choose("kernel", [3, 5, 7]), width),
                "pool": lambda: ("pool", choose("kind", ["max", "mean"])),
                "skip": lambda: ("skip", i),
            },
        )

    with scope("body"):
        blocks = repeat("depth", block, [1, 2, 3])
    inputs = some_of("inputs", {"x": lambda: "x", "y": lambda: choose("why", [1, 2])}, k=(1, 2))
    return [blocks, inputs]


@space
def recursive() -> Any:
    """A grammar of sums and products, three deep."""
    return _expression(3)


def _expression(depth: int) -> Any:
    def both(sign: str) -> Any:
        with scope("left"):
            left = _expression(depth - 1)
        with scope("right"):
            right = _expression(depth - 1)
        return (left, sign, right)

    leaves = {"x": lambda: "x", "one": lambda: 1}
    inner = {"sum": lambda: both("+"), "product": lambda: both("*")} if depth > 1 else {}
    return one_of("kind", {**leaves, **inner})


@space
def dynamic() -> list[Any]:
    """Plain control flow on a chosen value: there is no static tree."""
    return [choose(f"layer{i}", [1, 2, 3]) for i in range(choose("layers", [1, 2, 3]))]


SPACES: dict[str, Program] = {
    "tiny": tiny,
    "wide": wide,
    "conditional": conditional,
    "recursive": recursive,
    "dynamic": dynamic,
}
"""Toy spaces by name: sizes from 3 to 10^31, static and dynamic."""


def toy_study(
    name: str = "toy", *, trials: int | None = 20, seed: int = 0, at_most: float | None = None
) -> Study:
    """A study that makes `score` small, with `cost` constrained when `at_most` is given."""
    limits = () if at_most is None else (Constraint("cost", at_most=at_most),)
    return Study(name, (Objective("score", "min"),), limits, Budget(trials=trials), seed)


class Landscape:
    """A score for every architecture: the sum of a fixed random number for each decision.

    So it is deterministic, has structure for a strategy to find, and needs no training. A job with
    a fidelity gets as many measurements, with an error of its own for each architecture that falls
    with every step: low fidelities rank architectures wrongly, high ones hardly.

    Args:
        seed: of the landscape.
        steps: how many measurements a trial without a fidelity gives.
        fails: share of architectures that fail, always the same ones.
    """

    provides = frozenset({"score", "cost"})

    def __init__(self, seed: int = 0, *, steps: int = 1, fails: float = 0.0) -> None:
        self.seed = seed
        self.steps = steps
        self.fails = fails

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield the score, with an error that shrinks over the steps, and the cost.

        Raises:
            TrialError: this architecture is one of those that fail.
        """
        architecture = job.architecture
        if Random(f"{self.seed}/fails/{architecture.fingerprint}").random() < self.fails:
            raise TrialError("this architecture fails on purpose")
        score, cost = self.score(architecture), float(len(architecture))
        for step in range(1, (job.fidelity or self.steps) + 1):
            error = self._error(architecture, step, job.fidelity)
            yield Measurement({"score": score + error, "cost": cost}, step, seconds=0.001 * step)

    def score(self, architecture: Architecture) -> float:
        """The exact score of an architecture, from 0 to 1."""
        parts = [
            Random(f"{self.seed}/{name}/{option!r}").random()
            for name, option in architecture.items()
        ]
        return sum(parts) / max(1, len(parts))

    def _error(self, architecture: Architecture, step: int, fidelity: int | None) -> float:
        if fidelity is None:
            return 0.1 * (self.steps - step) / self.steps
        luck = Random(f"{self.seed}/luck/{architecture.fingerprint}").uniform(-1, 1)
        return 0.1 * luck / step
