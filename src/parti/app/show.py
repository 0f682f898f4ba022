"""What the commands print about studies and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from parti.core.protocols import Store
from parti.core.study import Study, best
from parti.core.trial import State, Trial
from parti.finding import finished
from parti.finding.files import read_json, study_folder
from parti.finding.found import Found
from parti.reports.formats import opened, plural

__all__ = [
    "partial_result",
    "recipes",
    "show_found",
    "status_of",
    "table_of_recipes",
    "table_of_studies",
]


def show_found(found: Found) -> None:
    """Print a result for people."""
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), title=found.study, title_justify="left")
    for column in ("", "test accuracy", "val accuracy", "params", "MACs", "latency"):
        table.add_column(column, justify="left" if not column else "right")
    for entry in (found.best, *found.baselines):
        table.add_row(
            str(entry["name"]),
            _accuracy(entry),
            f"{entry['val_accuracy']:.4f}",
            f"{entry['params']:,}",
            f"{entry['macs']:,}",
            f"{entry['latency_ms']:.3f} ms",
        )
    console.print(table)
    result = found.to_dict()
    cost = result["cost"]
    n = found.best["metrics"]["n"]
    console.print(
        f"test split of {n:,} images, {opened(result.get('test_openings'))} · "
        f"latency: {found.best['latency_conditions']}\n"
        f"{_supernet(result)}"
        f"{cost['trials']} trials ({cost['failed']} failed, {cost['rejected']} rejected) in "
        f"{cost['search_seconds']:.0f} s, {_in_all(cost)}, on {cost['hardware']}",
        soft_wrap=True,
    )
    for baseline in found.baselines:
        if said := _remark(baseline, found.best, result):
            console.print(said, soft_wrap=True)
    for name, file in result["files"].items():
        console.print(f"{name:>8}  {file}", soft_wrap=True)


def _in_all(cost: Mapping[str, Any]) -> str:
    """How long everything took, as far as it was counted then."""
    last = ", final training"
    if "concluding_seconds" in cost:
        last += f" and {cost['concluding_seconds']:.0f} s of testing and export"
    else:
        last = " and final training"
    return f"{cost['total_seconds']:.0f} s with baselines{last}"


def _remark(
    baseline: Mapping[str, Any], best: Mapping[str, Any], result: Mapping[str, Any]
) -> str | None:
    """What to say of a baseline that is no worse than the winner; None where it is."""
    name = baseline["name"]
    if baseline["kind"] == "search" and baseline["fingerprint"] == best["fingerprint"]:
        return (
            f"{name} found the same network, so that nothing tells the two apart: they begin with "
            "the same random networks, and so short a search gets no further; give it a larger "
            "--budget"
        )
    if [objective["metric"] for objective in result["objectives"]] != ["val_accuracy"]:
        return None
    if baseline["val_accuracy"] <= best["val_accuracy"]:
        return None
    if baseline["kind"] == "search":
        return (
            f"{name} found a network of better validation accuracy: with so short a search chance "
            "decides; give it a larger --budget"
        )
    free = ", which need not keep to your limits," if result["constraints"] else ""
    return (
        f"{name}{free} has a better validation accuracy than what was found, with "
        f"{baseline['params']:,} parameters against {best['params']:,}: give the search a larger "
        "--budget"
    )


def _supernet(result: Mapping[str, Any]) -> str:
    """A line on the supernet, where there is one."""
    supernet = result.get("supernet")
    if supernet is None:
        return ""
    owner = "" if supernet["study"] == result["study"] else f" of study {supernet['study']}"
    return (
        f"supernet{owner} by {supernet['recipe']}: {plural(supernet['epochs'], 'epoch')} in "
        f"{supernet['seconds']:.0f} s\n"
    )


def table_of_recipes() -> None:
    """Print a line for each recipe."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("recipe", "paper", "space", "then"):
        table.add_column(column)
    for row in recipes():
        table.add_row(*(str(row[name]) for name in ("recipe", "paper", "space", "then")))
    Console(highlight=False, markup=False).print(table)


def recipes() -> list[dict[str, Any]]:
    """What there is to know of every recipe, as JSON values."""
    from parti.finding.sharing import recipe_of
    from parti.recipes import RECIPES

    found = []
    for name in RECIPES:
        recipe = recipe_of(name)
        then = "derives" if recipe.derives else "is searched"
        found.append({"recipe": name, "paper": recipe.paper, "space": recipe.space, "then": then})
    return found


def status_of(store: Store, name: str, url: str) -> dict[str, Any]:
    """How far a study is, as JSON values."""
    study = store.study(name)
    trials, _ = store.trials(name)
    states = [trial.state for trial in trials]
    top = best(study, trials)
    found = finished(study_folder(url, name), store, name)
    supernet = f"{name}/supernet"
    epochs = None
    if supernet in store.studies():
        shared, _ = store.trials(supernet)
        epochs = max((m.step for trial in shared for m in trial.measurements), default=0)
    return {
        "study": name,
        "status": "finished" if found else "not finished",
        "data": study.settings.get("data"),
        "supernet_epochs": epochs,
        "trials": {state.value: states.count(state) for state in State},
        "budget": {"trials": study.budget.trials, "seconds": study.budget.seconds},
        "seconds": store.spend(name, 0.0),
        "best": dict(top.metrics) if top is not None else None,
        "test_accuracy": found.test_accuracy if found else None,
    }


def table_of_studies(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each study."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("study", "status", "data", "trials", "val accuracy", "test accuracy"):
        table.add_column(column)
    for row in rows:
        trials = row["trials"]
        most = row["budget"]["trials"]
        best_val = (row["best"] or {}).get("val_accuracy")
        table.add_row(
            row["study"],
            row["status"],
            str(row["data"]),
            f"{trials['done']}" + (f" of {most}" if most else ""),
            "–" if best_val is None else f"{best_val:.4f}",
            "–" if row["test_accuracy"] is None else f"{row['test_accuracy']:.4f}",
        )
    Console(highlight=False, markup=False).print(table)


def partial_result(
    store: Store, study: Study, trials: Sequence[Trial], folder: Path
) -> dict[str, Any]:
    """What can be said of a search that is not finished."""
    from parti.finding.described import supernet_so_far

    states = [trial.state for trial in trials]
    began = read_json(folder / "began.json") or {}
    return {
        "study": study.name,
        "command": began.get("command"),
        "started": began.get("started"),
        "finished": None,
        "status": "searching",
        "objectives": [{"metric": o.metric, "goal": o.goal} for o in study.objectives],
        "constraints": [str(constraint) for constraint in study.constraints],
        "budget": {"trials": study.budget.trials, "seconds": study.budget.seconds},
        "seed": study.seed,
        "supernet": supernet_so_far(store, study, folder),
        "cost": {
            "trials": len(trials) - states.count(State.REJECTED),
            "failed": states.count(State.FAILED),
            "rejected": states.count(State.REJECTED),
        },
    }


def _accuracy(entry: Mapping[str, Any]) -> str:
    if entry["test_std"] is None:
        return f"{entry['test_accuracy']:.4f}"
    return f"{entry['test_mean']:.4f} ± {entry['test_std']:.4f}"
