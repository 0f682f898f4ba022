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
from parti.core.study import Study
from parti.finding.files import DEFAULT_STORE, read_json, study_folder
from parti.finding.found import Found
from parti.finding.given import Given
from parti.finding.settings import Settings, settings_of
from parti.finding.specialize import check_supernet, specialized_settings
from parti.finding.unchanged import check_unchanged, digest_of, keep_digest
from parti.finding.watch import Silent, Watcher
from parti.stores import open_store

if TYPE_CHECKING:
    from parti.core.protocols import Space, Store, Strategy
    from parti.finding.desk import Desk
    from parti.finding.sharing import Sharing
    from parti.recipes.recipe import SupernetRecipe

__all__ = ["Found", "Settings", "Silent", "Watcher", "find", "finished", "run", "specialize"]


def find(
    data: object,
    *,
    space: str | Space = "auto",
    strategy: str | Callable[[Space, Study], Strategy] = "auto",
    recipe: str | SupernetRecipe | None = None,
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
        recipe: a name, or how to train a supernet before the search; None to train each network
            by itself.
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
        recipe=None if recipe is None else _name_of(recipe),
        **settings,
    )
    given = Given(data, space, strategy, recipe)
    command = f"parti.find({named!r}, ...)"
    if watcher is None:
        from parti.finding.live import standard_error

        watcher = standard_error()
    return run(wanted, given, study, store, workers, watcher, command)


def specialize(
    study: str,
    *,
    data: object = None,
    space: str | Space = "auto",
    recipe: str | SupernetRecipe | None = None,
    name: str | None = None,
    store: str = DEFAULT_STORE,
    workers: int = 1,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Found:
    """Take another network from the supernet of a finished search, for other limits, in minutes.

    Args:
        study: whose supernet it is.
        data: of that study, if it was given as an object.
        space: likewise.
        recipe: likewise.
        name: to keep the new network under; by default one that follows from the settings.
        store: URL of the store that keeps the study.
        workers: how many trials are measured at once.
        watcher: as in `find`.
        settings: at_most, at_least, trials, seconds, strategy, final_epochs, finalists.

    Raises:
        PartiError: one of its kinds says what is wrong with study, settings or data.
    """
    wanted = specialized_settings(open_store(store), study, **settings)
    if data is None and wanted.data.startswith("python:"):
        raise InvalidSettings(f"the data of study {study!r} was given from Python; give data=")
    given = Given(wanted.data if data is None else data, space, "auto", recipe)
    if watcher is None:
        from parti.finding.live import standard_error

        watcher = standard_error()
    command = f"parti.finding.specialize({study!r}, ...)"
    return run(wanted, given, name, store, workers, watcher, command)


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
        InvalidData: it is finished, and its data has changed since.
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
        check_unchanged(known, settings, given.data)
        return known
    if settings.supernet_of is not None:
        check_supernet(settings, store, store_url)
    from parti.finding.desk import Desk

    with closing(Desk(settings, given, name, store, folder, workers, watcher)) as desk:
        return _run(desk, command)


def _run(desk: Desk, command: str) -> Found:
    from parti.finding.outcome import conclude
    from parti.finding.stages import run_stages
    from parti.finding.tuning import run_specialized
    from parti.reports import write_report

    digest = digest_of(desk.given.data)
    if desk.shared is not None and not desk.shared.plan_file.exists():
        desk.watcher.say("rehearsing some steps of the supernet, to plan its training ...")
    desk.watcher.understood(_understood(desk))
    began = read_json(desk.folder / "began.json")
    if began is None:
        began = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
        desk.keep("began.json", began)
    searched = run_stages(desk) if desk.settings.supernet_of is None else run_specialized(desk)
    result = conclude(desk, searched, str(began["command"]), str(began["started"]))
    write_report(desk.folder / "report.html", result, searched.study, searched.trials)
    keep_digest(desk.folder, digest)
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
    # Settings that an older parti did not know had the values that are defaults now.
    before = settings_of(**kept.settings).model_dump(mode="json")
    changed = sorted(key for key in asked if asked[key] != before[key])
    if changed:
        differences = ", ".join(f"{key} {before[key]!r} -> {asked[key]!r}" for key in changed)
        why = " is finished and its test split has been opened" if opened else " exists"
        raise InvalidSettings(
            f"study {kept.name!r}{why}, so it cannot go on with other settings ({differences}); "
            "give the new one another --study name"
        )


def _understood(desk: Desk) -> list[tuple[str, str]]:
    """What is about to be done with what, in rows; everything that can be checked is checked."""
    from parti.evaluators.runtimes import load_runtime
    from parti.finding.devices import checked_devices
    from parti.finding.outcome import described_space
    from parti.finding.strategy import check_strategy, strategy_name
    from parti.tasks.summary import describe

    space = described_space(desk)
    check_strategy(desk)
    load_runtime(desk.settings.runtime, desk.settings.precision)
    devices = checked_devices(desk.settings, desk.space, desk.seen) if desk.settings.devices else ""
    limits = desk.settings.study_constraints
    return [
        *describe(desk.data, desk.splits),
        ("space", f"{space['name']}: {space['size']} architectures"),
        ("strategy", strategy_name(desk)),
        *([("supernet", _supernet_in_words(desk.shared))] if desk.shared else []),
        *([("constraints", ", ".join(map(str, limits)))] if limits else []),
        *([("latency", devices)] if devices else []),
        ("plan", _plan_in_words(desk)),
        ("study", f"{desk.name} in {desk.folder}"),
    ]


def _supernet_in_words(shared: Sharing) -> str:
    from parti.finding.supernet_stages import supernet_in_words

    owner = shared.settings.supernet_of
    return supernet_in_words(shared) if owner is None else f"of study {owner}"


def _plan_in_words(desk: Desk) -> str:
    plan, settings = desk.plan, desk.settings
    each = f"{plan.epochs} epoch(s) of {plan.images:,} images for each trial"
    if desk.inherits:
        each = "inherited weights for each trial"
    parts = [each]
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
