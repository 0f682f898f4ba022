"""Whether a constraint can be met at all, found out before the first training step."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from parti.core.architecture import Architecture
from parti.core.errors import InvalidStudy, TrialError
from parti.core.protocols import Evaluator, Space
from parti.core.study import Constraint
from parti.core.trial import Job
from parti.core.walks import mutate, sample

__all__ = ["attainable"]

SAMPLES = 40
STEPS = 400


def attainable(
    space: Space, evaluator: Evaluator, constraints: Sequence[Constraint], seed: int
) -> Architecture:
    """Find an architecture that keeps to the constraints which an evaluator can check.

    Draws some at random, then descends from the one that breaks them least.

    Args:
        space: what is searched.
        evaluator: measures cheap metrics; constraints on others are left alone.
        constraints: the limits.
        seed: of the random numbers.

    Raises:
        InvalidStudy: nothing was found; the message says how near it came.
    """
    checked = [c for c in constraints if c.metric in evaluator.provides]
    random = Random(seed)
    found, broken, metrics = sample(space, random), float("inf"), dict[str, float]()
    for step in range(SAMPLES + STEPS):
        tried = sample(space, random) if step < SAMPLES else mutate(space, found, random)
        try:
            measured = {k: v for m in evaluator(Job(tried)) for k, v in m.metrics.items()}
        except TrialError:
            continue
        excess = sum(_relative_excess(c, measured[c.metric]) for c in checked)
        if excess < broken:
            found, broken, metrics = tried, excess, measured
        if broken == 0:
            return found
    nearest = ", ".join(f"{c.metric} = {metrics.get(c.metric, float('nan')):.6g}" for c in checked)
    raise InvalidStudy(
        f"nothing in {space!r} keeps to {', '.join(map(str, checked))}; the nearest of "
        f"{SAMPLES + STEPS} has {nearest}. Relax the constraint, or choose another --space"
    )


def _relative_excess(constraint: Constraint, value: float) -> float:
    """By how much a limit is broken, as a share of it, so that units do not matter."""
    limit = constraint.at_most if value > constraint.at_most else constraint.at_least
    return constraint.excess(value) / max(abs(limit), 1e-9) if constraint.excess(value) else 0.0
