"""The main job, from data to a deployed model: `find`, and what `parti search` does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings
from parti.finding.files import DEFAULT_STORE, read_json, study_folder
from parti.finding.found import Found
from parti.finding.settings import Settings, settings_of
from parti.finding.watch import Silent, Watcher
from parti.stores import open_store

if TYPE_CHECKING:
    from parti.core.protocols import Store

__all__ = ["find", "finished", "run"]


def find(
    data: object,
    *,
    study: str | None = None,
    store: str = DEFAULT_STORE,
    workers: int = 1,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Found:
    """Search, train the winner, test it once beside baselines, export and report.

    The same call goes on where it was stopped, and gives a finished result at once.

    Args:
        data: "digits", a path, "hf:NAME", or (images, labels) arrays, or a torch `Dataset`.
        study: a name to keep it under; by default one that follows from the settings.
        store: URL of the store; files are kept beside it.
        workers: how many trials are trained at once.
        watcher: shows the course; by default nobody.
        settings: any field of `Settings`: trials, seconds, at_most={"params": 1e6}, space, ...

    Raises:
        PartiError: one of its kinds says what is wrong with data, settings or study.
    """
    text = str(data) if isinstance(data, str | Path) else _fingerprint(data)
    wanted = settings_of(data=text, **settings)
    command = f"parti.find({text!r}, ...)"
    return run(wanted, data, study, store, workers, watcher or Silent(), command)


def run(
    settings: Settings,
    source: object,
    study: str | None,
    store_url: str,
    workers: int,
    watcher: Watcher,
    command: str,
) -> Found:
    """Do what `find` and `parti search` do.

    Raises:
        InvalidSettings: a finished study of that name asked something else.
    """
    name = study or settings.name
    if "/" in name or name in (".", ".."):
        raise InvalidSettings(f"study name {name!r}: it must be a name without slashes")
    folder = study_folder(store_url, name)
    if store_url.startswith("sqlite:///"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    store = open_store(store_url)
    if (known := finished(folder, store, name)) is not None:
        _same(settings, known, name)
        return known
    from parti.finding.desk import Desk
    from parti.finding.outcome import conclude, described_space
    from parti.finding.stages import run_stages
    from parti.tasks.summary import describe

    desk = Desk(settings, source, name, store, folder, workers, watcher)
    rows = describe(desk.data, desk.splits)
    space = described_space(desk)
    rows.append(("space", f"{space['name']}: {space['size']} architectures"))
    rows.append(("strategy", desk.strategy_name))
    desk.strategy(desk.study("", budget=_any_budget(), seed=0))  # fails now rather than later
    if limits := settings.study_constraints:
        rows.append(("constraints", ", ".join(map(str, limits))))
    rows.append(("plan", _plan_in_words(desk)))
    rows.append(("study", f"{name} in {folder}"))
    watcher.understood(rows)
    began = read_json(folder / "began.json")
    if began is None:
        began = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
        desk.keep("began.json", began)
    searched = run_stages(desk)
    result = conclude(desk, searched, str(began["command"]), str(began["started"]))
    from parti.reports import write_report

    write_report(folder / "report.html", result, searched.study, searched.trials)
    desk.keep("result.json", result)
    return Found(result, folder, store)


def finished(folder: Path, store: Store, name: str) -> Found | None:
    """The result of a study that has been finished, else None."""
    result = read_json(folder / "result.json")
    if result is None or name not in store.studies():
        return None
    return Found(result, folder, store)


def _same(settings: Settings, known: Found, name: str) -> None:
    """Refuse to go on with a study whose test split has been opened, for another question."""
    asked = settings.model_dump(mode="json")
    kept = dict(known._store.study(name).settings)
    if changed := sorted(key for key in asked if asked[key] != kept.get(key)):
        differences = ", ".join(f"{key} {kept.get(key)!r} -> {asked[key]!r}" for key in changed)
        raise InvalidSettings(
            f"study {name!r} is finished and its test split has been opened, so it cannot go on "
            f"with other settings ({differences}); give the new one another --study name"
        )


def _plan_in_words(desk: Any) -> str:
    plan, settings = desk.plan, desk.settings
    parts = [f"{plan.epochs} epoch(s) of {plan.images:,} images for each trial"]
    if settings.trials is not None:
        parts.append(f"{settings.trials} trials")
    if plan.search_seconds is not None:
        parts.append(f"{plan.search_seconds / 60:.1f} of {settings.seconds / 60:.1f} minutes")
    return ", ".join(parts)


def _any_budget() -> Any:
    from parti.core.study import Budget

    return Budget()


def _fingerprint(data: object) -> str:
    """A name for data that is given as objects: equal for equal images and labels."""
    from parti.tasks.images import read_images

    return f"python:{read_images(data).fingerprint}"
