"""Evaluators around evaluators: what is known is not measured again, and each to its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from parti.core.architecture import Architecture
from parti.core.protocols import Evaluator
from parti.core.trial import Job, Measurement, State, Trial

__all__ = ["Remembered", "Routed"]


class Remembered:
    """An evaluator that does not train again what another study has trained in the same way.

    Args:
        evaluator: measures what is new.
        trials: what is known; only trials that ended count.
    """

    def __init__(self, evaluator: Evaluator, trials: Iterable[Trial]) -> None:
        self.evaluator = evaluator
        self.known = {
            trial.architecture: trial.measurements for trial in trials if trial.state is State.DONE
        }

    @property
    def provides(self) -> frozenset[str]:
        """The metrics of the evaluator."""
        return self.evaluator.provides

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what is known, or measure."""
        if job.architecture in self.known:
            yield from self.known[job.architecture]
        else:
            yield from self.evaluator(job)


class Routed:
    """An evaluator that lets another one measure each architecture.

    Args:
        routes: which evaluator measures which architecture.
    """

    def __init__(self, routes: Mapping[Architecture, Evaluator]) -> None:
        self.routes = dict(routes)

    @property
    def provides(self) -> frozenset[str]:
        """The metrics that all of them measure."""
        return frozenset.intersection(*(e.provides for e in self.routes.values()))

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what the architecture's own evaluator measures."""
        yield from self.routes[job.architecture](job)
