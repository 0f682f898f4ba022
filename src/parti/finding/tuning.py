"""Another network from a supernet that was trained before: searched, and tuned briefly."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parti.core.errors import InvalidSettings
from parti.core.study import Budget
from parti.core.trial import Proposal, State, Trial
from parti.evaluators.recipe import Recipe, default_recipe
from parti.evaluators.training import Training
from parti.finding.errors import NothingFound
from parti.finding.files import read_json, write_json
from parti.finding.openings import count_openings
from parti.finding.plan import FINALISTS, Finals, part_of_an_epoch, seconds_for_the_rest
from parti.finding.ranking import best_first, loss_when_trained
from parti.finding.sharing import Extracted, Sharing
from parti.finding.stages import Contender, Searched, epoch_seconds, epochs_of_testing, search_stage
from parti.reports.formats import plural
from parti.strategies.listed import Listed

if TYPE_CHECKING:
    from parti.finding.desk import Desk

__all__ = ["run_specialized"]

TUNED_IMAGES, MOST_TUNED_EPOCHS = 20_000, 10
"""A network is tuned on so many images, in whole epochs, and not in more epochs than these."""

TUNED_LR = 0.1
"""Share of the usual learning rate at which inherited weights are tuned."""

PART = "final-tuned"


def run_specialized(desk: Desk) -> Searched:
    """Search with the weights of another study's supernet, and tune the best networks.

    Raises:
        InvalidSettings: networks cannot be taken out of this supernet.
        InvalidStudy: the constraints cannot be met.
        NothingFound: no network keeps to the limits, or none could be tuned.
    """
    shared = desk.shared
    assert shared is not None  # Settings see to it
    if not shared.extractable:
        name = repr(shared.recipe.name)
        why = (
            f"was relaxed by recipe {name} for gradients"
            if shared.recipe.derives
            else f"is, by recipe {name}, the search network of DARTS, with norms of its own"
        )
        raise InvalidSettings(
            f"the supernet of {desk.settings.supernet_of!r} {why}, so that no plain network can be "
            "taken out of it; search with single-path, fairnas, once-for-all or bignas"
        )
    study, trials = search_stage(desk)
    ranked = best_first(study, trials)
    plan = _plan_tuning(desk, ranked)
    finalists = ranked[: plan.finalists]
    part = "" if plan.images is None else f" of {plan.images:,} images"
    networks = plural(len(finalists), "network")
    desk.watcher.stage(f"tuning {networks} for {plural(plan.epochs, 'epoch')}{part}")
    tuned = _tune(desk, shared, finalists, plan)
    if not tuned:
        raise NothingFound("none of the best networks could be tuned")
    winner = Contender("winner", "search", desk.space, tuned[0][0].architecture)
    winner.trained = [(tuned[0][1], tuned[0][2])]
    winner.trials = sum(trial.state is not State.REJECTED for trial in trials)
    return Searched(
        study=study,
        trials=trials,
        random_trials=[],
        finals=plan,
        recipe=_tuning_recipe(desk, plan),
        finalists=[(found, trial) for found, trial, _ in tuned],
        winner=winner,
        baselines=[],
        openings=1 + count_openings(desk.store, desk.name, desk.folder.parent),
    )


def _tuning_recipe(desk: Desk, plan: Finals) -> Recipe:
    """How inherited weights are tuned: as ever, at a lower learning rate."""
    recipe = default_recipe(desk.part(plan.images), plan.epochs)
    return replace(recipe, lr=TUNED_LR * recipe.lr)


def _plan_tuning(desk: Desk, ranked: list[Trial]) -> Finals:
    """How many networks are tuned for how long; a plan that was made before is kept."""
    file = desk.folder / "finals.json"
    if (kept := read_json(file)) is not None:
        return Finals(**kept)
    settings = desk.settings
    usual = max(1, min(MOST_TUNED_EPOCHS, round(TUNED_IMAGES / len(desk.seen.train_labels))))
    epochs, finalists = settings.final_epochs or usual, settings.finalists or FINALISTS
    part = None
    if settings.seconds is not None and settings.final_epochs is None:
        left = settings.seconds - desk.spent("") - seconds_for_the_rest(desk.settings)
        each = epoch_seconds(desk, ranked)
        left -= epochs_of_testing(desk) * each[0]
        while finalists > 1 and left < epochs * sum(each[:finalists]):
            finalists -= 1
        affordable = left / sum(each[:finalists])
        epochs = max(1, min(epochs, int(affordable)))
        if affordable < 1:
            part = part_of_an_epoch(len(desk.seen.train_labels), affordable)
    plan = Finals(finalists, 1, epochs, 0, part)
    write_json(file, asdict(plan))
    return plan


def _tune(
    desk: Desk, shared: Sharing, finalists: list[Trial], plan: Finals
) -> list[tuple[Trial, Trial, Path]]:
    """Train the finalists from their inherited weights: (found, tuned, folder), best first."""
    study = desk.study(PART, budget=Budget(), seed=desk.settings.seed, constrained=False)
    training = Training(
        Extracted(shared.load),
        desk.part(plan.images),
        _tuning_recipe(desk, plan),
        device=desk.settings.device,
        threads=desk.threads,
    )
    proposals = [Proposal(trial.architecture) for trial in finalists]
    trials = desk.run(study, Listed(proposals), desk.staged(desk.space, training))
    by_architecture = {trial.architecture: trial for trial in finalists}
    done = [
        (by_architecture[trial.architecture], trial, desk.trial_folder(study, trial))
        for trial in trials
        if trial.state is State.DONE
    ]
    return sorted(done, key=lambda item: loss_when_trained(desk.main_study, item[1]))
