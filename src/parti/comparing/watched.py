"""A strategy under a watch."""

from __future__ import annotations

import math
import time

from parti.comparing.incumbent import follow
from parti.comparing.run import Ended, Settings
from parti.core.protocols import Strategy
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical
from parti.tables.problem import Problem

__all__ = ["Watched"]

MOST_REPEATS = 200
"""After so many proposals in a row that are known already, a search has nothing new to say."""


class Watched:
    """A strategy under a watch: what it costs, what it finds, and when its limit is reached.

    Evaluations are distinct canonical architectures, at whatever fidelity; failed ones count,
    rejected ones do not. A trial that is not done within the limit of seconds does not count. Its
    proposals are timed together with what it made of the trials before.

    Args:
        strategy: what is watched.
        problem: knows the truth.
        study: what is asked.
        settings: limits, and what repeats cost.
    """

    def __init__(
        self, strategy: Strategy, problem: Problem, study: Study, settings: Settings
    ) -> None:
        self._strategy = strategy
        self._problem = problem
        self._settings = settings
        self._incumbent = follow(problem, study)
        self._trials: dict[int, Trial] = {}
        self._architectures: set[str] = set()
        self._measured: set[tuple[str, int | None]] = set()
        self._repeats = 0
        self._thinking = 0.0
        self.seconds = 0.0
        self.failed = 0
        self.ended: Ended | None = None
        self.ask_seconds: list[float] = []
        self.changes: list[tuple[int, float, float]] = []

    @property
    def evaluations(self) -> int:
        """How many distinct architectures were evaluated so far."""
        return len(self._architectures)

    @property
    def trials(self) -> int:
        """How many trials have ended so far."""
        return len(self._trials)

    def ask(self) -> Proposal | None:
        """Return the strategy's proposal; None when it has none, or at a limit."""
        if self.ended is None and self._repeats >= MOST_REPEATS:
            self.ended = "repeats"
        if self.ended is not None:
            return None
        began = time.perf_counter()
        proposal = self._strategy.ask()
        took, self._thinking = self._thinking + time.perf_counter() - began, 0.0
        limit = self._settings.evaluations
        if proposal is None:
            self.ended = "exhausted"
            return None
        full = limit is not None and self.evaluations >= limit
        if full and self._key(proposal) not in self._architectures:
            self.ended = "evaluations"
            return None
        self.ask_seconds.append(took)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Count a trial that has ended, follow the incumbent, and pass it on."""
        began = time.perf_counter()
        self._strategy.tell(trial)
        self._thinking += time.perf_counter() - began
        if trial.state is State.RUNNING:
            return
        self._trials[trial.number] = trial
        self.failed += trial.state is State.FAILED
        key = self._key(trial.proposal)
        if self._is_repeat(key, trial.proposal.fidelity) and self._settings.repeats == "free":
            return
        self.seconds += self._problem.seconds(trial, self._trials)
        limit = self._settings.seconds
        if limit is not None and self.seconds > limit:
            self.seconds, self.ended = limit, "seconds"
            return
        if trial.state is not State.REJECTED:
            self._architectures.add(key)
        self._incumbent.tell(trial)
        regret = self._incumbent.regret
        if regret != (self.changes[-1][2] if self.changes else math.inf):
            self.changes.append((self.evaluations, self.seconds, regret))

    def _is_repeat(self, key: str, fidelity: int | None) -> bool:
        """Whether an architecture was measured at this fidelity before; it is now."""
        known = (key, fidelity) in self._measured
        self._measured.add((key, fidelity))
        self._repeats = self._repeats + 1 if known else 0
        return known

    def _key(self, proposal: Proposal) -> str:
        return canonical(self._problem.space, proposal.architecture).fingerprint
