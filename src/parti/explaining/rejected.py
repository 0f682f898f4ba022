"""Why candidates were not chosen: a limit, a failure, an early end, or a better one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from parti.core.study import Constraint, Study, pareto_front
from parti.core.trial import State, Trial

__all__ = ["Broken", "Failure", "Rejections", "Rung", "rejections"]


@dataclass(frozen=True, slots=True)
class Broken:
    """A limit, and the candidates beyond it.

    Args:
        limit: in words.
        metric: what is limited.
        count: candidates beyond it.
        untrained: those of them that were turned away before training.
        closest: the value nearest to the limit.
        typical: the median value.
        farthest: the value farthest from it.
        best: the best first objective of those that were measured all the same; None for none.
        best_trial: its trial.
        best_value: what it has of the limited metric.
    """

    limit: str
    metric: str
    count: int
    untrained: int
    closest: float
    typical: float
    farthest: float
    best: float | None = None
    best_trial: int | None = None
    best_value: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Trials that failed in the same way.

    Args:
        reason: of the first one, its first line.
        count: how many; reasons that differ in numbers only are one.
        trials: numbers of up to five.
    """

    reason: str
    count: int
    trials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """A fidelity, and what became of the trials there.

    Args:
        fidelity: epochs.
        trials: measured at it.
        stopped: those whose architectures were not trained for longer.
    """

    fidelity: int
    trials: int
    stopped: int


@dataclass(frozen=True, slots=True)
class Rejections:
    """Why candidates were not chosen.

    Args:
        broken: by limits, the most frequent first.
        failed: by errors, the most frequent first.
        rungs: by fidelity, shortest first; empty when all trials had the same.
        dominated: measured, within all limits, and worse than another in every objective.
        front: those that are not.
    """

    broken: tuple[Broken, ...]
    failed: tuple[Failure, ...]
    rungs: tuple[Rung, ...]
    dominated: int
    front: int


def rejections(study: Study, trials: Sequence[Trial]) -> Rejections:
    """Return why candidates were not chosen.

    Args:
        study: gives limits and objectives.
        trials: all of them, in any order; running ones are left out.
    """
    ended = sorted((t for t in trials if t.state is not State.RUNNING), key=lambda t: t.number)
    broken = [found for c in study.constraints if (found := _broken(study, c, ended)) is not None]
    feasible = [t for t in ended if study.feasible(t)]
    front = pareto_front(study, feasible)
    kept = {study.losses(t) for t in front}
    dominated = sum(study.losses(t) not in kept for t in feasible)
    return Rejections(
        tuple(sorted(broken, key=lambda b: -b.count)),
        _failures(ended),
        _rungs(ended),
        dominated,
        len(feasible) - dominated,
    )


def _broken(study: Study, limit: Constraint, trials: Sequence[Trial]) -> Broken | None:
    beyond = sorted(
        (t for t in trials if limit.excess(t.metric(limit.metric)) > 0),
        key=lambda t: limit.excess(t.metric(limit.metric)),
    )
    if not beyond:
        return None
    values = [t.metric(limit.metric) for t in beyond]
    first = study.objectives[0]
    measured = [t for t in beyond if first.loss(t) < float("inf")]
    best = min(measured, key=first.loss) if measured else None
    return Broken(
        str(limit),
        limit.metric,
        len(beyond),
        sum(t.state is State.REJECTED for t in beyond),
        values[0],
        median(values),
        values[-1],
        best.metric(first.metric) if best is not None else None,
        best.number if best is not None else None,
        best.metric(limit.metric) if best is not None else None,
    )


def _failures(trials: Sequence[Trial]) -> tuple[Failure, ...]:
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state is State.FAILED:
            kinds.setdefault(re.sub(r"\d+([.,]\d+)*", "#", _reason(trial)), []).append(trial)
    found = [
        Failure(_reason(same[0]), len(same), tuple(t.number for t in same[:5]))
        for same in kinds.values()
    ]
    return tuple(sorted(found, key=lambda failure: -failure.count))


def _reason(trial: Trial) -> str:
    lines = [line.strip() for line in (trial.error or "").splitlines() if line.strip()]
    return lines[0] if lines else "no reason was recorded"


def _rungs(trials: Sequence[Trial]) -> tuple[Rung, ...]:
    done = [t for t in trials if t.state is State.DONE and t.proposal.fidelity is not None]
    longest: Counter[object] = Counter()
    for trial in done:
        longest[trial.architecture] = max(longest[trial.architecture], trial.proposal.fidelity or 0)
    fidelities = sorted({t.proposal.fidelity or 0 for t in done})
    if len(fidelities) < 2:
        return ()
    rungs = []
    for fidelity in fidelities:
        here = {t.architecture for t in done if t.proposal.fidelity == fidelity}
        rungs.append(
            Rung(
                fidelity, len(here), sum(longest[architecture] == fidelity for architecture in here)
            )
        )
    return tuple(rungs)
