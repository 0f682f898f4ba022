"""The final training: the best networks of each search, and the fixed one, trained in full.

The best of each search comes first, with the fixed network; others follow as long as there is time,
then further seeds of the winners. A winner that began with weights of another study is trained from
scratch too, which shows what they brought. What was begun before a restart is gone on with in any
case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parti.core.architecture import Architecture
from parti.core.study import Budget, Study
from parti.core.trial import Proposal, State, Trial
from parti.evaluators.wrappers import Routed
from parti.finding.clock import enough, seconds_left
from parti.finding.desk import Desk
from parti.finding.plan import Finals, seconds_for_the_rest
from parti.strategies.listed import Listed

__all__ = [
    "Contender",
    "Trained",
    "collect",
    "in_turn",
    "train_again",
    "train_finalists",
    "train_from_scratch",
]

Trained = dict[Architecture, tuple[Trial, Path]]
"""The trial that trained an architecture, and its folder."""


@dataclass
class Contender:
    """A network that was trained in full: the winner, or a baseline.

    Args:
        name: what to call it: "winner", "random search", "resnet20".
        kind: "search" or "fixed".
        space: builds it.
        architecture: what is built.
        trained: the trials that trained it, one for each seed, with their folders.
        trials: how many trials its search trained; 0 for a fixed network.
    """

    name: str
    kind: str
    space: Any
    architecture: Architecture
    trained: list[tuple[Trial, Path]] = field(default_factory=list)
    trials: int = 0

    @property
    def shipped(self) -> tuple[Trial, Path]:
        """The training with the best validation accuracy."""
        return max(self.trained, key=lambda item: item[0].metrics["val_accuracy"])


def train_finalists(
    desk: Desk,
    candidates: Sequence[Trial],
    rivals: Sequence[Trial],
    fixed: Sequence[Architecture],
    finals: Finals,
) -> Trained:
    """Train finalists of the search and of random search, and the fixed network, with one seed.

    Args:
        desk: what the search works with.
        candidates: of the search, best first.
        rivals: of random search, best first.
        fixed: the fixed network, if there is one.
        finals: for how long.

    Returns:
        At least the best of each, as far as they could be trained.
    """
    needed, others = in_turn(candidates, rivals)
    rounds = [[*needed, *fixed]]
    if desk.settings.seconds is None or desk.settings.finalists is not None:
        rounds[0] += others
    else:
        size = max(2, desk.workers)
        spare = max(0, desk.workers - len(rounds[0]))
        rounds[0] += others[:spare]
        rounds += [others[i : i + size] for i in range(spare, len(others), size)]
    trained, wanted = Trained(), list[Architecture]()
    for jobs in rounds:
        done = [trial for trial, _ in trained.values()]
        found = any(t.architecture in trained and _done(trained, t) for t in candidates)
        known = trained.keys() >= set(jobs)  # from before a restart
        if found and not known and not _time_for(desk, finals, len(jobs), done):
            desk.watcher.say("no time is left for further finalists; going on with the best")
            break
        wanted += jobs
        trained = _train(desk, 0, wanted, fixed, finals)
    return trained


def in_turn(
    candidates: Sequence[Trial], rivals: Sequence[Trial]
) -> tuple[list[Architecture], list[Architecture]]:
    """The best of each search, and the others of both in turn; none twice."""
    longest = max(len(candidates), len(rivals))
    pairs = [[*candidates[i : i + 1], *rivals[i : i + 1]] for i in range(longest)]
    found = dict.fromkeys(trial.architecture for pair in pairs for trial in pair)
    needed = dict.fromkeys(trial.architecture for trial in pairs[0]) if pairs else {}
    return list(needed), [architecture for architecture in found if architecture not in needed]


def train_again(
    desk: Desk, contenders: Sequence[Contender], fixed: Sequence[Architecture], finals: Finals
) -> Finals:
    """Train the contenders with further seeds, as long as there is time for one.

    Args:
        desk: what the search works with.
        contenders: who were trained with the first; are given what is trained.
        fixed: the fixed network, if there is one.
        finals: with how many seeds.

    Returns:
        The same, with as many seeds as there was time for.
    """
    again = list(dict.fromkeys(c.architecture for c in contenders))
    for seed in range(1, finals.seeds):
        first = [contender.trained[0][0] for contender in contenders if contender.trained]
        if not _may_begin(desk, finals, f"final-{seed}", len(again), first):
            desk.watcher.say(f"no time is left for seed {seed + 1} of {finals.seeds}; going on")
            finals = replace(finals, seeds=seed)
            break
        desk.watcher.stage(f"training the winners again, seed {seed + 1} of {finals.seeds}")
        collect(contenders, _train(desk, seed, again, fixed, finals))
    return finals


def train_from_scratch(desk: Desk, winner: Contender, finals: Finals) -> Contender:
    """Train the winner's network without the weights it began with, as often as with them.

    Args:
        desk: what the search works with; it starts from another study.
        winner: what was trained in full.
        finals: for how long.

    Returns:
        A contender, without any training if there was no time for one.
    """
    scratch = Contender("winner from scratch", "fixed", desk.space, winner.architecture)
    first = [trial for trial, _ in winner.trained]
    for seed in range(len(first)):
        part = f"final-scratch-{seed}"
        if not _may_begin(desk, finals, part, 1, first):
            desk.watcher.say("no time is left to train the winner from scratch; going on")
            break
        desk.watcher.stage("baseline: the winner's network from scratch")
        study = _study(desk, part, seed)
        evaluator = desk.evaluator(desk.space, finals.epochs, finals.images, fresh=True)
        trials = desk.run(study, Listed([Proposal(winner.architecture)]), evaluator)
        scratch.trained += [
            (t, desk.trial_folder(study, t)) for t in trials if t.state is State.DONE
        ]
    return scratch


def collect(contenders: Sequence[Contender], trained: Trained) -> None:
    """Give each contender what was trained of it."""
    for contender in contenders:
        trial, folder = trained[contender.architecture]
        if trial.state is State.DONE:
            contender.trained.append((trial, folder))


def _may_begin(desk: Desk, finals: Finals, part: str, jobs: int, trained: Sequence[Trial]) -> bool:
    """Whether there is time for a training, or it has begun, or seeds are asked for."""
    begun = part in desk.parts(part)
    free = desk.settings.seconds is None or desk.settings.seeds is not None
    return begun or free or _time_for(desk, finals, jobs, trained)


def _time_for(desk: Desk, finals: Finals, jobs: int, trained: Sequence[Trial]) -> bool:
    rest = finals.testing + seconds_for_the_rest(desk.settings)
    return enough(seconds_left(desk), jobs, trained, desk.workers, rest=rest)


def _done(trained: Trained, found: Trial) -> bool:
    return trained[found.architecture][0].state is State.DONE


def _train(
    desk: Desk,
    seed: int,
    found: Sequence[Architecture],
    fixed: Sequence[Architecture],
    finals: Finals,
) -> Trained:
    """Train some architectures with one seed, as a study of its own, or go on with it."""
    study = _study(desk, f"final-{seed}", seed)
    routes = dict.fromkeys(found, desk.evaluator(desk.space, finals.epochs, finals.images))
    routes |= dict.fromkeys(fixed, desk.evaluator(desk.fixed, finals.fixed_epochs, finals.images))
    trials = desk.run(study, Listed([Proposal(each) for each in routes]), Routed(routes))
    return {t.architecture: (t, desk.trial_folder(study, t)) for t in trials}


def _study(desk: Desk, part: str, seed: int) -> Study:
    return desk.study(part, budget=Budget(), seed=desk.settings.seed + seed, constrained=False)
