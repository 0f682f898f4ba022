"""Looking up instead of training: an evaluator over columns of numbers that others have measured.

    evaluator = Tabular(
        table.rows,
        {12: Level({"val_accuracy": (early,)}, early_seconds),
         200: Level({"val_accuracy": (run0, run1, run2)}, seconds)},
    )

A metric may have been measured in several runs; then each architecture is given one of them,
always the same for the same seed, as a search that trains once would see it. Time is virtual: what
training to this fidelity took when the table was made, as if from scratch. What a promotion saves
where training can go on is counted from the trials, by `parti.tables.problem.Problem.seconds`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from numpy import float64
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job, Measurement

__all__ = ["Level", "Rows", "Tabular", "uniform"]

Column = NDArray[float64]


class Rows(Protocol):
    """Knows in which row of a table an architecture stands."""

    def find(self, architecture: Architecture) -> int:
        """Return the row, from 0.

        Raises:
            TrialError: the table does not hold the architecture.
        """
        ...


@dataclass(frozen=True, eq=False)
class Level:
    """What a table knows at one fidelity.

    Args:
        metrics: for each metric its runs, each a column with one value per row; NaN where a run
            does not exist.
        seconds: how long training to this fidelity took, per row; None when it is not known.
    """

    metrics: Mapping[str, tuple[Column, ...]]
    seconds: Column | None = None


class Tabular:
    """Measure an architecture by looking it up.

    Args:
        rows: finds the row of an architecture.
        levels: what is known at each fidelity; all have the same metrics.
        default: the fidelity of jobs that name none; by default the highest.
        seed: decides which run of an architecture is seen.
        name: of the table, for messages.

    Raises:
        InvalidSettings: there is no level, they differ in metrics, a metric has no run, or the
            default is not among them.
    """

    def __init__(
        self,
        rows: Rows,
        levels: Mapping[int, Level],
        *,
        default: int | None = None,
        seed: int = 0,
        name: str = "table",
    ) -> None:
        if not levels:
            raise InvalidSettings(f"{name}: a tabular evaluator needs at least one fidelity")
        self.rows = rows
        self.levels = dict(sorted(levels.items()))
        self.default = max(levels) if default is None else default
        self.seed = seed
        self.name = name
        if self.default not in self.levels:
            raise InvalidSettings(
                f"{name}: default fidelity {default} is not in the table, "
                f"which has {list(self.levels)}"
            )
        self.provides = frozenset(self.levels[self.default].metrics)
        for fidelity, level in self.levels.items():
            if frozenset(level.metrics) != self.provides or not all(level.metrics.values()):
                raise InvalidSettings(
                    f"{name}: every fidelity needs a column for each of {sorted(self.provides)}; "
                    f"{fidelity} has {sorted(m for m, runs in level.metrics.items() if runs)}"
                )

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what the table has, at once; `seconds` is the table's, from scratch.

        Raises:
            TrialError: the table lacks the architecture, the fidelity, or one of the values.
        """
        fidelity = self.default if job.fidelity is None else job.fidelity
        level = self.levels.get(fidelity)
        if level is None:
            raise TrialError(
                f"{self.name} has no fidelity {fidelity}; it has {list(self.levels)}: "
                "propose one of them, or None for the default"
            )
        row = self.rows.find(job.architecture)
        draw = uniform(self.seed, fidelity, job.architecture)
        metrics = {
            metric: self._value(metric, runs, row, draw) for metric, runs in level.metrics.items()
        }
        seconds = 0.0 if level.seconds is None else float(level.seconds[row])
        yield Measurement(metrics, fidelity, seconds)

    def _value(self, metric: str, runs: tuple[Column, ...], row: int, draw: float) -> float:
        there = [value for run in runs if not math.isnan(value := float(run[row]))]
        if not there:
            raise TrialError(
                f"{self.name} has no {metric} of this architecture: it could not be measured"
            )
        return there[int(draw * len(there))]


def uniform(seed: int, what: object, architecture: Architecture) -> float:
    """Return a number in [0, 1) that follows from its arguments alone, in every process."""
    text = f"{seed}/{what}/{architecture.fingerprint}"
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
