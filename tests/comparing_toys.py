"""A problem small enough to know by heart, and strategies that misbehave."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parti import Architecture, Constraint, Job, Measurement, Objective, Proposal, Study, choose
from parti.core.errors import Rejected, TrialError
from parti.core.program import space
from parti.core.trial import Trial
from parti.core.walks import architectures
from parti.tables.problem import Problem


def sorted_digits(architecture: Architecture) -> Architecture:
    digits = sorted(architecture.values())
    return Architecture(dict(zip(architecture, digits, strict=True)))


@space(canonical=sorted_digits)
def digits() -> list[int]:
    """64 members, 20 of them distinct: the order of the digits does not matter."""
    return [int(choose(name, [0, 1, 2, 3])) for name in "abc"]


class DigitFacts:
    """The truth is 90 + the sum of the digits; the search sees it worse at low fidelities."""

    def __init__(self, *, noise: float = 0.0) -> None:
        self.noise = noise

    def evaluator(self, *, seed: int, oracle: bool) -> "DigitEvaluator":
        return DigitEvaluator(seed, 0.0 if oracle else self.noise)

    def truths(self, architecture: Architecture) -> dict[str, float]:
        total = float(sum(architecture.values()))
        return {"val_accuracy": 90.0 + total, "latency_ms": 1.0 + total**2}

    def contenders(self) -> dict[str, np.ndarray]:
        known = [self.truths(architecture) for architecture in architectures(digits)]
        return {name: np.array([each[name] for each in known]) for name in known[0]}

    def scores(self, architecture: Architecture) -> dict[str, float]:
        return {"size": float(sum(architecture.values()))}


class DigitEvaluator:
    provides = frozenset({"val_accuracy", "latency_ms"})

    def __init__(self, seed: int, noise: float) -> None:
        self.seed = seed
        self.noise = noise

    def __call__(self, job: Job) -> Iterator[Measurement]:
        if tuple(job.architecture.values()) == (0, 0, 1):
            raise TrialError("this one fails on purpose")
        if tuple(job.architecture.values()) == (0, 0, 2):
            raise Rejected("this one is too large on purpose")
        metrics = DigitFacts().truths(job.architecture)
        random = np.random.default_rng([self.seed, int(job.architecture.fingerprint, 16)])
        fidelity = job.fidelity or 9
        metrics["val_accuracy"] += self.noise * random.normal() / fidelity
        yield Measurement(metrics, fidelity, seconds=10.0 * fidelity)


ACCURACY = Objective("val_accuracy", "max")


def load(name: str, folder: Path | str | None) -> Problem:
    """The problem: name is "...:load"."""
    return Problem(name, digits, (ACCURACY,), DigitFacts(noise=3.0), measured="a noisy sum")


def load_levels(name: str, folder: Path | str | None) -> Problem:
    return Problem(
        name,
        digits,
        (ACCURACY,),
        DigitFacts(noise=3.0),
        fidelities=(1, 3, 9),
        default_fidelity=9,
        resumable=True,
    )


def load_front(name: str, folder: Path | str | None) -> Problem:
    return Problem(name, digits, (ACCURACY, Objective("latency_ms", "min")), DigitFacts())


def load_limited(name: str, folder: Path | str | None) -> Problem:
    return Problem(
        name, digits, (ACCURACY,), DigitFacts(), constraints=(Constraint("latency_ms", at_most=17),)
    )


class Scripted:
    """Propose what it is given, over and over."""

    def __init__(self, proposals: list[Proposal], forever: bool = False) -> None:
        self.proposals = proposals
        self.forever = forever
        self.told = 0

    def ask(self) -> Proposal | None:
        if self.told >= len(self.proposals) and not self.forever:
            return None
        return self.proposals[self.told % len(self.proposals)]

    def tell(self, trial: Trial) -> None:
        self.told += 1


def crash(space: object, study: Study) -> Scripted:
    """A strategy whose fourth proposal fails."""

    class Crash(Scripted):
        def ask(self) -> Proposal | None:
            if self.told == 3:
                raise RuntimeError("out of ideas")
            return super().ask()

    return Crash([Proposal(member) for member in architectures(digits)])


def stubborn(space: object, study: Study, *, digit: int = 0) -> Scripted:
    """A strategy that proposes one architecture for ever."""
    return Scripted([Proposal(Architecture(dict.fromkeys("abc", digit)))], forever=True)


def by_score(space: object, study: Study, *, scores: object = None) -> Scripted:
    """A strategy that tries the best score first."""
    assert callable(scores) or scores is None
    members = list(architectures(digits))
    if callable(scores):
        members.sort(key=lambda member: -scores(member)["size"])
    return Scripted([Proposal(member) for member in members])


def needs_more(space: object, study: Study, budget: int) -> Scripted:
    return Scripted([])


def not_a_strategy(thing: object) -> Scripted:
    return Scripted([])
