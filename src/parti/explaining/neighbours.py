"""What each one change to the winner would do: measured where a trial did it, else predicted.

A prediction is that of the forest for the change less that for the winner, so that what the
forest gets wrong about both cancels; its spread is over the trees. The error of the forest on
architectures it has not seen, `Forest.error`, says how far to trust either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from parti.core.architecture import Architecture, Option
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Trial
from parti.core.walks import choices, distance, neighbours
from parti.explaining.forest import Forest

__all__ = ["COSTS", "Change", "one_change"]

COSTS = ("params", "macs")
"""What a change costs in theory."""

Counter = Callable[[Architecture], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Change:
    """One decision of the winner, decided otherwise.

    Args:
        decision: its name.
        before: the winner's option.
        after: the other option.
        drawn: how many further decisions came or went with it; new ones are drawn at random.
        trial: the trial that measured it; None where it is predicted.
        gain: by how much the metric would grow; None where it is neither measured nor predicted.
        spread: of a prediction, over trees; None where it was measured.
        params: more or fewer parameters than the winner; None where they were not counted.
        macs: likewise multiply-accumulates per sample.
    """

    decision: str
    before: Option
    after: Option
    drawn: int
    trial: int | None = None
    gain: float | None = None
    spread: float | None = None
    params: float | None = None
    macs: float | None = None

    @property
    def measured(self) -> bool:
        """Whether a trial did this."""
        return self.trial is not None


def one_change(
    space: Space,
    study: Study,
    winner: Architecture,
    trials: Sequence[Trial],
    forest: Forest | None,
    count: Counter | None = None,
    *,
    seconds: float = 1.0,
) -> list[Change]:
    """Return every one-change neighbour of the winner, the most promising first.

    Args:
        space: what was searched.
        study: its first objective is what may grow.
        winner: a member of the space.
        trials: comparable ones, see `parti.explaining.decisions.comparable`.
        forest: predicts the metric where no trial measured it; None for no predictions.
        count: gives parameters and MACs of an architecture that no trial measured.
        seconds: counting stops after so long, and leaves the rest uncounted.

    Returns:
        Changes in order of how much better they are expected to be; those of no known effect last.
    """
    measured = {trial.architecture: trial for trial in trials}
    metric, sign = study.objectives[0].metric, -1 if study.objectives[0].goal == "min" else 1
    own = measured.get(winner)
    found: list[tuple[Change, Architecture]] = []
    for (name, before, after), other in zip(
        _turns(space, winner), neighbours(space, winner), strict=True
    ):
        change = Change(name, before, after, distance(winner, other) - 1)
        trial = measured.get(other)
        if trial is not None and own is not None:
            gain = trial.metric(metric) - own.metric(metric)
            change = replace(change, trial=trial.number, gain=gain)
        found.append((change, other))
    found = _predicted(found, winner, forest)
    found.sort(key=lambda item: -sign * item[0].gain if item[0].gain is not None else float("inf"))
    return _counted(found, winner, measured, count, seconds)


def _turns(space: Space, winner: Architecture) -> list[tuple[str, Option, Option]]:
    """Decision, option before and after, in the order of `neighbours`."""
    return [
        (choice.name, winner[choice.name], option)
        for choice in choices(space, winner)
        for option in choice.options
        if option != winner[choice.name]
    ]


def _predicted(
    found: list[tuple[Change, Architecture]], winner: Architecture, forest: Forest | None
) -> list[tuple[Change, Architecture]]:
    unknown = [architecture for change, architecture in found if change.gain is None]
    if forest is None or not unknown:
        return found
    by_tree = forest.predict([winner, *unknown])
    gains = by_tree[:, 1:] - by_tree[:, :1]
    known = {
        architecture: (float(column.mean()), float(column.std()))
        for architecture, column in zip(unknown, gains.T, strict=True)
    }
    return [
        (
            replace(change, gain=known[other][0], spread=known[other][1])
            if change.gain is None
            else change,
            other,
        )
        for change, other in found
    ]


def _counted(
    found: list[tuple[Change, Architecture]],
    winner: Architecture,
    measured: Mapping[Architecture, Trial],
    count: Counter | None,
    seconds: float,
) -> list[Change]:
    ends = time.monotonic() + seconds

    def costs(architecture: Architecture) -> Mapping[str, float]:
        if architecture in measured:
            return measured[architecture].metrics
        if count is None or time.monotonic() > ends:
            return {}
        return count(architecture)

    own = costs(winner)
    changes = []
    for change, other in found:
        theirs = costs(other) if own else {}
        params, macs = (
            theirs[name] - own[name] if name in theirs and name in own else None for name in COSTS
        )
        changes.append(replace(change, params=params, macs=macs))
    return changes
