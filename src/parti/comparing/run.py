"""What is the same for all runs of a comparison, and what came of one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings

__all__ = ["Ended", "Run", "Settings", "Spent"]

Floats = npt.NDArray[np.float64]

Ended = Literal["evaluations", "seconds", "exhausted", "repeats", "error"]
"""What ended a run: a limit, nothing more to propose, too many repeats, an error."""

Spent = Literal["evaluations", "seconds"]
"""What a search spends: distinct architectures evaluated, or virtual seconds."""


_COLUMNS: dict[Spent, int] = {"evaluations": 0, "seconds": 1}


@dataclass(frozen=True)
class Settings:
    """What is the same for all runs of a comparison.

    Args:
        evaluations: most distinct architectures a run may evaluate; None for no limit.
        seconds: most virtual seconds a run may spend; None for no limit.
        oracle: search the truth itself, as some published studies do.
        scores: let strategies that take training-free scores have them.
        repeats: "free": what is proposed again costs nothing and is no news; "paid": it costs
            its seconds again, as in the protocol of NAS-Bench-201.

    Raises:
        InvalidSettings: there is no limit, or one is not positive.
    """

    evaluations: int | None = 300
    seconds: float | None = None
    oracle: bool = False
    scores: bool = True
    repeats: Literal["free", "paid"] = "free"

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.evaluations, self.seconds) if limit is not None]
        if not limits or not all(limit > 0 for limit in limits):
            raise InvalidSettings(
                f"a limit of {self.evaluations} evaluations and {self.seconds} virtual seconds: "
                "give at least one, more than 0"
            )


@dataclass(frozen=True)
class Run:
    """What came of one run.

    Args:
        contender: its spec.
        problem: its name.
        seed: of the strategy and of the evaluator's noise.
        evaluations: how many distinct architectures were evaluated.
        trials: how many trials ran, repeats and promotions included.
        failed: how many of them failed.
        seconds: virtual time spent.
        ended: what ended it: a limit, the strategy having nothing more to propose, too many
            repeats, or an error.
        changes: whenever the incumbent's regret changed: (evaluations, virtual seconds, regret)
            from then on.
        ask_ms: time per proposal, in ms, as (median, 95th percentile, mean of the last ten).
        error: what went wrong within the strategy, if it did.
    """

    contender: str
    problem: str
    seed: int
    evaluations: int = 0
    trials: int = 0
    failed: int = 0
    seconds: float = 0.0
    ended: Ended = "error"
    changes: tuple[tuple[int, float, float], ...] = ()
    ask_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    error: str | None = None

    @property
    def regret(self) -> float:
        """The true regret of the last incumbent; infinite without one, or after an error."""
        return self.changes[-1][2] if self.changes and self.error is None else math.inf

    def spent(self, by: Spent) -> float:
        """What it spent in all."""
        return float(self.evaluations if by == "evaluations" else self.seconds)

    def spent_to(self, regret: float, by: Spent) -> float:
        """What was spent until the incumbent was so good for the first time; inf if it never was.

        A run that ended in an error never found anything.
        """
        column = _COLUMNS[by]
        if self.error is not None:
            return math.inf
        return next((change[column] for change in self.changes if change[2] <= regret), math.inf)

    def curve(self, spent: Floats, by: Spent) -> Floats:
        """The incumbent's regret after so much was spent; inf before there is any."""
        if self.error is not None:
            return np.full(len(spent), math.inf)
        moments = [change[_COLUMNS[by]] for change in self.changes]
        regrets = np.array([math.inf, *(change[2] for change in self.changes)])
        return regrets[np.searchsorted(moments, spent, side="right")]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; an infinite regret becomes null."""
        changes = [[n, s, None if math.isinf(r) else r] for n, s, r in self.changes]
        return {**vars(self), "changes": changes, "ask_ms": list(self.ask_ms)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Run:
        """Read what `to_dict` wrote."""
        changes = tuple((n, s, math.inf if r is None else r) for n, s, r in data["changes"])
        return cls(**{**data, "changes": changes, "ask_ms": tuple(data["ask_ms"])})
