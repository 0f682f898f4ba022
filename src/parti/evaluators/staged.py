"""Measuring in stages: what is cheap first, and nothing dear for what breaks a constraint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from parti.core.errors import InvalidSettings, Rejected
from parti.core.protocols import Evaluator
from parti.core.study import Constraint
from parti.core.trial import Job, Measurement

__all__ = ["Staged"]


class Staged:
    """Run evaluators one after the other; reject before the last what breaks a constraint.

    Args:
        stages: the evaluators, cheapest first.
        constraints: limits; those on metrics of the last stage are not checked here, for then
            the work is done.

    Raises:
        InvalidSettings: there are no stages, or two measure the same metric.
    """

    def __init__(self, stages: Sequence[Evaluator], constraints: Sequence[Constraint] = ()) -> None:
        names = [name for stage in stages for name in stage.provides]
        if not stages or len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidSettings(
                f"stages must be at least one and measure different metrics; twice: {twice}"
            )
        self.stages = tuple(stages)
        self.constraints = tuple(constraints)

    @property
    def provides(self) -> frozenset[str]:
        """The metrics of all stages."""
        return frozenset().union(*(stage.provides for stage in self.stages))

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield the measurements of every stage.

        Raises:
            Rejected: a constraint is broken before the last stage.
        """
        start = time.monotonic()
        for place, stage in enumerate(self.stages):
            before = time.monotonic() - start
            metrics: dict[str, float] = {}
            for measurement in stage(job):
                metrics.update(measurement.metrics)
                yield replace(measurement, seconds=measurement.seconds + before)
            if place + 1 < len(self.stages):
                self._check(metrics)

    def _check(self, metrics: dict[str, float]) -> None:
        broken = [
            f"{c.metric} {metrics[c.metric]:.6g} breaks {c}"
            for c in self.constraints
            if c.metric in metrics and not c.allows(metrics[c.metric])
        ]
        if broken:
            raise Rejected("; ".join(broken))
