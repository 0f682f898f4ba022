"""Evaluators around evaluators: what is known is not measured again, each to its own, noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from random import Random

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Evaluator
from parti.core.trial import Job, Measurement, State, Trial

__all__ = ["Noisy", "Remembered", "Routed"]


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


class Noisy:
    """An evaluator whose metrics are disturbed, to see what a strategy makes of noise.

    The noise is normal and follows from the seed, the step and the architecture: measured again, an
    architecture gets the same numbers.

    Args:
        evaluator: measures.
        std: standard deviation of the noise of each metric, in its unit; other metrics are left.
        seed: of the noise.

    Raises:
        InvalidSettings: a metric is not measured, or a deviation is negative.
    """

    def __init__(self, evaluator: Evaluator, std: Mapping[str, float], *, seed: int = 0) -> None:
        for metric, deviation in std.items():
            if metric not in evaluator.provides or not deviation >= 0:
                raise InvalidSettings(
                    f"noise of {deviation!r} on {metric!r}: it must be at least 0, on one of "
                    f"{sorted(evaluator.provides)}"
                )
        self.evaluator = evaluator
        self.std = dict(std)
        self.seed = seed

    @property
    def provides(self) -> frozenset[str]:
        """The metrics of the evaluator."""
        return self.evaluator.provides

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what the evaluator measures, with noise."""
        for measurement in self.evaluator(job):
            random = Random(f"{self.seed}/{measurement.step}/{job.architecture.fingerprint}")
            drawn = {metric: random.gauss(0.0, std) for metric, std in self.std.items()}
            metrics = {
                metric: value + drawn.get(metric, 0.0)
                for metric, value in measurement.metrics.items()
            }
            yield replace(measurement, metrics=metrics)
