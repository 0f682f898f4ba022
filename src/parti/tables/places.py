"""Where the files of tables are: a folder that is given, $PARTI_TABLES, or parti's cache."""

from __future__ import annotations

import os
from pathlib import Path

from parti.core.errors import InvalidData

__all__ = ["cache_folder", "find_file", "find_folder", "folders"]


def cache_folder() -> Path:
    """The folder of downloads: $PARTI_CACHE, or `parti` in the user's cache folder."""
    given = os.environ.get("PARTI_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "parti"


def folders(folder: Path | str | None = None) -> list[Path]:
    """The folders in which tables are looked for, in order."""
    if folder is not None:
        return [Path(folder).expanduser()]
    given = os.environ.get("PARTI_TABLES")
    return [*([Path(given).expanduser()] if given else []), cache_folder() / "tables"]


def find_file(relative: str, folder: Path | str | None = None) -> Path:
    """Return a table's file, such as "nasbench201/nb201.parquet".

    Args:
        relative: its place in the folder of tables; it may lie in the folder itself, too.
        folder: where to look; by default in $PARTI_TABLES and parti's cache.

    Raises:
        InvalidData: it is not there; the message says where it was looked for.
    """
    places = [
        place
        for parent in folders(folder)
        for place in (parent / relative, parent / Path(relative).name)
    ]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places[::2])
    raise InvalidData(
        f"there is no {relative} (looked for {looked}); give the folder that holds it (--tables), "
        "or set PARTI_TABLES to it. Where each benchmark's files come from is in "
        "docs/how-to/tabular-benchmarks.md; problems named synthetic/... need none"
    )


def find_folder(name: str, folder: Path | str | None = None) -> Path:
    """Return an archive's folder, such as "NATS-tss-v1_0-3ffb9-simple".

    Args:
        name: of the folder.
        folder: that holds it, or is it; by default $PARTI_TABLES and parti's cache are searched.

    Raises:
        InvalidData: it is not there; the message says where it was looked for.
    """
    for parent in folders(folder):
        for place in (parent / name, parent):
            if place.name == name and place.is_dir():
                return place
    looked = ", ".join(str(parent / name) for parent in folders(folder))
    raise InvalidData(
        f"there is no folder {name} (looked for {looked}); unpack the archive of that name there, "
        "or set PARTI_TABLES to the folder that holds it"
    )
