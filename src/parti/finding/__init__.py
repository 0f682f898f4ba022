"""The main job, from data to a deployed model: `find`, and what `parti search` does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings
from parti.core.study import Budget, Study
from parti.finding.files import DEFAULT_STORE, read_json, study_folder
from parti.finding.found import Found
from parti.finding.given import Given
from parti.finding.settings import Settings, settings_of
from parti.finding.watch import Silent, Watcher
from parti.stores import open_store

if TYPE_CHECKING:
    from parti.core.protocols import Space, Store, Strategy
    from parti.finding.desk import Desk
    from parti.finding.plan import Plan

__all__ = ["Found", "Settings", "Silent", "Watcher", "find", "finished", "run"]


def find(
    data: object,
    *,
    space: str | Space = "auto",
    strategy: str | Callable[[Space, Study], Strategy] = "auto",
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
        space: a name, or a space program, which is bound to the channels, classes and resolution
            of the data.
        strategy: a name, or anything that makes a strategy when called with a space and a study.
        study: a name to keep it under; by default one that follows from the settings.
        store: URL of the store; files are kept beside it.
        workers: how many trials are trained at once.
        watcher: shows the course; by default in lines on standard error, `Silent()` not at all.
        settings: any field of `Settings`: trials, seconds, at_most={"params": 1e6}, ...

    Raises:
        PartiError: one of its kinds says what is wrong with data, settings or study.
    """
    named = str(data) if isinstance(data, str | Path) else f"python:{_images_fingerprint(data)}"
    wanted = settings_of(
        data=named,
        space=_name_of(space),
        strategy=_name_of(strategy),
        **settings,
    )
    given = Given(data, space, strategy)
    command = f"parti.find({named!r}, ...)"
    if watcher is None:
        from parti.finding.live import standard_error

        watcher = standard_error()
    return run(wanted, given, study, store, workers, watcher, command)


def run(
    settings: Settings,
    given: Given,
    study: str | None,
    store_url: str,
    workers: int,
    watcher: Watcher,
    command: str,
) -> Found:
    """Do what `find` and `parti search` do.

    Raises:
        InvalidSettings: there is a study of that name that asked something else.
    """
    name = study or settings.name
    if "/" in name or name in (".", ".."):
        raise InvalidSettings(f"study name {name!r}: it must be a name without slashes")
    folder = study_folder(store_url, name)
    if store_url.startswith("sqlite:///"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    store = open_store(store_url)
    known = finished(folder, store, name, given.space)
    if name in store.studies():
        _same(settings, store.study(name), known is not None)
    if known is not None:
        return known
    from parti.finding.desk import Desk

    with closing(Desk(settings, given, name, store, folder, workers, watcher)) as desk:
        return _run(desk, command)


def _run(desk: Desk, command: str) -> Found:
    from parti.finding.outcome import conclude
    from parti.finding.stages import run_stages
    from parti.reports import write_report

    desk.watcher.understood(_understood(desk))
    began = read_json(desk.folder / "began.json")
    if began is None:
        began = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
        desk.keep("began.json", began)
    searched = run_stages(desk)
    result = conclude(desk, searched, str(began["command"]), str(began["started"]))
    write_report(desk.folder / "report.html", result, searched.study, searched.trials)
    desk.keep("result.json", result)
    return Found(result, desk.folder, desk.store, desk.given.space)


def finished(folder: Path, store: Store, name: str, space: str | Space = "auto") -> Found | None:
    """The result of a study that has been finished, else None."""
    result = read_json(folder / "result.json")
    if result is None or name not in store.studies():
        return None
    return Found(result, folder, store, space)


def _same(settings: Settings, kept: Study, opened: bool) -> None:
    """Refuse to go on with a study for another question."""
    asked = settings.model_dump(mode="json")
    changed = sorted(key for key in asked if asked[key] != kept.settings.get(key))
    if changed:
        differences = ", ".join(
            f"{key} {kept.settings.get(key)!r} -> {asked[key]!r}" for key in changed
        )
        why = " is finished and its test split has been opened" if opened else " exists"
        raise InvalidSettings(
            f"study {kept.name!r}{why}, so it cannot go on with other settings ({differences}); "
            "give the new one another --study name"
        )


def _understood(desk: Desk) -> list[tuple[str, str]]:
    """What is about to be done with what, in rows; everything that can be checked is checked."""
    from parti.finding.outcome import described_space
    from parti.tasks.summary import describe

    space = described_space(desk)
    desk.strategy(desk.study("", budget=Budget(), seed=0))
    limits = desk.settings.study_constraints
    return [
        *describe(desk.data, desk.splits),
        ("space", f"{space['name']}: {space['size']} architectures"),
        ("strategy", desk.strategy_name),
        *([("constraints", ", ".join(map(str, limits)))] if limits else []),
        ("plan", _plan_in_words(desk.plan, desk.settings)),
        ("study", f"{desk.name} in {desk.folder}"),
    ]


def _plan_in_words(plan: Plan, settings: Settings) -> str:
    parts = [f"{plan.epochs} epoch(s) of {plan.images:,} images for each trial"]
    if settings.trials is not None:
        parts.append(f"{settings.trials} trials")
    if plan.search_seconds is not None and settings.seconds is not None:
        minutes = f"{plan.search_seconds / 60:.1f} of {settings.seconds / 60:.1f} minutes"
        parts.append(f"{minutes} for the search")
    return ", ".join(parts)


def _name_of(given: object) -> str:
    """The name under which something given from Python is known: it changes with its source."""
    if isinstance(given, str):
        return given
    target: Any = getattr(given, "function", given)
    try:
        text = inspect.getsource(target)
    except (OSError, TypeError):
        text = repr(target)
    digest = blake2b(f"{text}{given!r}".encode(), digest_size=4).hexdigest()
    return f"python:{getattr(target, '__name__', type(target).__name__)}:{digest}"


def _images_fingerprint(data: object) -> str:
    from parti.tasks.images import read_images

    return read_images(data).fingerprint
