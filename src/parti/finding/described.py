"""What is written down about the supernet of a search, as JSON values."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parti.core.architecture import Architecture
from parti.core.choice import labels
from parti.core.trial import Measurement, State, Trial
from parti.evaluators.checkpoint import load_checkpoint
from parti.recipes.agreement import rank_correlation

if TYPE_CHECKING:
    from parti.finding.desk import Desk
    from parti.finding.stages import Searched
    from parti.supernets.share import Supernet

__all__ = ["described_supernet", "written"]

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
    return {
        "recipe": recipe.name,
        "paper": recipe.paper,
        "inherits": shared.inherits,
        "study": desk.settings.supernet_of or desk.name,
        "space": repr(desk.space),
        "choices": len(supernet.choices),
        "params": sum(parameter.numel() for parameter in supernet.parameters()),
        "epochs": kept.measurements[-1].step,
        "planned_epochs": plan.epochs,
        "images": plan.images,
        "held": recipe.held,
        "training": {
            name: getattr(recipe.training, name) for name in recipe.training.__dataclass_fields__
        },
        "seconds": kept.measurements[-1].seconds,
        "curves": _curves(kept.measurements),
        "trajectories": _trajectories(supernet, kept.training["step"].get("trajectory", {})),
        "derived": _derived(desk) if recipe.derives else None,
        "agreement": [
            row
            for row in (
                _agreement("finalists, trained in full", alone),
                _agreement("networks of random search, trained briefly", twice),
            )
            if row
        ],
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


def _derived(desk: Desk) -> dict[str, Any]:
    """The architecture that the supernet thinks best."""
    assert desk.shared is not None
    best = desk.shared.proposals()[0].architecture
    return {"architecture": dict(best), "genotype": written(desk.space, best)}


def _twice(alone: Sequence[Trial], inherited: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Trials of the same architectures, with inherited weights and trained by themselves."""
    by_architecture = {t.architecture: t for t in alone if t.state is State.DONE}
    done = (t for t in inherited if t.state is State.DONE)
    return [(t, by_architecture[t.architecture]) for t in done]


def _agreement(what: str, pairs: Sequence[tuple[Trial, Trial]]) -> dict[str, Any] | None:
    """How well inherited accuracies rank networks; None for fewer than two."""
    values = [tuple(t.metrics["val_accuracy"] for t in pair) for pair in pairs]
    if len(values) < 2:
        return None
    found = rank_correlation([(inherited, alone) for inherited, alone in values])
    return {
        "what": what,
        "kendall": _finite(found.all),
        "kendall_best": _finite(found.best),
        "n": found.count,
        "n_best": found.best_count,
        "pairs": [list(pair) for pair in values],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
