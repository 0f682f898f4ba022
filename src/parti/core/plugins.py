"""Finding what a name stands for: built in, in a module, in a file, or an entry point."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from parti.core.errors import InvalidSettings

__all__ = ["did_you_mean", "load", "locate"]


def load(kind: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Return the object of that name.

    Args:
        kind: what it is, as in the message ("strategy").
        name: as in `locate`.
        built_in: likewise.

    Raises:
        InvalidSettings: there is nothing of that name; the message lists what there is.
    """
    module, attribute = locate(kind, name, built_in)
    found = getattr(module, attribute, None)
    if found is None:
        names = ", ".join(n for n in vars(module) if not n.startswith("_"))
        hint = did_you_mean(attribute, vars(module))
        raise InvalidSettings(
            f"{kind}: {module.__name__} has no {attribute!r}{hint}; it has {names}"
        )
    return found


def locate(kind: str, name: str, built_in: Mapping[str, str]) -> tuple[ModuleType, str]:
    """Return the module in which something is, and its name there.

    Args:
        kind: what it is, as in the message; entry points are looked up in the group
            `parti.<kind>`.
        name: a built-in name, "package.module:Name", "path/to/file.py:Name" (the file's folder
            is added to the end of Python's module search path, so that other processes can
            import it too), or the name of an entry point.
        built_in: built-in names and where they are ("package.module:Name").

    Raises:
        InvalidSettings: there is no such name or module; the message lists what there is.
    """
    target = built_in.get(name) or _registered(kind).get(name, name)
    place, _, attribute = target.rpartition(":")
    if target.endswith(".py"):
        raise InvalidSettings(
            f"{kind} {name!r} is a file; say which {kind} in it you mean, as '{name}:name'"
        )
    if not place or not attribute:
        known = {**built_in, **_registered(kind)}
        raise InvalidSettings(
            f"no {kind} {name!r}; choose one of {', '.join(known)}, or name your own as "
            f"'package.module:name' or 'path/to/file.py:name'{did_you_mean(name, known)}"
        )
    if place.endswith(".py"):
        return _import_file(Path(place)), attribute
    return _import(place, place), attribute


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Words for a message about a name that is none of those known.

    Args:
        name: what was got.
        known: what there is.

    Returns:
        " (did you mean 'mobile'?)", or "" where nothing is close.
    """
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _registered(kind: str) -> dict[str, str]:
    """Entry points by name; reading them takes a millisecond for every installed package."""
    return {point.name: point.value for point in entry_points(group=f"parti.{kind}")}


def _import_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise InvalidSettings(f"there is no file {path}; check the path before the colon")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = _import(path.stem, str(path))
    if Path(str(module.__file__)).resolve() != path:
        raise InvalidSettings(
            f"{path} cannot be imported: there is another module {path.stem!r}, "
            f"{module.__file__}; give the file another name"
        )
    return module


def _import(module: str, place: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise InvalidSettings(
            f"{place} cannot be imported ({type(error).__name__}: {error}); repair it, or check "
            "the name before the colon"
        ) from error
