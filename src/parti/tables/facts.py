"""What a table knows of the architectures of a problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from parti.core.architecture import Architecture
from parti.evaluators.tabular import Level, Tabular
from parti.tables.table import Column, Table

__all__ = ["TableFacts"]


@dataclass(frozen=True, eq=False)
class TableFacts:
    """Columns of a table, and what they are to a problem.

    Args:
        table: which architectures there are.
        levels: what a search sees at each fidelity.
        truth: the true value of every metric of the study, per row.
        default: the fidelity of proposals without one.
        score_columns: training-free scores, per row.
    """

    table: Table
    levels: Mapping[int, Level]
    truth: Mapping[str, Column]
    default: int
    score_columns: Mapping[str, Column] = field(default_factory=dict)

    def evaluator(self, *, seed: int, oracle: bool) -> Tabular:
        """Return what looks up the levels, or in oracle mode the truth."""
        levels = self.levels
        if oracle:
            truth = {metric: (column,) for metric, column in self.truth.items()}
            levels = {self.default: Level(truth, levels[self.default].seconds)}
        return Tabular(
            self.table.rows, levels, default=self.default, seed=seed, name=self.table.name
        )

    def truths(self, architecture: Architecture) -> dict[str, float]:
        """The true value of every metric of the study.

        Raises:
            TrialError: the table does not hold the architecture.
        """
        row = self.table.row(architecture)
        return {metric: float(column[row]) for metric, column in self.truth.items()}

    def contenders(self) -> Mapping[str, Column]:
        """The true values of the whole table."""
        return self.truth

    def scores(self, architecture: Architecture) -> dict[str, float]:
        """The training-free scores that are known.

        Raises:
            TrialError: the table does not hold the architecture.
        """
        row = self.table.row(architecture)
        found = {name: float(column[row]) for name, column in self.score_columns.items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}
