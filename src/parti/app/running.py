"""What commands share: running a search, explaining errors, opening studies, reading limits."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from parti.core.errors import (
    InvalidData,
    InvalidSettings,
    InvalidStudy,
    PartiError,
    SpaceError,
    StoreError,
)
from parti.core.memory import keep_freed_memory
from parti.core.plugins import did_you_mean

if TYPE_CHECKING:
    from parti.core.protocols import Store
    from parti.finding.found import Found
    from parti.finding.settings import Settings

__all__ = [
    "DEFAULT_STORE",
    "INTERRUPTED",
    "absolute",
    "errors_explained",
    "finished_study",
    "limits",
    "names_of_studies",
    "open_kept",
    "print_json",
    "run_search",
]

DEFAULT_STORE = "sqlite:///parti-studies/studies.db"
OK, UNEXPECTED, WRONG_INPUT, NOTHING_FOUND, INTERRUPTED = 0, 1, 2, 3, 130


def run_search(
    settings: Settings, study: str | None, store: str, workers: int, json_: bool
) -> Found:
    """Search, or go on searching, and print what was found.

    Args:
        settings: what is asked.
        study: a name to keep it under; None for one that follows from the settings.
        store: URL of the store.
        workers: trials that are trained at once.
        json_: whether to print one JSON object.

    Returns:
        What was found.

    Raises:
        PartiError: something is wrong with what is asked.
        Exit: it was stopped by the user.
    """
    from parti.app.device import hidden_token
    from parti.app.show import show_found
    from parti.finding import run
    from parti.finding.given import Given
    from parti.finding.live import terminal_watcher

    keep_freed_memory()
    name = study or settings.name
    command = shlex.join(["parti", *hidden_token(sys.argv[1:])])
    try:
        with terminal_watcher(name) as watcher:
            found = run(settings, Given(settings.data), study, store, workers, watcher, command)
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(name, store), err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        print_json(found.summary())
    else:
        show_found(found)
    return found


def _how_to_go_on(study: str, url: str) -> str:
    """What to say of a search that was stopped: it may not have begun to keep anything."""
    try:
        open_kept(url, study)
    except StoreError:
        return "Stopped before the search began; run the same command again."
    where = "" if url == DEFAULT_STORE else f" --store {shlex.quote(url)}"
    return f"Stopped. Nothing is lost; go on with: parti resume {shlex.quote(study)}{where}"


@contextmanager
def errors_explained(json_: bool) -> Iterator[None]:
    """Print errors as a line, and exit with the code that tells their kind."""
    from parti.finding.errors import NothingFound

    try:
        yield
    except PartiError as error:
        typer.echo(f"parti: {error}", err=True)
        if json_:
            print_json({"error": {"kind": type(error).__name__, "message": str(error)}})
        wrong = (InvalidSettings, InvalidData, InvalidStudy, SpaceError, StoreError)
        code = NOTHING_FOUND if isinstance(error, NothingFound) else UNEXPECTED
        raise typer.Exit(WRONG_INPUT if isinstance(error, wrong) else code) from None


def open_kept(url: str, study: str | None) -> Store:
    """Open a store that there is, and see that it has a study.

    Raises:
        StoreError: there is no such store or study.
    """
    from parti.stores import open_store

    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        raise StoreError(
            f"there is no store {url}; searches make one. Run parti in the folder where you "
            "searched, or name the store with --store"
        )
    store = open_store(url)
    if study is not None and study not in (names := names_of_studies(store)):
        whole = study.partition("/")[0]
        what = (
            f"; it is a part of study {whole!r}" if whole in names else did_you_mean(study, names)
        )
        known = ", ".join(names) or "none"
        raise StoreError(f"no study {study!r} in {url}{what}; there are: {known}")
    return store


def names_of_studies(store: Store) -> list[str]:
    """The studies that somebody asked for, without the parts of which they are made up.

    Args:
        store: any.
    """
    return [name for name in store.studies() if "/" not in name]


def finished_study(study: str, store: str) -> Found:
    """The result of a study.

    Raises:
        StoreError: it is not finished, or there is none.
    """
    from parti.finding import finished
    from parti.finding.files import study_folder

    found = finished(study_folder(store, study), open_kept(store, study), study)
    if found is None:
        raise StoreError(f"study {study!r} is not finished; go on with: parti resume {study}")
    return found


def limits(option: str, pairs: list[str] | None) -> dict[str, float]:
    """Read METRIC=VALUE pairs.

    Raises:
        InvalidSettings: one is no such pair, or a metric is there twice.
    """
    from parti.finding.settings import parse_number

    found: dict[str, float] = {}
    for pair in pairs or ():
        metric, sign, value = pair.partition("=")
        if not sign:
            raise InvalidSettings(f"{option} {pair!r}; write {option} METRIC=VALUE, as params=300k")
        if metric in found:
            raise InvalidSettings(f"{option} limits {metric!r} twice")
        found[metric] = parse_number(value)
    return found


def absolute(data: str) -> str:
    """The data's full path, so that a study can be resumed from another folder."""
    path = Path(data).expanduser()
    named = data == "digits" or data.startswith("hf:")
    return data if named and not path.exists() else str(path.resolve())


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON object in a line."""
    typer.echo(json.dumps(value))
