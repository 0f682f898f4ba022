"""What directions are drawn from, and what a direction is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from parti.core.architecture import Architecture
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Trial
from parti.explaining.command import search_command
from parti.explaining.forest import Forest
from parti.explaining.importance import Importance
from parti.explaining.neighbours import Change
from parti.explaining.rejected import Rejections
from parti.explaining.tradeoffs import Tradeoff

__all__ = ["Direction", "Evidence", "Z", "allowing", "error_of_difference", "number", "points"]

Z = 1.959964
"""The normal quantile of 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Direction:
    """One way to a better result, and why.

    Args:
        kind: a word for it, the name of its rule.
        finding: what was seen, in a sentence.
        advice: what to do about it, in a sentence.
        evidence: the numbers behind it, by name.
        command: to run next; None where the search was called from Python.
        program: a Python file that the command needs; None for none.
    """

    kind: str
    finding: str
    advice: str
    evidence: Mapping[str, float | int | str]
    command: str | None
    program: str | None = None


@dataclass(frozen=True)
class Evidence:
    """A study and all that was made of it.

    Args:
        study: what was asked.
        trials: all of the search, by number.
        compared: those whose first objective may be compared.
        result: as it is written down; any part may be missing.
        asked: settings that are not the default.
        space: what was searched; None when it is not at hand.
        winner: its architecture.
        forest: predicts the first objective; None where there were too few trials.
        importance: which decisions matter.
        changes: what each change to the winner would do.
        tradeoffs: what the front trades.
        rejections: why candidates were not chosen.
    """

    study: Study
    trials: Sequence[Trial]
    compared: Sequence[Trial]
    result: Mapping[str, Any]
    asked: Mapping[str, Any] = field(default_factory=dict)
    space: Space | None = None
    winner: Architecture | None = None
    forest: Forest | None = None
    importance: Importance | None = None
    changes: Sequence[Change] = ()
    tradeoffs: Sequence[Tradeoff] = ()
    rejections: Rejections | None = None

    @property
    def best(self) -> Mapping[str, Any]:
        """The part of the result on the winner."""
        found = self.result.get("best")
        return found if isinstance(found, Mapping) else {}

    @property
    def baselines(self) -> list[Mapping[str, Any]]:
        """The parts of the result on the baselines."""
        return [b for b in self.result.get("baselines") or () if isinstance(b, Mapping)]

    @cached_property
    def tested(self) -> int:
        """Test images; 0 where it is not known."""
        metrics = self.best.get("metrics") or {}
        splits = (self.result.get("data") or {}).get("splits") or {}
        return int(metrics.get("n") or splits.get("test") or 0)

    @cached_property
    def validated(self) -> int:
        """Validation images; 0 where it is not known."""
        splits = (self.result.get("data") or {}).get("splits") or {}
        return int(splits.get("val") or 0)

    @property
    def accuracy_objective(self) -> bool:
        """Whether the first objective is an accuracy, so that its sampling error is known."""
        return self.study.objectives[0].metric == "val_accuracy"

    def noise(self, one: float, other: float) -> float:
        """How far apart two validation accuracies may be by chance (95 %); 0 if not known."""
        if not self.accuracy_objective or not self.validated:
            return 0.0
        return Z * error_of_difference(one, other, self.validated)

    def much(self, difference: float) -> str:
        """A difference of the first objective, in points where it is an accuracy."""
        return points(difference) if self.accuracy_objective else f"{difference:.3g}"

    def command(self, **changes: Any) -> str | None:
        """Return the command that asks the same with some settings changed."""
        return search_command(self.asked, changes, self.result.get("command"))

    def longer(self, factor: int) -> dict[str, Any]:
        """Return the budget, made larger, as a change of settings."""
        grown = {name: self.asked.get(name) for name in ("trials", "seconds")}
        return {name: factor * value for name, value in grown.items() if value}


def error_of_difference(one: float, other: float, n: int) -> float:
    """Return the standard error of the difference of two shares, each of n (independent)."""
    one, other = (min(max(share, 0.0), 1.0) for share in (one, other))
    return math.sqrt((one * (1 - one) + other * (1 - other)) / n)


def allowing(value: float) -> float:
    """Return a limit of three digits, or a whole number from 100 on, that just allows a value."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return (
        round(math.ceil(value * 10**digits) / 10**digits, digits)
        if digits > 0
        else math.ceil(value)
    )


def number(value: float) -> str:
    """Return an amount, from a thousand on in full: `52,910`, `0.704`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def points(share: float) -> str:
    """Return a difference of shares in percentage points: `1.3 points`."""
    return f"{100 * share:.2g} point{'' if f'{100 * share:.2g}' == '1' else 's'}"
