"""Telling results apart by the code that gave them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

__all__ = ["code_digest"]


def code_digest(modules: Iterable[str]) -> str:
    """Digest of some modules' source, and of all they import of parti and of their own package.

    What is imported there counts as well, and so do imports inside functions. So results can be
    told from those of other code, while code that cannot matter may change.

    Args:
        modules: full names.

    Returns:
        12 hexadecimal digits.
    """
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    ours = ("parti", *(name.partition(".")[0] for name in waiting))
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if name in sources or file is None:
            continue
        sources[name] = file.read_bytes()
        for node in ast.walk(ast.parse(sources[name])):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            waiting += [name for name in named if name.partition(".")[0] in ours]
    digest = blake2b(digest_size=6)
    for name in sorted(sources):
        digest.update(sources[name])
    return digest.hexdigest()


def _file(module: str) -> Path | None:
    """Where a module's source is; None for a name that is no module of Python source."""
    try:
        spec = find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    place = spec.origin if spec is not None else None
    return Path(place) if place is not None and place.endswith(".py") else None
