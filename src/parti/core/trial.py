"""What a strategy proposes, what an evaluator measures, and what the store keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from parti.core.architecture import Architecture

__all__ = ["Job", "Measurement", "Proposal", "State", "Trial"]


class State(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Training diverged, ran out of memory or raised: `Trial.error` says why."""
    REJECTED = "rejected"
    """A constraint on a cheap metric is broken: it was never trained and costs no budget."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture that a strategy wants measured.

    Args:
        architecture: what to measure.
        fidelity: how much to spend on it, in the evaluator's unit (epochs); None for its default.
        parents: numbers of the trials it descends from.
        continues: number of the trial whose checkpoint it goes on from (promotion).
    """

    architecture: Architecture
    fidelity: int | None = None
    parents: tuple[int, ...] = ()
    continues: int | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Some metrics of one trial, at one moment.

    Args:
        metrics: name to value; names carry their unit (`latency_ms`, `macs`).
        step: progress in the unit of fidelity (epochs done).
        seconds: time spent since the trial began.
    """

    metrics: Mapping[str, float]
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One proposal and all that became of it."""

    number: int
    proposal: Proposal
    state: State = State.RUNNING
    measurements: tuple[Measurement, ...] = ()
    error: str | None = None

    @property
    def architecture(self) -> Architecture:
        """What was measured."""
        return self.proposal.architecture

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """The last value of every metric."""
        merged: dict[str, float] = {}
        for measurement in self.measurements:
            merged.update(measurement.metrics)
        return merged

    @property
    def seconds(self) -> float:
        """Time spent on it, as far as it was measured."""
        return max((m.seconds for m in self.measurements), default=0.0)

    def metric(self, name: str) -> float:
        """The last value of a metric; NaN when it was not measured."""
        return self.metrics.get(name, math.nan)


@dataclass(frozen=True, slots=True)
class Job:
    """All that an evaluator needs to measure one proposal.

    Args:
        architecture: what to build.
        fidelity: how much to spend, None for the evaluator's default.
        seed: of every random number in this trial.
        workdir: a folder of this trial alone, for checkpoints; None to keep nothing.
        continues: the folder of the trial to go on from.
    """

    architecture: Architecture
    fidelity: int | None = None
    seed: int = 0
    workdir: Path | None = field(default=None)
    continues: Path | None = None
