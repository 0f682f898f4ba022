"""What is asked of a search: objectives, constraints and a budget under one name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from parti.core.errors import InvalidStudy
from parti.core.trial import State, Trial

__all__ = ["Budget", "Constraint", "Objective", "Study", "best", "pareto_front"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make small or large.

    Raises:
        InvalidStudy: the goal is neither "min" nor "max".
    """

    metric: str
    goal: Literal["min", "max"]

    def __post_init__(self) -> None:
        if self.goal not in ("min", "max"):
            raise InvalidStudy(
                f"objective {self.metric!r}: goal {self.goal!r} is not 'min' or 'max'"
            )

    def loss(self, trial: Trial) -> float:
        """Lower is always better; infinity for a trial without a usable value."""
        value = trial.metric(self.metric)
        if trial.state is not State.DONE or math.isnan(value):
            return math.inf
        return value if self.goal == "min" else -value


@dataclass(frozen=True, slots=True)
class Constraint:
    """A limit on a metric.

    Args:
        metric: what is limited.
        at_most: the largest allowed value.
        at_least: the smallest allowed value.

    Raises:
        InvalidStudy: no limit is given, or no value can satisfy both.
    """

    metric: str
    at_most: float = math.inf
    at_least: float = -math.inf

    def __post_init__(self) -> None:
        if math.isinf(self.at_most) and math.isinf(self.at_least):
            raise InvalidStudy(f"constraint on {self.metric!r} needs at_most or at_least")
        if not self.at_least <= self.at_most:
            raise InvalidStudy(
                f"constraint on {self.metric!r}: at least {self.at_least:g} and "
                f"at most {self.at_most:g} cannot both hold"
            )

    def allows(self, value: float) -> bool:
        """Whether a value keeps to the limit; NaN does not."""
        return self.at_least <= value <= self.at_most

    def excess(self, value: float) -> float:
        """By how much a value breaks the limit (0 when it keeps to it), in the metric's unit."""
        return max(value - self.at_most, self.at_least - value, 0.0)

    def __str__(self) -> str:
        parts = [self.metric]
        if not math.isinf(self.at_least):
            parts.insert(0, f"{self.at_least:g} ≤")
        if not math.isinf(self.at_most):
            parts.append(f"≤ {self.at_most:g}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends, over the whole life of the study, restarts included.

    Args:
        trials: how many trials may be trained (rejected ones cost nothing).
        seconds: how long searching processes may run, summed over restarts.

    Raises:
        InvalidStudy: a limit is not positive.
    """

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("trials", self.trials), ("seconds", self.seconds)):
            if value is not None and not value > 0:
                raise InvalidStudy(f"budget of {value!r} {name}: it must be more than 0")


@dataclass(frozen=True, slots=True)
class Study:
    """One question to a search space.

    Args:
        name: the key under which a store keeps it.
        objectives: what to optimize; several make a Pareto front.
        constraints: limits that every result must keep to.
        budget: when to stop.
        seed: of every random number of the search.
        settings: anything else that must be kept with it, as JSON values.

    Raises:
        InvalidStudy: no name, or no objective, or the same metric twice.
    """

    name: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = Budget()
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidStudy("a study needs a name")
        if not self.objectives:
            raise InvalidStudy(f"study {self.name!r} needs at least one objective")
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise InvalidStudy(f"study {self.name!r} has an objective twice: {metrics}")

    def feasible(self, trial: Trial) -> bool:
        """Whether a trial is done and keeps to every constraint."""
        return trial.state is State.DONE and all(
            constraint.allows(trial.metric(constraint.metric)) for constraint in self.constraints
        )

    def losses(self, trial: Trial) -> tuple[float, ...]:
        """One loss per objective, lower is better; all infinite when infeasible."""
        if not self.feasible(trial):
            return (math.inf,) * len(self.objectives)
        return tuple(objective.loss(trial) for objective in self.objectives)


def pareto_front(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """Return the feasible trials that no other dominates, best first objective first.

    Of several trials with the same losses the earliest is kept.
    """
    scored = sorted(
        ((study.losses(t), t.number, t) for t in trials if study.feasible(t)),
        key=lambda item: item[:2],
    )
    front: list[tuple[tuple[float, ...], Trial]] = []
    for losses, _, trial in scored:
        if any(math.isinf(loss) for loss in losses):
            continue
        if not any(all(a <= b for a, b in zip(kept, losses, strict=True)) for kept, _ in front):
            front.append((losses, trial))
    return [trial for _, trial in front]


def best(study: Study, trials: Sequence[Trial]) -> Trial | None:
    """Return the feasible trial that is best on the first objective, or None."""
    front = pareto_front(study, trials)
    return front[0] if front else None
