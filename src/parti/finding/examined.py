"""The winner looked at further: how robust it is, what theory says, which proxies saw it coming.

None of it decides anything, and none of it may cost much: a share of the search's budget, which is
kept free for it, and where that is too little, a part is left out and the report shows nothing of
it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parti.core.trial import Job, State, Trial
from parti.evaluators.robustness.label_noise import label_noise
from parti.evaluators.robustness.measured import affordable, robustness
from parti.evaluators.theory.facts import theory
from parti.evaluators.trained import load_trained
from parti.evaluators.training_free import TrainingFree, drawn
from parti.finding.plan import seconds_for_a_look
from parti.proxies.trust import ENOUGH, trust

if TYPE_CHECKING:
    from parti.core.architecture import Architecture
    from parti.finding.desk import Desk
    from parti.finding.stages import Searched
    from parti.tasks.values import TestData

__all__ = ["examined"]

WRONG_LABELS = (0.2, 0.4)
"""Shares of wrong labels; the second is left out where time is short."""
MACS_A_SECOND = 1e10
"""What a CPU core does, roughly."""
LARGEST_BATCH, SMALLEST_BATCH = 64, 16
PASSES = 120
"""Passes through a network, counting one backward as two, in which theory looks at a batch."""
PROXY_PASSES = 10
"""The same for all of `PROXIES` together."""
PROXIES = ("params", "macs", "naswot", "jacov", "synflow", "grad_norm", "snip", "zico")
"""Those that are compared with training: cheap ones, of all kinds."""
MOST_RANKED = 40
"""Candidates on which proxies are compared."""


def examined(
    desk: Desk, searched: Searched, winner: Mapping[str, Any], test: TestData
) -> dict[str, Any]:
    """Return `robustness`, `label_noise`, `theory` and `proxies` of a result; `docs/result.md`.

    A search of hours is never lost to one of them: where it fails, the error stands in its place.

    Args:
        desk: what the search worked with.
        searched: what its stages left.
        winner: its entry of the result so far.
        test: on which robustness is measured, after every decision has been made.
    """
    seconds = seconds_for_a_look(desk.settings)

    def network() -> Any:
        _, folder = searched.winner.shipped
        return load_trained(searched.winner.space, searched.winner.architecture, folder)

    def robust() -> Any:
        plan = affordable(winner["macs"], most=seconds * MACS_A_SECOND)
        if plan is None:
            return None
        found = robustness(
            network(),
            desk.seen,
            plan,
            test=test,
            device=desk.settings.device,
            threads=desk.threads,
        )
        return found.to_dict()

    def structure() -> Any:
        images = int(seconds * MACS_A_SECOND / (PASSES * max(1, winner["macs"])))
        if images < SMALLEST_BATCH:
            return None
        batch = drawn(desk.seen, min(images, LARGEST_BATCH), desk.settings.seed)
        return theory(network(), *batch, seed=desk.settings.seed, seconds=seconds).to_dict()

    parts = {
        "robustness": robust,
        "label_noise": lambda: mislabelled(
            desk, searched.trials, searched.winner.architecture, seconds
        ),
        "theory": structure,
        "proxies": lambda: trusted(desk, searched.trials, seconds, winner["macs"]),
    }
    return {name: _kept(desk, name, part) for name, part in parts.items()}


def mislabelled(
    desk: Desk, trials: Sequence[Trial], architecture: Architecture, seconds: float
) -> dict[str, Any] | None:
    """What wrong labels do to an architecture that is trained as it was in the search.

    Args:
        desk: what the search worked with.
        trials: of the search.
        architecture: one of theirs.
        seconds: that all its trainings may take.

    Returns:
        A `LabelNoise`; None where there is no time for two trainings, or trials were not trained.
    """
    took = [t.seconds for t in trials if t.architecture == architecture and t.state is State.DONE]
    trainings = 0 if desk.inherits or not took else int(seconds / max(took))
    shares = WRONG_LABELS[: max(0, trainings - 1)]
    if not shares:
        return None
    data, epochs = desk.part(desk.plan.images), desk.plan.epochs
    found = label_noise(
        desk.initialized or desk.space,
        architecture,
        data,
        desk.recipe(data, epochs),
        shares=shares,
        epochs=epochs,
        seed=desk.settings.seed,
        device=desk.settings.device,
        threads=desk.threads,
    )
    return found.to_dict()


def trusted(desk: Desk, trials: list[Trial], seconds: float, macs: float) -> dict[str, Any] | None:
    """How well proxies rank the candidates that the search has trained.

    Args:
        desk: what the search worked with.
        trials: of the search.
        seconds: after which no further candidate is scored.
        macs: of a typical candidate, for one image.

    Returns:
        `how`, and for each proxy a `Trust`, most trusted first; None where fewer than 8 candidates
        were trained, or can be scored in that time.
    """
    accuracies = {
        trial.architecture: trial.metrics["val_accuracy"]
        for trial in trials
        if trial.state is State.DONE and "val_accuracy" in trial.metrics
    }
    in_time = int(seconds * MACS_A_SECOND / (ENOUGH * PROXY_PASSES * max(1.0, macs)))
    # With as many images as an image has values, the Jacobian says nothing.
    tells = math.prod(desk.seen.input_shape) // 2
    batch = min(LARGEST_BATCH, len(desk.seen.train_labels), in_time, tells)
    if len(accuracies) < ENOUGH or batch < SMALLEST_BATCH:
        return None
    evaluator = TrainingFree(
        desk.space,
        desk.seen,
        PROXIES,
        batch=batch,
        seed=desk.settings.seed,
        device=desk.settings.device,
        threads=desk.threads,
    )
    began, scored, known = time.perf_counter(), [], []
    for architecture, accuracy in list(accuracies.items())[:MOST_RANKED]:
        (measured,) = evaluator(Job(architecture))
        scored.append(measured.metrics)
        known.append(accuracy)
        if time.perf_counter() - began > seconds:
            break
    if len(known) < ENOUGH:
        return None
    found = [
        trust(name, [scores.get(name, float("nan")) for scores in scored], known, goal=goal)
        for name, goal in evaluator.goals.items()
    ]
    found.sort(key=lambda one: one.low if one.low == one.low else -2.0, reverse=True)
    measured_by = "weights of the supernet" if desk.inherits else "the search's short training"
    return {
        "how": f"{len(known)} candidates; accuracy on validation images by {measured_by}, scores "
        f"of fresh weights on one batch of {batch} training images",
        "found": [_finite(asdict(one)) for one in found],
    }


def _kept(desk: Desk, name: str, part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:  # noqa: BLE001
        desk.watcher.say(f"no {name}: {type(error).__name__}: {error}")
        return {"error": f"{type(error).__name__}: {error}"}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in values.items()}
