"""Latency predicted where a predictor has shown that it can, and measured everywhere else."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Protocol

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.protocols import Evaluator, Space
from parti.core.study import Constraint
from parti.core.trial import Job, Measurement
from parti.core.walks import sample
from parti.evaluators.devices import DeviceAway
from parti.evaluators.latency_features import LatencyFeatures
from parti.evaluators.latency_predictor import (
    FEWEST_JUDGED,
    LatencyPredictor,
    Quality,
    cross_validated,
    design,
)

__all__ = ["PREDICTED", "Measuring", "PredictedLatency"]

PREDICTED = "latency_predicted"
"""The metric that is 1 where latency was predicted and 0 where it was measured."""

POOL = 400
"""Random architectures among which those to be measured are chosen."""

TRIES = 20
"""Random architectures drawn for each one of the pool, in spaces with fewer members."""

LAZY = ("_learned", "_features", "_chosen")
"""What a worker finds out again rather than being sent."""

NEAR = 2.0
"""Deviations within which a limit is too near to trust a prediction."""


class Measuring(Evaluator, Protocol):
    """Measures latency, and says under which conditions."""

    @property
    def conditions(self) -> str:
        """Under which conditions its measurements hold, in one line."""
        ...


class PredictedLatency:
    """Evaluator of what another one measures, and of `latency_predicted`.

    Before the search, `prepare` has some architectures measured that were chosen to tell most, 20
    at first, and more while the predictor is not good enough; what they took is kept in a file.
    Nothing is learned from later trials: so a trial is predicted or measured, and how, by its
    architecture and the file alone, whichever worker has it, in whatever order, and after a
    resume. A trial is measured when the predictor is not good enough, when it is uncertain of this
    architecture, or when a limit is near.

    Args:
        measuring: measures; `Latency`, `RemoteLatency`, or another whose metrics are latencies.
        space: what is searched.
        file: where measurements are kept, in the study's folder.
        judged: the metrics for which the predictor must be good enough: those that are asked for.
        constraints: limits; a prediction near one of them is not trusted.
        input_shape: (channels, height, width), to learn from what networks compute as well; None
            to learn from the architectures alone.
        first: how many are measured at first, and how many more each time that is not enough.
        most: how many are measured at most.
        rank: the rank correlation that a predictor must reach, at the lower bound of its estimate.
        error: the mean error, over mean latency, that it must not exceed, at the upper bound; it
            is certain of an architecture up to a relative deviation of twice that.
        seed: draws the architectures to choose from.

    Raises:
        InvalidSettings: a number is out of range, or a metric is not measured.
    """

    def __init__(
        self,
        measuring: Measuring,
        space: Space,
        file: Path,
        *,
        judged: Sequence[str] = ("latency_ms",),
        constraints: Sequence[Constraint] = (),
        input_shape: Sequence[int] | None = None,
        first: int = 20,
        most: int = 60,
        rank: float = 0.9,
        error: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not FEWEST_JUDGED <= first <= most or not (0 < rank <= 1 and error > 0):
            raise InvalidSettings(
                f"first={first}, most={most}, rank={rank!r}, error={error!r}: at least "
                f"{FEWEST_JUDGED} measurements at first and no fewer at most, rank in (0, 1], "
                "error positive"
            )
        if not judged or set(judged) - measuring.provides:
            raise InvalidSettings(
                f"judged {list(judged)}: it must be some of {sorted(measuring.provides)}"
            )
        self.measuring = measuring
        self.space = space
        self.file = Path(file)
        self.judged = tuple(judged)
        self.constraints = tuple(constraints)
        self.input_shape = input_shape
        self.first, self.most = first, most
        self.rank, self.error = rank, error
        self.seed = seed

    @property
    def provides(self) -> frozenset[str]:
        """What is measured, and whether it was predicted."""
        return self.measuring.provides | {PREDICTED}

    @property
    def conditions(self) -> str:
        """Those of the measurements, and how good the predictions are."""
        return f"{self.measuring.conditions}; {self.summary}"

    @property
    def summary(self) -> str:
        """In a line, whether latency is predicted, and with which error; after `prepare`."""
        learned = self._learned
        seen = "; ".join(
            f"{name}: {quality}" for name, quality in sorted(learned.qualities.items())
        )
        if learned.good:
            return f"predicted where certain ({seen})"
        return f"always measured, for predictions are not good enough ({seen or 'too few'})"

    def prepare(self) -> None:
        """Measure what predictions are learned from, as far as the file does not have it.

        To be called once before a search, and again when it goes on; workers then only read.

        Raises:
            InvalidSettings: the file holds measurements made under other conditions.
            DeviceAway: no device answers; what was measured before is kept.
        """
        known = len(self._kept())
        wanted = min(self.most, self.first * max(1, math.ceil(known / self.first)))
        while True:
            if known < wanted:
                for architecture in self._chosen[known:wanted]:
                    self._measure(architecture)
                self.__dict__.pop("_learned", None)
                known = len(self._kept())
            if self._learned.good or wanted == self.most or known < wanted:
                return  # it is enough, no more are allowed, or there are no more
            wanted = min(self.most, wanted + self.first)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield a prediction, or what is measured.

        Raises:
            TrialError: the architecture cannot be measured.
        """
        began = time.perf_counter()
        if not self.file.exists():
            self.prepare()
        predicted = self._predicted(job.architecture)
        if predicted is not None:
            yield Measurement({**predicted, PREDICTED: 1.0}, seconds=time.perf_counter() - began)
            return
        for measurement in self.measuring(job):
            yield Measurement(
                {**measurement.metrics, PREDICTED: 0.0}, measurement.step, measurement.seconds
            )

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in LAZY}

    # --- learning ---

    @cached_property
    def _features(self) -> LatencyFeatures:
        return LatencyFeatures(self.space, self.input_shape)

    @cached_property
    def _chosen(self) -> list[Architecture]:
        """What is measured, in order; it follows from space and seed."""
        random = Random(self.seed)
        pool: dict[str, Architecture] = {}
        for _ in range(TRIES * POOL):
            if len(pool) == POOL:
                break
            member = sample(self.space, random)
            pool.setdefault(member.fingerprint, member)
        return design(self._features, list(pool.values()), self.most)

    @cached_property
    def _learned(self) -> _Learned:
        kept = [row for row in self._kept() if row.metrics]
        if len(kept) < FEWEST_JUDGED:
            return _Learned({}, {}, False)
        architectures = [row.architecture for row in kept]
        models, qualities = {}, {}
        for name in sorted(self.measuring.provides):
            seen = [row.metrics[name] for row in kept]
            models[name] = LatencyPredictor(self._features, architectures, seen)
            if name in self.judged:
                qualities[name] = cross_validated(self._features, architectures, seen)
        good = all(
            quality.rank_low >= self.rank and quality.error_high <= self.error
            for quality in qualities.values()
        )
        return _Learned(models, qualities, good)

    def _predicted(self, architecture: Architecture) -> dict[str, float] | None:
        """Its latencies, where they can be trusted."""
        if not self._learned.good:
            return None
        found: dict[str, float] = {}
        for name, model in self._learned.models.items():
            (mean,), (deviation,) = model.predict([architecture])
            found[name] = float(mean)
            if name in self.judged and deviation > 2 * self.error * mean:
                return None
            low, high = mean - NEAR * deviation, mean + NEAR * deviation
            for limit in self.constraints:
                if limit.metric == name and limit.allows(low) != limit.allows(high):
                    return None
        return found

    # --- the file: its first line holds the conditions, each other one an architecture ---

    def _measure(self, architecture: Architecture) -> None:
        metrics: dict[str, float] = {}
        try:
            for measurement in self.measuring(Job(architecture, seed=self.seed)):
                metrics |= measurement.metrics
        except DeviceAway:
            raise
        except TrialError:
            metrics = {}  # it was tried; the predictor does without it
        if not self.file.exists() or not self.file.stat().st_size:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._append({"conditions": self.measuring.conditions})
        self._append({"architecture": json.loads(architecture.to_json()), "metrics": metrics})

    def _append(self, row: dict[str, object]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _kept(self) -> list[_Row]:
        if not self.file.exists():
            return []
        lines = self.file.read_text(encoding="utf-8").split("\n")
        if lines[-1]:  # a process ended while it wrote this one
            self.file.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
        rows = [json.loads(line) for line in lines[:-1]]
        if rows and rows[0]["conditions"] != self.measuring.conditions:
            raise InvalidSettings(
                f"{self.file} holds latencies measured under other conditions: "
                f"{rows[0]['conditions']}, and now: {self.measuring.conditions}. Measure as "
                "before, or begin another study"
            )
        return [
            _Row(Architecture.from_json(json.dumps(row["architecture"])), row["metrics"])
            for row in rows[1:]
        ]


@dataclass(frozen=True, slots=True)
class _Row:
    architecture: Architecture
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Learned:
    models: dict[str, LatencyPredictor]
    qualities: dict[str, Quality]
    good: bool
