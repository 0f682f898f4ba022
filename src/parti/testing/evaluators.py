"""What every evaluator must do."""

from __future__ import annotations

import math
import pickle

import cloudpickle

from parti.core.protocols import Evaluator
from parti.core.trial import Job

__all__ = ["EvaluatorSuite"]


class EvaluatorSuite:
    """Subclass it and override `make` and `job`."""

    exact = True
    """Whether the same job gives the same numbers (a measured latency does not)."""

    def make(self) -> Evaluator:
        """Return the evaluator under test."""
        raise NotImplementedError

    def job(self) -> Job:
        """Return a job it can do."""
        raise NotImplementedError

    def test_measures_what_it_provides(self) -> None:
        """The metrics that come are those announced, and all of them come."""
        evaluator = self.make()
        seen: set[str] = set()
        for measurement in evaluator(self.job()):
            seen.update(measurement.metrics)
            assert all(isinstance(v, int | float) for v in measurement.metrics.values())
            assert not any(math.isnan(value) for value in measurement.metrics.values())
        assert seen == evaluator.provides

    def test_progress_only_goes_forward(self) -> None:
        """Steps and seconds never fall."""
        found = list(self.make()(self.job()))
        assert found
        assert [m.step for m in found] == sorted(m.step for m in found)
        assert [m.seconds for m in found] == sorted(m.seconds for m in found)

    def test_same_job_same_numbers(self) -> None:
        """Numbers follow from the job, whatever ran before."""
        if self.exact:
            first = [m.metrics for m in self.make()(self.job())]
            evaluator = self.make()
            list(evaluator(self.job()))
            assert [m.metrics for m in evaluator(self.job())] == first

    def test_crosses_to_another_process(self) -> None:
        """It can be pickled, and the copy measures too."""
        copy = pickle.loads(cloudpickle.dumps(self.make()))  # noqa: S301
        assert list(copy(self.job()))
