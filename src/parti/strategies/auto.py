"""parti's own strategy, the default: a Gaussian process over several views of an architecture.

It is made of published parts. A Gaussian process whose covariance is a sum over views of an
architecture (choices, totals, paths, subtrees and statistics of its graph; see `models.features`)
learns, from the trials themselves, which views matter (`models.additive`). What is trained next is
the architecture of the highest expected improvement (Jones, Schonlau, Welch, "Efficient Global
Optimization of Expensive Black-Box Functions", 1998) over the whole space where it can be listed,
else over candidates evolved for it. Beyond that:

- training-free scores, if given, are one more view, and the mean of those known to be reliable is
  what is expected of an architecture before anything else is known (Abdelfattah et al.,
  "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, use such scores to warm up a search); the
  more is known, the less it counts;
- of several fidelities, the lowest is what new architectures get, and one in `eta` is promoted, as
  in ASHA (Li et al., MLSys 2020), but chosen by the model. The model of a fidelity takes the
  posterior mean of the one below as one more score (recursive co-kriging: Le Gratiet and Garnier,
  International Journal for Uncertainty Quantification 4(5), 2014);
- several objectives: expected hypervolume improvement (Emmerich 2006, see `ehvi`);
- constraints: the improvement is weighed by the probability that they hold (Schonlau, Welch, Jones,
  1998);
- trials that run are believed to come out as expected (the kriging believer of Ginsbourger, Le
  Riche, Carraro, "Kriging Is Well-Suited to Parallelize Optimization", 2010);
- it learns the logarithm of how much worse than the best a loss is, for what makes a network bad
  says little of what makes it the best;
- while trials bring nothing better, every third is drawn at random: a model that has seen one hill
  only is sure that there is no other. (De Ath, Everson, Rahat, Fieldsend, "Greed is Good", ACM
  TELO 1(1), 2021, find the same of greedy steps: now and then a random one costs little.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical, crossover, mutate, sample
from parti.strategies.memory import Memory
from parti.strategies.models.additive import Settings
from parti.strategies.models.described import TRUSTED, Described, Scores, described
from parti.strategies.models.outlook import Outlook
from parti.strategies.ranking import rank

__all__ = ["Auto"]

ROUNDS = 4
"""Generations in which candidates of a large space are evolved."""

PARENTS = 15
"""Architectures of one generation from which the next descends."""

RIVALS = 20
"""The first trials are each the most promising of so many by their scores."""

FEW_RIVALS = 8
"""Of so many, where scores take long."""

PATIENCE = 15
"""After so many trials without a better one, it also looks elsewhere."""

ELSEWHERE = 3
"""Then one trial in so many is random."""


class Auto:
    """Train what the trials so far make the most promising.

    Args:
        space: what is searched.
        study: all its objectives are optimized; its seed and constraints are used.
        scores: gives training-free scores of an architecture by name, where higher tends to be
            better; None for none. Those named in `described.TRUSTED` guide the first trials of a
            study that maximizes its first objective.
        scored: which architectures are scored: "all" that are thought of, thousands; or, where a
            score takes longer than describing, only those that may be among the "first" trials.
        first: number of random trials at the beginning; with scores they are the most promising
            of random ones.
        listed: a space of at most so many architectures is searched for the highest expected
            improvement as a whole.
        candidates: number of architectures in each of four generations where it is not.
        fidelities: what trials may cost, ascending; None or one: the evaluator's default, or it.
        eta: one in so many is promoted to the next fidelity.
        fidelity: a single fidelity, as other strategies take it.

    Raises:
        InvalidSettings: a number is too small, or the fidelities do not ascend.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        scores: Scores | None = None,
        scored: Literal["all", "first"] = "all",
        first: int = 5,
        listed: int = 20_000,
        candidates: int = 150,
        fidelities: Sequence[int] | None = None,
        eta: int = 3,
        fidelity: int | None = None,
    ) -> None:
        levels: tuple[int | None, ...] = tuple(fidelities) if fidelities else (fidelity,)
        if first < 1 or candidates < 1 or eta < 2 or listed < 0:
            raise InvalidSettings(
                f"first={first}, candidates={candidates}, eta={eta}, listed={listed}: they must "
                "be at least 1, 1, 2 and 0"
            )
        if scored not in ("all", "first"):
            raise InvalidSettings(f"scored={scored!r}: it must be 'all' or 'first'")
        if fidelities and list(fidelities) != sorted(set(fidelities)):
            raise InvalidSettings(f"fidelities {list(fidelities)} must ascend, each once")
        self._space = space
        self._study = study
        self._scores = scores
        self._scored = scored
        self._first = first
        self._listed = listed
        self._candidates = candidates
        self._levels = levels
        self._eta = eta
        self._memory = Memory(space, study.seed)
        self._running: dict[int, Trial] = {}
        self._ended: list[Trial] = []
        self._known: set[str] = set()
        self._settings: tuple[int, list[list[Settings]]] = (-1, [])

    def ask(self) -> Proposal | None:
        """Return a promotion when one is due, else the most promising new architecture."""
        random = self._memory.random()
        if self._measured() < self._first:
            drawn = self._memory.fresh(random, lambda: self._drawn(random))
            return None if drawn is None else Proposal(drawn, self._levels[0])
        described = self._described()
        outlook = self._outlook(described)
        for level in range(len(self._levels) - 1, 0, -1):
            if ready := self._ready(level):
                rows = described.rows(trial.architecture for trial in ready)
                return self._promoted(ready[int(outlook.gains(rows, level).argmax())], level)
        chosen = None
        if not self._elsewhere():
            chosen = self._best_of(described, outlook, random)
        if chosen is None:
            chosen = self._memory.fresh(random, lambda: sample(self._space, random))
        return None if chosen is None else Proposal(chosen, self._levels[0])

    def tell(self, trial: Trial) -> None:
        """Learn of a trial."""
        self._memory.tell(trial)
        self._known.add(canonical(self._space, trial.architecture).fingerprint)
        if trial.state is State.RUNNING:
            self._running[trial.number] = trial
        else:
            self._running.pop(trial.number, None)
            self._ended.append(trial)

    def _described(self) -> Described:
        scores = self._scores if self._scored == "all" else None
        return described(self._space, scores, self._listed)

    def _measured(self) -> int:
        """Trials from which the objectives can be learned."""
        return sum(math.isfinite(self._study.objectives[0].loss(trial)) for trial in self._ended)

    def _drawn(self, random: Random) -> Architecture:
        """A random architecture, the most promising of several by their scores."""
        if self._scores is None or self._study.objectives[0].goal == "min":
            return sample(self._space, random)
        if self._scored == "first":
            drawn = [sample(self._space, random) for _ in range(FEW_RIVALS)]
            return drawn[int(self._places([self._scores(each) for each in drawn]).argmax())]
        drawn = [sample(self._space, random) for _ in range(RIVALS)]
        described = self._described()
        return drawn[int(described.prior(described.rows(drawn)).argmax())]

    def _places(self, scores: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Mean places of trusted scores among one another; least where a limit is broken."""
        total = np.zeros(len(scores))
        for name in TRUSTED:
            values = np.array([each.get(name, math.nan) for each in scores])
            if np.isfinite(values).all():
                total += np.argsort(np.argsort(values, kind="stable"), kind="stable")
        for constraint in self._study.constraints:
            for place, each in enumerate(scores):
                if constraint.metric in each and not constraint.allows(each[constraint.metric]):
                    total[place] = -1.0
        return total

    def _outlook(self, described: Described) -> Outlook:
        """What all trials so far say, with settings that are found anew as trials grow by 10 %."""
        found = _last(len(self._ended))
        if self._settings[0] != found:
            ended = self._by_level(self._ended[:found])
            self._settings = (found, Outlook.settings(described, self._study, ended))
        ended = self._by_level(self._ended)
        running = self._by_level(self._running.values())
        return Outlook(described, self._study, ended, running, self._settings[1])

    def _by_level(self, trials: Iterable[Trial]) -> list[list[Trial]]:
        found: list[list[Trial]] = [[] for _ in self._levels]
        for trial in trials:
            if trial.proposal.fidelity in self._levels:
                found[self._levels.index(trial.proposal.fidelity)].append(trial)
        return found

    def _elsewhere(self) -> bool:
        """Whether the next trial is to be a random one, for nothing has become better lately.

        With several objectives a front has many ends to grow at, and never.
        """
        if len(self._study.objectives) > 1 or len(self._memory) % ELSEWHERE:
            return False
        best, idle = (math.inf, math.inf), 0
        for trial in self._by_level(self._ended)[0]:
            if trial.state is State.REJECTED:
                continue
            idle += 1
            if (found := rank(self._study, trial)) < best:
                best, idle = found, 0
        return idle >= PATIENCE

    def _ready(self, level: int) -> list[Trial]:
        """The trials of the level below among which one is due to be promoted, if any."""
        below = [t for t in self._by_level(self._ended)[level - 1] if t.state is State.DONE]
        here = self._by_level([*self._ended, *self._running.values()])[level]
        taken = {trial.architecture for trial in here}
        due = len(below) // self._eta > len(here)
        return [trial for trial in below if trial.architecture not in taken] if due else []

    def _promoted(self, trial: Trial, level: int) -> Proposal:
        return Proposal(
            trial.architecture, self._levels[level], (trial.number,), continues=trial.number
        )

    def _best_of(
        self, described: Described, outlook: Outlook, random: Random
    ) -> Architecture | None:
        """The new architecture of the highest expected gain, or None when all are known."""
        top = len(self._levels) - 1
        if described.members is not None:
            new = [
                place
                for place, member in enumerate(described.members)
                if member.fingerprint not in self._known
            ]
            if not new:
                return None
            gains = outlook.gains(described.matrix[new], top)
            return described.members[new[int(gains.argmax())]]
        found = self._generation(self._parents(), random)
        gains = outlook.gains(described.rows(found), top)
        for _ in range(ROUNDS - 1):
            order = np.argsort(-gains, kind="stable")
            children = self._generation([found[place] for place in order[:PARENTS]], random)
            both = dict.fromkeys([*(found[place] for place in order[:PARENTS]), *children])
            found = list(both)
            gains = outlook.gains(described.rows(found), top)
        return found[int(gains.argmax())] if found else None

    def _parents(self) -> list[Architecture]:
        """The best architectures measured, best first."""
        order = sorted(self._ended, key=lambda trial: rank(self._study, trial))
        return list(dict.fromkeys(trial.architecture for trial in order[: 2 * PARENTS]))[:PARENTS]

    def _generation(self, parents: Sequence[Architecture], random: Random) -> list[Architecture]:
        """New architectures: children of the parents, and random ones."""
        found: dict[str, Architecture] = {}
        for turn in range(self._candidates):
            child = self._child(parents, turn, random)
            form = canonical(self._space, child).fingerprint
            if form not in self._known:
                found.setdefault(form, child)
        return list(found.values())

    def _child(self, parents: Sequence[Architecture], turn: int, random: Random) -> Architecture:
        if turn % 5 == 0 or not parents:
            return sample(self._space, random)
        child = parents[turn % len(parents)]
        if turn % 5 == 1 and len(parents) > 1:
            child = crossover(self._space, child, random.choice(parents), random)
        for _ in range(random.choice((1, 1, 2, 3))):
            child = mutate(self._space, child, random)
        return child


def _last(count: int) -> int:
    """The last of 1, 2, ..., 19, 20, 22, 24, ... (a tenth more each) that is at most count."""
    step = 1
    while (following := step + max(1, step // 10)) <= count:
        step = following
    return step
