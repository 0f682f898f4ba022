"""What is written down about the supernet of a search, as JSON values."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.architecture import Architecture
from parti.core.choice import labels
from parti.core.errors import TrialError
from parti.core.protocols import Store
from parti.core.study import Objective, Study
from parti.core.trial import Measurement, State, Trial
from parti.evaluators.checkpoint import load_checkpoint
from parti.finding.files import read_json
from parti.finding.sharing import recipe_of
from parti.recipes import RECIPES
from parti.recipes.agreement import rank_correlation
from parti.recipes.training import reached

if TYPE_CHECKING:
    from parti.finding.desk import Desk
    from parti.finding.stages import Searched
    from parti.supernets.share import Supernet

__all__ = ["described_supernet", "supernet_so_far", "written"]

TEXTS = ("to_genotype", "to_string")
"""Functions beside parti's spaces that write architectures in the text form of the field."""


def written(space: Any, architecture: Architecture) -> str | None:
    """An architecture as DARTS' genotype or a like text, where its space knows one."""
    place = str(getattr(getattr(space, "function", None), "__module__", ""))
    module = sys.modules.get(place) if place.startswith("parti.spaces.") else None
    makers = (getattr(module, name, None) for name in TEXTS)
    return next((str(make(architecture)) for make in makers if make is not None), None)


def described_supernet(desk: Desk, searched: Searched) -> dict[str, Any] | None:
    """Everything about the supernet: what was shared, how it was trained, how well it ranks."""
    shared = desk.shared
    if shared is None:
        return None
    recipe, plan = shared.recipe, shared.plan
    kept = load_checkpoint(shared.trial_folder)
    supernet = shared.load()
    alone = [(found, full) for found, full in searched.finalists if desk.inherits]
    twice = _twice(searched.random_trials, searched.agreement)
    owner = desk.settings.supernet_of or desk.name
    judge = desk.store.study(f"{owner}/supernet").objectives[0]
    return {
        "recipe": recipe.name,
        "paper": recipe.paper,
        "inherits": shared.inherits,
        "study": owner,
        "space": repr(desk.space),
        "choices": len(supernet.choices),
        "params": sum(parameter.numel() for parameter in supernet.parameters()),
        "epochs": kept.measurements[-1].step,
        "planned_epochs": plan.epochs,
        "missing": reached(recipe, shared.trial_folder).missing or None,
        "images": plan.images,
        "held": recipe.held,
        "training": {
            name: getattr(recipe.training, name) for name in recipe.training.__dataclass_fields__
        },
        "seconds": kept.measurements[-1].seconds,
        "curves": _curves(kept.measurements),
        "trajectories": _trajectories(supernet, kept.training["step"].get("trajectory", {})),
        "derived": _derived(desk, searched.trials) if recipe.derives else None,
        "agreement": [
            row
            for row in (
                _agreement("finalists, trained in full", alone, judge),
                _agreement("networks of random search, trained briefly", twice, judge),
            )
            if row
        ],
    }


def supernet_so_far(store: Store, study: Study, folder: Path) -> dict[str, Any] | None:
    """What can be said of the supernet of a search that is not finished; None if there is none.

    Args:
        store: keeps the search.
        study: the search itself.
        folder: of the study.
    """
    name, plan = f"{study.name}/supernet", read_json(folder / "supernet.json")
    if plan is None or name not in store.studies():
        return None
    trials, _ = store.trials(name)
    measurements = trials[0].measurements if trials else ()
    recipe = str(study.settings.get("recipe"))
    identity: Mapping[str, Any] = {}
    with suppress(TrialError):
        identity = load_checkpoint(folder / "supernet" / "trials" / "00000").identity
    settings = ((key.removeprefix("recipe."), value) for key, value in identity.items())
    return {
        "recipe": recipe,
        "paper": recipe_of(recipe).paper if recipe in RECIPES else None,
        "running": not trials or trials[0].state is State.RUNNING,
        "study": study.name,
        "space": identity.get("space"),
        "epochs": measurements[-1].step if measurements else 0,
        "planned_epochs": plan["epochs"],
        "images": plan["images"],
        "held": identity.get("held"),
        "training": {key: value for key, value in settings if f"recipe.{key}" in identity},
        "seconds": measurements[-1].seconds if measurements else None,
        "curves": _curves(measurements),
    }


def _curves(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Every metric of the training by epoch."""
    names = dict.fromkeys(name for m in measurements for name in m.metrics)
    return {
        "epochs": [m.step for m in measurements],
        **{name: [_finite(m.metrics.get(name)) for m in measurements] for name in names},
    }


def _trajectories(supernet: Supernet, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How good each option of each choice was thought to be, epoch by epoch."""
    rows = []
    for name, values in found.items():
        choice = supernet.choices[name]
        options = labels(choice) if choice.kind == "some_of" else choice.options
        epochs = [[round(float(value), 4) for value in epoch] for epoch in values]
        rows.append({"choice": name, "options": list(map(str, options)), "probabilities": epochs})
    return rows


def _derived(desk: Desk, trials: Sequence[Trial]) -> dict[str, Any]:
    """The architecture that the supernet thinks best, and what the search measured of it."""
    assert desk.shared is not None
    best = desk.shared.proposals()[0].architecture
    measured = next((t.metrics for t in trials if t.architecture == best), {})
    return {
        "architecture": dict(best),
        "genotype": written(desk.space, best),
        "metrics": {name: _finite(value) for name, value in measured.items()},
    }


def _twice(alone: Sequence[Trial], inherited: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Trials of the same architectures, with inherited weights and trained by themselves."""
    by_architecture = {t.architecture: t for t in alone if t.state is State.DONE}
    done = (t for t in inherited if t.state is State.DONE)
    return [(t, by_architecture[t.architecture]) for t in done]


def _agreement(
    what: str, pairs: Sequence[tuple[Trial, Trial]], judge: Objective
) -> dict[str, Any] | None:
    """How well what is measured with inherited weights ranks networks; None for fewer than two."""
    values = [(one.metric(judge.metric), other.metric(judge.metric)) for one, other in pairs]
    values = [pair for pair in values if all(map(math.isfinite, pair))]
    if len(values) < 2:
        return None
    sign = -1.0 if judge.goal == "min" else 1.0
    found = rank_correlation([(sign * inherited, sign * alone) for inherited, alone in values])
    return {
        "what": what,
        "metric": judge.metric,
        "kendall": _finite(found.all),
        "kendall_best": _finite(found.best),
        "n": found.count,
        "n_best": found.best_count,
        "pairs": [list(pair) for pair in values],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
