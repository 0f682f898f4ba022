"""How much of the time is left, and what it is enough for.

Plans are made of speeds that were measured a while ago, and the machine may have become slower
since. So every stage asks anew: random search gets no more than its share of what is left, and
further finalists and seeds are trained as long as there is time for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parti.core.trial import State, Trial
from parti.evaluators.robustness.label_noise import METRIC as LABEL_NOISE
from parti.finding.plan import shares
from parti.finding.settings import Settings

if TYPE_CHECKING:
    from parti.finding.desk import Desk

__all__ = ["Took", "enough", "planning_seconds", "rival_seconds", "seconds_left", "took"]


@dataclass(frozen=True, slots=True)
class Took:
    """What a trial took.

    Args:
        training: seconds that grow with the epochs and the images.
        once: seconds that do not, as for robustness.
    """

    training: float
    once: float


def took(trial: Trial, settings: Settings) -> Took:
    """Tell what of a trial's time was training.

    Args:
        trial: of a search whose networks are trained.
        settings: of that search.
    """
    trained = [m.seconds for m in trial.measurements if "val_accuracy" in m.metrics]
    training = max(trained, default=trial.seconds)
    if LABEL_NOISE in settings.metrics:
        training *= 2  # a second time, on noisy labels
    return Took(training, max(0.0, trial.seconds - training))


def seconds_left(desk: Desk, *later: str) -> float | None:
    """How many seconds of the budget are left, over all restarts; None for no limit.

    Args:
        desk: what the search works with.
        later: studies whose time does not count, because a decision was made before them.
    """
    total = desk.settings.seconds
    if total is None:
        return None
    spent = desk.spent("", *(part for part in desk.parts("") if part not in later))
    return total - planning_seconds(desk) - spent


def planning_seconds(desk: Desk) -> float:
    """How many seconds it took to plan the search, and the supernet if it trained one itself.

    Args:
        desk: what the search works with.
    """
    planning = desk.plan.seconds
    if desk.shared is not None and desk.settings.supernet_of is None:
        planning += desk.shared.plan.seconds
    return planning


def rival_seconds(settings: Settings, cost: float, left: float | None) -> float:
    """How long random search may take beside a supernet, so that finalists can be trained too.

    Args:
        settings: what was asked.
        cost: seconds that supernet and search have taken.
        left: seconds that are left of the budget; None for no limit.

    Returns:
        As long as supernet and search, but no more than its share of what is left.
    """
    if left is None:
        return cost
    planned = shares(settings)
    finals = 1.0 - planned.supernet - planned.search - planned.baseline
    return max(0.0, min(cost, left * planned.baseline / (planned.baseline + finals)))


def enough(
    left: float | None, jobs: int, trained: Sequence[Trial], workers: int, *, rest: float
) -> bool:
    """Whether so many networks can still be trained, and the rest be done.

    Args:
        left: seconds that are left of the budget; None for no limit.
        jobs: how many networks.
        trained: what was trained just as long before; the mean of it is what one takes.
        workers: how many are trained at once.
        rest: seconds to keep free.
    """
    took = [trial.seconds for trial in trained if trial.state is State.DONE]
    if left is None or not took:
        return True
    return left - rest >= sum(took) / len(took) * math.ceil(jobs / workers)
