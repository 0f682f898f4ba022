"""What the trials of a study say: pure functions, nothing is drawn here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parti.core.study import Study, best
from parti.core.trial import State, Trial

__all__ = [
    "COSTS",
    "Progress",
    "Summary",
    "front_against",
    "progress",
    "summarize",
]

COSTS = ("params", "macs", "latency_ms", "activation_bytes", "energy_mj")
"""The metrics of cost that results are set against, in this order."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stood after one trial had ended.

    Args:
        trial: the trial.
        seconds: time spent on this and all earlier trials, summed over workers.
        value: its first objective; None when it was not measured.
        feasible: whether it is done and keeps to every constraint.
        best: the best feasible value so far; None before the first.
    """

    trial: Trial
    seconds: float
    value: float | None
    feasible: bool
    best: float | None


def progress(study: Study, trials: Iterable[Trial]) -> list[Progress]:
    """Return where the search stood after each ended trial.

    Args:
        study: its first objective says what is best, its constraints what counts.
        trials: in any order; running ones are left out.

    Returns:
        One step per ended trial, by trial number.
    """
    objective = study.objectives[0]
    steps: list[Progress] = []
    seconds, incumbent, least = 0.0, None, math.inf
    for trial in sorted(trials, key=lambda t: t.number):
        if trial.state is State.RUNNING:
            continue
        seconds += trial.seconds
        value = trial.metric(objective.metric)
        feasible = study.feasible(trial) and math.isfinite(value)
        if feasible and objective.loss(trial) < least:
            incumbent, least = value, objective.loss(trial)
        measured = value if trial.state is State.DONE and math.isfinite(value) else None
        steps.append(Progress(trial, seconds, measured, feasible, incumbent))
    return steps


@dataclass(frozen=True, slots=True)
class Summary:
    """A search in numbers.

    Args:
        done: trials that were measured to the end.
        feasible: those of them that keep to every constraint.
        failed: trials that raised or diverged.
        rejected: trials that broke a constraint before they were trained.
        running: trials under way.
        seconds: time spent on ended trials, summed over workers.
        best: the feasible trial that is best on the first objective.
        reasons: why trials failed or were rejected, most frequent first, with how often. Of
            reasons that differ in numbers only, the first stands for all.
    """

    done: int
    feasible: int
    failed: int
    rejected: int
    running: int
    seconds: float
    best: Trial | None
    reasons: tuple[tuple[str, int], ...]


def summarize(study: Study, trials: Sequence[Trial]) -> Summary:
    """Count the trials of a study and find the best."""
    states = Counter(trial.state for trial in trials)
    lost = (t for t in trials if t.state in (State.FAILED, State.REJECTED))
    texts = [first_line(trial.error) or "no reason was recorded" for trial in lost]
    kinds = Counter(map(_without_numbers, texts))
    examples = {_without_numbers(text): text for text in reversed(texts)}
    return Summary(
        done=states[State.DONE],
        feasible=sum(study.feasible(trial) for trial in trials),
        failed=states[State.FAILED],
        rejected=states[State.REJECTED],
        running=states[State.RUNNING],
        seconds=sum(trial.seconds for trial in trials if trial.state is not State.RUNNING),
        best=best(study, trials),
        reasons=tuple((examples[kind], n) for kind, n in kinds.most_common()),
    )


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+([.,]\d+)*(e[+-]?\d+)?", "#", text)


def first_line(text: str | None) -> str:
    """Return the first line of a text that is not blank."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "")


def front_against(study: Study, trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Return the feasible trials that no other beats on both the first objective and a cost.

    Args:
        study: gives the first objective and the constraints.
        trials: the candidates; those without the metric are left out.
        metric: the cost, less of it being better. It must not be the first objective itself.

    Returns:
        The front, from the best of the first objective to the cheapest.
    """
    first = study.objectives[0]
    scored = sorted(
        (
            (first.loss(trial), trial.metric(metric), trial.number, trial)
            for trial in trials
            if study.feasible(trial) and not math.isnan(trial.metric(metric))
        ),
        key=lambda item: item[:3],
    )
    front, least = [], math.inf
    for loss, cost, _, trial in scored:
        if loss < math.inf and cost < least:  # what comes later is no better, so it must be cheaper
            front.append(trial)
            least = cost
    return front
