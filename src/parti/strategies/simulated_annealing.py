"""Simulated annealing.

Kirkpatrick, Gelatt, Vecchi, "Optimization by Simulated Annealing", Science 220(4598), 1983: a
random change is kept if it is better, or else with probability exp(-ΔE/T), while the temperature T
falls. As in the paper, the system is first melted, that is, every change is kept. From what the
changes cost there the first temperature is set, such that an average one would be kept with a
given probability (Kirkpatrick, "Optimization by Simulated Annealing: Quantitative Studies",
Journal of Statistical Physics 34, 1984: four in five). Logarithmic cooling is that of Geman and
Geman, "Stochastic Relaxation, Gibbs Distributions, and the Bayesian Restoration of Images", IEEE
Transactions on Pattern Analysis and Machine Intelligence 6(6), 1984.

Departures: the temperature falls with every model trained, not in stages of many, and to a share of
the first, not until the system is frozen. The walk goes through known models as it does through new
ones, but they are not trained again and do not cool it; where it finds nothing new any more, it
begins again at a random model. A change that breaks the constraints more than before is never kept,
one that breaks them less always. When many run at once, each is compared with where the walk stands
when it ends.
"""

from __future__ import annotations

import math
from random import Random
from typing import Literal

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical, mutate, sample
from parti.strategies.memory import TRIES, Memory
from parti.strategies.ranking import rank

__all__ = ["SimulatedAnnealing"]

Schedule = Literal["exponential", "linear", "logarithmic"]

SCHEDULES = ("exponential", "linear", "logarithmic")

STEPS = 500
"""Length of one cooling in a study without a budget of trials."""


class SimulatedAnnealing:
    """Walk at random, uphill ever less.

    Args:
        space: what is searched; a step changes one decision.
        study: its first objective is optimized; its seed, constraints and budget are used.
        schedule: how the temperature falls. "exponential": by the same factor with every model;
            "linear": by the same amount; "logarithmic": as 1 / log(1 + k) for the k-th model,
            which ends far above the others.
        temperature: the first one (T_0), in units of the objective; None: measured by melting.
        final: the last temperature, as a share of the first (not of logarithmic cooling).
        melting: number of models trained while every change is kept, when the temperature is not
            given.
        acceptance: share of average changes for the worse that the first temperature keeps, when
            it is not given.
        steps: number of models that one cooling takes; after that the next begins at the first
            temperature. None: the study's budget of trials, or 500 without one.
        restart: where the next cooling begins, at a "random" model or at the "best" so far.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a name is unknown or a number out of range.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        schedule: Schedule = "exponential",
        temperature: float | None = None,
        final: float = 0.001,
        melting: int = 10,
        acceptance: float = 0.8,
        steps: int | None = None,
        restart: Literal["random", "best"] = "random",
        fidelity: int | None = None,
    ) -> None:
        if schedule not in SCHEDULES or restart not in ("random", "best"):
            raise InvalidSettings(
                f"annealing with schedule={schedule!r}, restart={restart!r}: the first must be "
                f"one of {list(SCHEDULES)}, the second 'random' or 'best'"
            )
        if temperature is not None and not 0 < temperature < math.inf:
            raise InvalidSettings(f"a first temperature of {temperature}: it must be more than 0")
        if not (0 < final <= 1 and 0 < acceptance < 1):
            raise InvalidSettings(
                f"annealing with final={final}, acceptance={acceptance}: both are shares, more "
                "than 0 and at most 1 (acceptance: less than 1)"
            )
        if melting < 2 or (steps is not None and steps < 1):
            raise InvalidSettings(
                f"annealing with melting={melting}, steps={steps}: melting takes at least 2 "
                "models, for there must be a change, and a cooling at least 1"
            )
        self._space = space
        self._study = study
        self._schedule = schedule
        self._first = temperature
        self._final = final
        self._melting = melting
        self._acceptance = acceptance
        to_melt = melting if temperature is None else 0
        self._steps = steps or max(1, (study.budget.trials or STEPS) - to_melt)
        self._restart = restart
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._known: dict[str, Trial] = {}
        self._here: Trial | None = None
        self._best: Trial | None = None
        self._changes: list[float] = []
        self._molten = 0
        self._cooled = 0

    @property
    def here(self) -> Trial | None:
        """The trial where the walk stands; None before it begins."""
        return self._here

    @property
    def temperature(self) -> float:
        """The temperature at which the next model is judged; infinite while melting."""
        if self._first is None:
            return math.inf
        if self._schedule == "logarithmic":
            return self._first * math.log(2) / math.log(2 + self._cooled)
        passed = self._cooled / max(1, self._steps - 1)
        if self._schedule == "linear":
            return self._first * (1 - (1 - self._final) * passed)
        return self._first * math.pow(self._final, passed)

    def ask(self) -> Proposal | None:
        """Return a change of the model where the walk stands, or a random model to begin."""
        random, here = self._memory.random(), self._here
        changed: Architecture | None = None

        def draw() -> Architecture:
            nonlocal changed
            if here is None:
                return sample(self._space, random)
            changed = mutate(self._space, here.architecture, random)
            return changed

        drawn = self._memory.fresh(random, draw)
        if drawn is None:
            return None
        parents = (here.number,) if here is not None and drawn is changed else ()
        return Proposal(drawn, self._fidelity, parents)

    def tell(self, trial: Trial) -> None:
        """Move to a trial that is done if the temperature allows it, then on to where news is."""
        self._memory.tell(trial)
        if trial.state is State.RUNNING:
            return
        self._known[self._form(trial.architecture)] = trial
        random = Random(f"{self._study.seed}/judged/{len(self._known)}")
        if trial.state is State.DONE:
            self._judge(trial, random)
        self._walk(random)

    def _judge(self, trial: Trial, random: Random) -> None:
        if self._best is None or rank(self._study, trial) < rank(self._study, self._best):
            self._best = trial
        if self._here is None:
            if not trial.proposal.parents:  # else it is of a walk that has ended
                self._here = trial
        elif self._accepts(trial, self._here, random):
            self._here = trial
        self._cool()

    def _cool(self) -> None:
        if self._first is None:
            self._molten += 1
            if self._molten == self._melting:
                average = sum(self._changes) / max(1, len(self._changes))
                self._first = average / -math.log(self._acceptance)
            return
        self._cooled += 1
        if self._cooled == self._steps:
            self._cooled = 0
            self._here = self._best if self._restart == "best" else None

    def _accepts(self, trial: Trial, here: Trial, random: Random) -> bool:
        """Whether the walk moves from here to a trial, by chance when it is worse."""
        new, old = rank(self._study, trial), rank(self._study, here)
        rise = new[1] - old[1]
        if new[0] != old[0] or not math.isfinite(rise):
            return new < old
        if self._first is None:
            if trial.proposal.parents:  # else it is no change of one decision
                self._changes.append(abs(rise))
            return True
        chance, heat = random.random(), self.temperature
        return rise <= 0 or (heat > 0 and chance < math.exp(-rise / heat))

    def _walk(self, random: Random) -> None:
        """Go on through known models until a change leads to a new one."""
        for _ in range(TRIES):
            if self._here is None:
                return
            changed = mutate(self._space, self._here.architecture, random)
            known = self._known.get(self._form(changed))
            if known is None:
                return
            if known is not self._here and self._accepts(known, self._here, random):
                self._here = known
        self._here = None  # all around is known

    def _form(self, architecture: Architecture) -> str:
        return canonical(self._space, architecture).fingerprint
