"""Strategies around strategies: nothing twice, the best by a cheap score, what is known before.

Each takes any strategy and is one itself: a fold over trials, as long as the inner one is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from parti.core.architecture import Architecture
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical, mutate, sample, validate
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["Distinct", "Screened", "WarmStarted"]


class Distinct:
    """Keep a strategy from measuring an architecture twice at one fidelity.

    A repetition is asked for again, which helps where the inner strategy draws anew each time; if
    it insists, the nearest new thing is proposed, a mutant of what it wanted, and it learns of that
    instead. When nothing is new, the search ends.

    Args:
        strategy: what proposes; it is told every trial.
        space: what is searched; isomorphic architectures count as one.
        study: its seed is used.
        tries: how often to ask.

    Raises:
        InvalidSettings: tries is less than 1.
    """

    def __init__(self, strategy: Strategy, space: Space, study: Study, *, tries: int = 10) -> None:
        if tries < 1:
            raise InvalidSettings(f"{tries} tries: the strategy must be asked at least once")
        self._strategy = strategy
        self._space = space
        self._tries = tries
        self._memory = Memory(space, study.seed)
        self._measured: set[tuple[Architecture, int | None]] = set()

    def ask(self) -> Proposal | None:
        """Return what the inner strategy proposes, or a mutant of it that is new."""
        proposal = self._strategy.ask()
        for _ in range(self._tries - 1):
            if proposal is None or self._key(proposal) not in self._measured:
                return proposal
            again = self._strategy.ask()
            if again == proposal:
                break
            proposal = again
        if proposal is None or self._key(proposal) not in self._measured:
            return proposal
        random, wanted = self._memory.random(), proposal.architecture
        drawn = self._memory.fresh(random, lambda: mutate(self._space, wanted, random))
        return Proposal(drawn, proposal.fidelity, proposal.parents) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Remember it, and tell the inner strategy."""
        self._memory.tell(trial)
        self._measured.add(self._key(trial.proposal))
        self._strategy.tell(trial)

    def _key(self, proposal: Proposal) -> tuple[Architecture, int | None]:
        return canonical(self._space, proposal.architecture), proposal.fidelity


class Screened:
    """Propose the best of several candidates by a score that costs little.

    Abdelfattah, Mehrotra, Dudziak, Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021,
    section 4, for any strategy. *Warm-up*: the search begins with the best of a random pool.
    *Moves*: with what the inner strategy proposes compete others like it. The inner strategy is
    told of what was measured, whoever proposed it. Promotions pass as they are.

    Args:
        strategy: what proposes.
        space: what is searched.
        study: its seed is used.
        score: the higher, the better; NaN is worst. Each architecture is scored once.
        candidates: how many compete for each proposal, the inner strategy's own among them; 1 for
            a warm-up alone.
        alternatives: what competes: "mutants" of the proposal's first parent, or of itself when it
            has none; or "samples" of the whole space.
        pool: how many are drawn for the warm-up.
        keep: how many of the pool the search begins with; 0 for no warm-up.

    Raises:
        InvalidSettings: candidates is less than 1, the pool holds fewer than are kept of it, or
            the alternatives are of no known kind.
    """

    def __init__(
        self,
        strategy: Strategy,
        space: Space,
        study: Study,
        score: Callable[[Architecture], float],
        *,
        candidates: int = 10,
        alternatives: Literal["mutants", "samples"] = "mutants",
        pool: int = 0,
        keep: int = 0,
    ) -> None:
        if candidates < 1 or not 0 <= keep <= pool:
            raise InvalidSettings(
                f"{candidates} candidates, {keep} kept of a pool of {pool}: there must be at least "
                "1 candidate, and a pool no smaller than what is kept of it"
            )
        if alternatives not in ("mutants", "samples"):
            raise InvalidSettings(f"alternatives {alternatives!r}: choose 'mutants' or 'samples'")
        self._strategy = strategy
        self._space = space
        self._seed = study.seed
        self._score = score
        self._candidates = candidates
        self._alternatives = alternatives
        self._pool = pool
        self._keep = keep
        self._memory = Memory(space, study.seed)
        self._begun: dict[int, Architecture] = {}
        self._scores: dict[Architecture, float] = {}
        self._warm: list[Architecture] | None = None

    def ask(self) -> Proposal | None:
        """Return the best of the pool at first, then of what competes with a proposal."""
        proposal = self._strategy.ask()
        if proposal is None or proposal.continues is not None:
            return proposal
        if len(self._begun) < self._keep:
            if self._warm is None:
                self._warm = self._warm_up()
            for architecture in self._warm:
                if architecture not in self._memory:
                    return Proposal(architecture, proposal.fidelity)
        random, drawn = self._memory.random(), [proposal.architecture]
        drawn += [self._alternative(proposal, random) for _ in range(self._candidates - 1)]
        new = [architecture for architecture in drawn if architecture not in self._memory]
        best = (
            max(new, key=self._scored)
            if new
            else self._memory.fresh(random, lambda: self._alternative(proposal, random))
        )
        return replace(proposal, architecture=best) if best is not None else None

    def tell(self, trial: Trial) -> None:
        """Remember it, and tell the inner strategy."""
        self._memory.tell(trial)
        if trial.proposal.continues is None:
            self._begun[trial.number] = trial.architecture
        self._strategy.tell(trial)

    def _warm_up(self) -> list[Architecture]:
        random = Random(f"{self._seed}/warm-up")
        drawn = [sample(self._space, random) for _ in range(self._pool)]
        return sorted(drawn, key=self._scored, reverse=True)

    def _alternative(self, proposal: Proposal, random: Random) -> Architecture:
        if self._alternatives == "samples":
            return sample(self._space, random)
        parent = self._begun.get(proposal.parents[0]) if proposal.parents else None
        return mutate(self._space, parent or proposal.architecture, random)

    def _scored(self, architecture: Architecture) -> float:
        if architecture not in self._scores:
            score = self._score(architecture)
            self._scores[architecture] = -math.inf if math.isnan(score) else score
        return self._scores[architecture]


class WarmStarted:
    """Begin with what another study of the same space has found.

    Args:
        strategy: what proposes; it must be new.
        space: what is searched; trials whose architectures do not belong to it are left out.
        study: what is asked now.
        trials: those of the other study.
        mode: "tell": the inner strategy learns of the trials as if they were of this study, and
            does not measure them again; they must have been measured in the same way. "propose":
            the best of them are measured first, now.
        best: how many are measured first, in mode "propose".
        fidelity: how much to spend on these, None for the evaluator's default.
        source: what the other study asked, where it was not the same: it says which trials were
            the best, in mode "propose".

    Raises:
        InvalidSettings: no trial is of use, the mode is unknown, or best is less than 1.
    """

    def __init__(
        self,
        strategy: Strategy,
        space: Space,
        study: Study,
        trials: Iterable[Trial],
        *,
        mode: Literal["tell", "propose"] = "tell",
        best: int = 10,
        fidelity: int | None = None,
        source: Study | None = None,
    ) -> None:
        if mode not in ("tell", "propose"):
            raise InvalidSettings(f"mode {mode!r}: choose 'tell' or 'propose'")
        if best < 1:
            raise InvalidSettings(f"the best {best} trials: there must be at least 1")
        self._strategy = strategy
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._first: list[Architecture] = []
        self._old: dict[Architecture, list[Trial]] = {}
        self._shift = 0
        asked = source or study if mode == "propose" else study
        known = _of_use(space, asked, trials)
        if mode == "propose":
            self._first = _best(space, asked, known)[:best]
        else:
            self._shift = len(known)
            for trial in _renumbered(known):
                self._old.setdefault(trial.architecture, []).append(trial)
                strategy.tell(trial)

    def ask(self) -> Proposal | None:
        """Return what is to be measured first, then what the inner strategy proposes."""
        for architecture in self._first:
            if architecture not in self._memory:
                return Proposal(architecture, self._fidelity)
        proposal = self._strategy.ask()
        return _moved(proposal, -self._shift) if proposal is not None else None

    def tell(self, trial: Trial) -> None:
        """Tell the inner strategy, to which this study's trials follow the other's."""
        self._memory.tell(trial)
        proposal = _moved(trial.proposal, self._shift)
        if proposal.continues is None and proposal.fidelity is not None:
            # Promoting a trial of the other study: this one has no checkpoint to go on from.
            below = [
                old
                for old in self._old.get(trial.architecture, ())
                if (old.proposal.fidelity or math.inf) < proposal.fidelity
            ]
            if below:
                last = max(below, key=lambda old: old.proposal.fidelity or 0)
                proposal = replace(proposal, continues=last.number)
        self._strategy.tell(replace(trial, number=trial.number + self._shift, proposal=proposal))


def _of_use(space: Space, study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that ended, whose architectures are members, with what the study asks for."""
    given = list(trials)
    known = [
        trial
        for trial in given
        if trial.state is not State.RUNNING
        and _is_member(space, trial.architecture)
        and (
            trial.state is not State.DONE
            or not any(math.isnan(trial.metric(o.metric)) for o in study.objectives)
        )
    ]
    if not any(trial.state is State.DONE for trial in known):
        metrics = [objective.metric for objective in study.objectives]
        raise InvalidSettings(
            f"none of the {len(given)} trials to start from is done, belongs to {space!r} and "
            f"measured {metrics}; give trials of the same space, and their study as `source` "
            "where it asked for something else"
        )
    return known


def _best(space: Space, study: Study, trials: Sequence[Trial]) -> list[Architecture]:
    """Architectures of the trials that are done at the highest fidelity, best first."""
    done = [trial for trial in trials if trial.state is State.DONE]
    highest = max(trial.proposal.fidelity or 0 for trial in done)
    full = [trial for trial in done if (trial.proposal.fidelity or 0) == highest]
    full.sort(key=lambda trial: (rank(study, trial), trial.number))
    found: dict[Architecture, Architecture] = {}
    for trial in full:
        found.setdefault(canonical(space, trial.architecture), trial.architecture)
    return list(found.values())


def _renumbered(trials: Sequence[Trial]) -> list[Trial]:
    """The same trials in the same order, numbered from 0; what refers to them follows."""
    numbers = {trial.number: place for place, trial in enumerate(trials)}
    made = []
    for place, trial in enumerate(trials):
        old = trial.proposal
        proposal = replace(
            old,
            parents=tuple(numbers[number] for number in old.parents if number in numbers),
            continues=None if old.continues is None else numbers.get(old.continues),
        )
        made.append(replace(trial, number=place, proposal=proposal))
    return made


def _moved(proposal: Proposal, by: int) -> Proposal:
    """The proposal with other trials' numbers moved; those that fall below 0 are dropped."""
    continues = None if proposal.continues is None else proposal.continues + by
    return replace(
        proposal,
        parents=tuple(number + by for number in proposal.parents if number + by >= 0),
        continues=continues if continues is not None and continues >= 0 else None,
    )


def _is_member(space: Space, architecture: Architecture) -> bool:
    try:
        validate(space, architecture)
    except InvalidArchitecture:
        return False
    return True
