"""The stages that only a search with a supernet has: training it, and seeing how well it ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from parti.core.architecture import Architecture
from parti.core.protocols import Evaluator
from parti.core.study import Budget, Objective
from parti.core.trial import Proposal, State, Trial
from parti.finding.errors import NothingFound
from parti.finding.plan import AGREEMENT_SHARE
from parti.finding.settings import Settings
from parti.finding.supernet_plan import FEWEST_SEEN, SupernetPlan
from parti.recipes.training import reached
from parti.reports.formats import plural
from parti.strategies.listed import Listed

if TYPE_CHECKING:
    from parti.finding.desk import Desk
    from parti.finding.sharing import Sharing

__all__ = ["doubt_of", "judged_by", "measure_agreement", "supernet_in_words", "train_supernet"]

ACCURACY = (Objective("val_accuracy", "max"),)

FEWEST_EPOCHS = 10
"""With fewer epochs it is doubted that inherited accuracies rank. The number is a choice: on
CIFAR-10 they ranked after some 50, and not after 12 or 18 (`docs/decisions/weight-sharing.md`)."""


def train_supernet(desk: Desk, shared: Sharing) -> Trial:
    """Train the supernet, as the one trial of a study of its own.

    Raises:
        NothingFound: it could not be trained; the message says why.
    """
    desk.store.create(desk.main_study)  # so that it can be resumed by name from now on
    seed = desk.settings.seed
    study = desk.study("supernet", budget=Budget(trials=1), seed=seed, constrained=False)
    desk.watcher.stage(f"training the supernet: {supernet_in_words(shared)}")
    if doubt := doubt_of(shared.plan, timed=desk.settings.seconds is not None):
        desk.watcher.say(doubt)
    only = Proposal(Architecture({"supernet": shared.recipe.name}))
    began = time.monotonic()
    training = shared.training()  # which may measure what options cost
    if told := shared.costs_in_words:
        desk.watcher.say(told)
    study = replace(study, objectives=judged_by(desk.settings, training))
    desk.store.create(study)
    desk.store.spend(study.name, time.monotonic() - began)
    (trial,) = desk.run(study, Listed([only]), training)
    if trial.state is not State.DONE:
        raise NothingFound(f"the supernet could not be trained: {trial.error}")
    if missing := reached(shared.recipe, shared.trial_folder).missing:
        epochs = f"{trial.measurements[-1].step} of {plural(shared.plan.epochs, 'epoch')}"
        desk.watcher.say(
            f"{shared.recipe.name} ran out of time after {epochs}, in {missing}; give it a larger "
            "--budget"
        )
    return trial


def doubt_of(plan: SupernetPlan, *, timed: bool = True) -> str | None:
    """Say that a supernet is trained too little to rank networks, if it is.

    Args:
        plan: of its training.
        timed: whether it follows a limit of time.
    """
    seen = plan.epochs * plan.images
    if plan.epochs >= FEWEST_EPOCHS and seen >= FEWEST_SEEN:
        return None
    more = "a larger --budget or more" if timed else "more"
    return (
        f"the supernet will see {seen:,} images in {plural(plan.epochs, 'epoch')}, too few for its "
        f"weights to tell good networks from bad ones; give it {more} --supernet-epochs, or search "
        "without --recipe"
    )


def measure_agreement(desk: Desk, shared: Sharing, trained: Sequence[Trial]) -> list[Trial]:
    """Measure what was trained by itself with the weights of the supernet, too.

    Args:
        desk: what the search works with.
        shared: whose weights are inherited.
        trained: trials of networks that were trained one by one.
    """
    done = [trial.architecture for trial in trained if trial.state is State.DONE]
    if len(done) < 2:
        return []
    seconds = desk.settings.seconds
    budget = Budget(seconds=None if seconds is None else AGREEMENT_SHARE * seconds)
    study = desk.study("agreement", budget=budget, seed=desk.settings.seed, constrained=False)
    desk.watcher.stage(f"measuring {len(done)} networks of random search with inherited weights")
    proposals = [Proposal(architecture) for architecture in dict.fromkeys(done)]
    inherited = shared.inherited()
    study = replace(study, objectives=judged_by(desk.settings, inherited))
    return desk.run(study, Listed(proposals), inherited)


def judged_by(settings: Settings, evaluator: Evaluator) -> tuple[Objective, ...]:
    """The objectives that an evaluator measures; accuracy where it measures none of them."""
    measured = (o for o in settings.study_objectives if o.metric in evaluator.provides)
    return tuple(measured) or ACCURACY


def supernet_in_words(shared: Sharing) -> str:
    """What is shared, how, and for how long, in a line."""
    plan = shared.plan
    sizes = "".join(f", {name} {value}" for name, value in shared.recipe.sizes.items())
    return (
        f"{shared.recipe.name}, {plan.epochs} epoch(s) of {plan.images:,} images in batches of "
        f"{shared.recipe.training.batch_size}{sizes}"
    )
