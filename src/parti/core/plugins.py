"""Finding what a name stands for: built in, in a module, in a file, or an entry point."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from parti.core.errors import InvalidSettings

__all__ = ["load"]


def load(kind: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Return the object of that name.

    Args:
        kind: what it is, as in the message ("strategy"); entry points are looked up in the
            group `parti.<kind>`.
        name: a built-in name, "package.module:Name", "path/to/file.py:Name", or the name of an
            entry point.
        built_in: built-in names and where they are ("package.module:Name").

    Raises:
        InvalidSettings: there is nothing of that name; the message lists what there is.
    """
    if ":" in (target := built_in.get(name, name)):
        module, _, attribute = target.rpartition(":")
        return _attribute(kind, _module(kind, module), attribute)
    registered = entry_points(group=f"parti.{kind}")
    if name in registered.names:
        return registered[name].load()
    known = ", ".join(sorted({*built_in, *registered.names}))
    raise InvalidSettings(
        f"there is no {kind} {name!r}; built in are {known}; your own is written "
        "package.module:Name or path/to/file.py:Name"
    )


def _module(kind: str, name: str) -> Any:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).resolve()
        if not path.is_file():
            raise InvalidSettings(f"{kind} file {name!r} does not exist")
        unique = f"parti_user_{path.stem}_{abs(hash(str(path))):x}"
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        spec.loader.exec_module(module)
    except ImportError as error:
        raise InvalidSettings(f"{kind} module {name!r} cannot be imported: {error}") from error
    return module


def _attribute(kind: str, module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            names = [n for n in vars(module) if not n.startswith("_")]
            raise InvalidSettings(
                f"{kind}: {module.__name__} has no {name!r}; it has {', '.join(names)}"
            )
    return found
