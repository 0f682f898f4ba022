"""The stages of a search, each of which goes on where it was.

A supernet, if there is one; search; baseline; final training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from parti.core.architecture import Architecture
from parti.core.study import Budget, Study
from parti.core.trial import State, Trial
from parti.core.walks import sample
from parti.evaluators.complexity import complexity
from parti.evaluators.recipe import Recipe
from parti.evaluators.robustness.search import METRICS
from parti.evaluators.wrappers import Remembered
from parti.finding.clock import rival_seconds, seconds_left, took
from parti.finding.desk import Desk
from parti.finding.errors import NothingFound
from parti.finding.full_training import (
    Contender,
    Trained,
    collect,
    train_again,
    train_finalists,
    train_from_scratch,
)
from parti.finding.plan import FINALISTS, Finals, plan_finals, seconds_per_image
from parti.finding.ranking import best_first, loss_when_trained
from parti.finding.strategy import make_strategy, strategy_name
from parti.finding.supernet_stages import measure_agreement, train_supernet
from parti.reports.formats import plural
from parti.strategies.random_search import RandomSearch
from parti.tasks.values import SearchData

__all__ = [
    "Contender",
    "Searched",
    "epoch_seconds",
    "epochs_of_testing",
    "in_words",
    "run_stages",
    "search_stage",
]


@dataclass
class Searched:
    """What the stages leave for the test and the report."""

    study: Study
    trials: list[Trial]
    random_trials: list[Trial]
    finals: Finals
    recipe: Recipe
    """How the finalists were trained."""
    finalists: list[tuple[Trial, Trial]]
    """Each finalist's trial in the search, and its training in full, best first."""
    winner: Contender
    baselines: list[Contender]
    agreement: list[Trial] = field(default_factory=list)
    """What random search has trained, measured again with the weights of the supernet."""
    openings: int = 1
    """How often the test split has been opened, this time included."""


def run_stages(desk: Desk) -> Searched:
    """Train a supernet if there is to be one, search, search at random, train finalists in full.

    Raises:
        InvalidStudy: the constraints cannot be met.
        NothingFound: no supernet, trial or finalist could be trained; the message says why.
    """
    if desk.shared is not None:
        train_supernet(desk, desk.shared)
    study, trials = search_stage(desk)
    random_trials = _random_search(desk, _trained_count(trials))
    agreement = measure_agreement(desk, desk.shared, random_trials) if desk.shared else []
    finals = _plan_finals(desk, study, trials, random_trials)
    candidates = best_first(study, trials)[: finals.finalists]
    rivals = best_first(study, random_trials)[: finals.finalists]
    desk.watcher.stage(in_words(len(candidates), len(rivals), finals.epochs, finals.images))
    fixed = [_only_member(desk.fixed)] if desk.settings.baselines else []
    trained = train_finalists(desk, candidates, rivals, fixed, finals)
    ranked = _ranked(study, trained, candidates)
    if not ranked:
        reasons = "; ".join(sorted({t.error or "no result" for t, _ in trained.values()}))
        raise NothingFound(f"none of {len(candidates)} finalists could be trained: {reasons}")
    winner = Contender("winner", "search", desk.space, ranked[0].architecture, [])
    winner.trials = _trained_count(trials)
    contenders = [winner]
    if best_rivals := _ranked(study, trained, rivals):
        best, n = best_rivals[0].architecture, _trained_count(random_trials)
        contenders.append(Contender("random search", "search", desk.space, best, [], n))
    for architecture in fixed:
        name = str(architecture["network"])
        contenders.append(Contender(name, "fixed", desk.fixed, architecture, []))
    collect(contenders, trained)
    finals = train_again(desk, contenders, fixed, finals)
    if desk.source is not None and desk.settings.baselines and winner.trained:
        scratch = train_from_scratch(desk, winner, finals)
        contenders += [scratch] if scratch.trained else []
    for contender in contenders:
        if not contender.trained:
            raise NothingFound(
                f"the baseline {contender.name} could not be trained: "
                f"{trained[contender.architecture][0].error}"
            )
    return Searched(
        study=study,
        trials=trials,
        random_trials=random_trials,
        finals=finals,
        recipe=desk.recipe(desk.part(finals.images), finals.epochs),
        finalists=[(trial, trained[trial.architecture][0]) for trial in ranked],
        winner=winner,
        baselines=contenders[1:],
        agreement=agreement,
    )


def search_stage(desk: Desk) -> tuple[Study, list[Trial]]:
    """Search, by the strategy and the evaluator that were asked for.

    Raises:
        NothingFound: nothing usable was found.
    """
    study = desk.main_study
    how = " with inherited weights" if desk.inherits else ""
    if desk.shared is not None and desk.derives:
        desk.watcher.stage(f"comparing the {desk.shared.derived} strongest architectures{how}")
    elif desk.settings.keep_architecture:
        desk.watcher.stage(f"trying the network of {desk.settings.init}")
    else:
        desk.watcher.stage(f"searching with {strategy_name(desk)}{how}")
    found = desk.run(study, make_strategy(desk, study), desk.search_evaluator())
    if not any(study.feasible(trial) for trial in found):
        reasons = sorted({t.error for t in found if t.error}) or ["there was no time for a trial"]
        raise NothingFound(f"no trial of {len(found)} gave a usable network: {reasons[0]}")
    return study, found


def _random_search(desk: Desk, trials: int) -> list[Trial]:
    """Search at random at the same cost; what the search has trained is not trained again.

    The cost is counted in trials; where a supernet was trained, in seconds, as far as those that
    are left allow.
    """
    if not desk.settings.rival:
        return []
    plan = desk.plan
    budget = Budget(trials, plan.baseline_seconds)
    if desk.shared is not None:
        left = seconds_left(desk, "random", "agreement", *desk.parts("final-"))
        cost = desk.spent("supernet", "")
        budget = Budget(seconds=rival_seconds(desk.settings, cost, left))
    study = desk.study("random", budget=budget, seed=desk.settings.seed)
    evaluator = desk.evaluator(desk.space, plan.epochs, plan.images)
    if not desk.inherits:
        known, _ = desk.store.trials(desk.name)
        evaluator = Remembered(evaluator, known)
    desk.watcher.stage("baseline: random search")
    return desk.run(study, RandomSearch(desk.space, study), evaluator)


def _plan_finals(
    desk: Desk, study: Study, trials: Sequence[Trial], random_trials: Sequence[Trial]
) -> Finals:
    ranked = best_first(study, trials if desk.inherits else [*trials, *random_trials])
    left, each, fixed = seconds_left(desk, *desk.parts("final-")), list[float](), 0.0
    once = 0.0
    if left is not None:
        once = robustness_seconds(desk, ranked[0])
        each = epoch_seconds(desk, ranked)
        if desk.settings.baselines:
            network = desk.fixed.build(_only_member(desk.fixed))
            macs = complexity(network, desk.seen.input_shape).macs
            fixed = each[0] * macs / max(1.0, ranked[0].metrics["macs"])
    images = len(desk.seen.train_labels)
    file = desk.folder / "finals.json"
    tested = epochs_of_testing(desk)
    return plan_finals(desk.settings, images, left, each, fixed, desk.workers, file, once, tested)


def epoch_seconds(desk: Desk, ranked: Sequence[Trial]) -> list[float]:
    """How long an epoch of all images takes now for the best of the trials.

    Args:
        desk: what the search works with.
        ranked: trials, best first; what they took tells, unless their weights were inherited. If
            the best is slower now than it was then, all are taken to be.
    """
    recipe = desk.recipe(desk.seen, 1)

    def now(trial: Trial) -> float:
        network = desk.space.build(trial.architecture)
        return _work(desk.seen) * seconds_per_image(network, desk.seen, recipe, desk.threads)

    if desk.inherits:
        return [now(trial) for trial in ranked[:FINALISTS]]
    scale = _work(desk.seen) / _work(desk.part(desk.plan.images)) / desk.plan.epochs
    then = [took(trial, desk.settings).training * scale for trial in ranked[:10]]
    slower = max(1.0, now(ranked[0]) / then[0])
    return [slower * seconds for seconds in then]


def epochs_of_testing(desk: Desk) -> float:
    """How long it takes to test a network, in epochs of it: validation images are looked at too."""
    return (len(desk.seen.val_labels) + len(desk.splits.test)) / 3 / _work(desk.seen)


def _work(data: SearchData) -> float:
    """An epoch in images that are trained on: validating one is a third of that."""
    return len(data.train_labels) + len(data.val_labels) / 3


def robustness_seconds(desk: Desk, trial: Trial) -> float:
    """How long what was asked of robustness takes, beyond training: what it took in a trial."""
    if not METRICS & desk.settings.metrics:
        return 0.0
    return trial.seconds if desk.inherits else took(trial, desk.settings).once


def _ranked(study: Study, trained: Trained, searched: Sequence[Trial]) -> list[Trial]:
    """Searched trials that were trained in full, best first."""
    tried = [t for t in searched if t.architecture in trained]
    found = [t for t in tried if trained[t.architecture][0].state is State.DONE]
    return sorted(found, key=lambda t: loss_when_trained(study, trained[t.architecture][0]))


def in_words(candidates: int, rivals: int, epochs: int, images: int | None = None) -> str:
    """Say what the final training will do.

    Args:
        candidates: finalists of the search.
        rivals: of random search.
        epochs: of each.
        images: of an epoch; None for all.
    """
    finalists = plural(candidates, "finalist")
    if rivals:
        more = "" if rivals == candidates else f" and {rivals} of random search"
        finalists += more or " of each search"
    part = "" if images is None else f" of {images:,} images"
    return f"training {finalists} for {plural(epochs, 'epoch')}{part}"


def _trained_count(trials: Iterable[Trial]) -> int:
    """Rejected trials were not trained and cost no budget."""
    return sum(trial.state is not State.REJECTED for trial in trials)


def _only_member(space: Any) -> Architecture:
    return sample(space, Random(0))
