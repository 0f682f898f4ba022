"""The command that asks a search again, with something changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["search_command"]

NAMES = {
    "seconds": "budget",
    "at_most": "max",
    "at_least": "min",
    "objectives": "objective",
    "devices": "device",
}
"""Settings whose option is called otherwise."""

SPECIALIZED = {
    "at_most": "max",
    "at_least": "min",
    "seconds": "budget",
    "trials": "trials",
    "strategy": "strategy",
    "final_epochs": "tune-epochs",
    "finalists": "finalists",
}
"""What `parti specialize` may be asked, by setting."""

KEPT = ("--store", "--workers")
"""Options of the first command that are no settings, but are wanted again."""


def search_command(
    asked: Mapping[str, Any], changes: Mapping[str, Any], first: str | None = None
) -> str | None:
    """Return the command line that asks the same with some settings changed.

    Args:
        asked: the settings of a study that are not the default.
        changes: settings to put in their place; None takes one away.
        first: the command that was typed; where it names a store or workers, they are kept.

    Returns:
        The command; None where data, space, strategy or recipe were given as Python objects, or
        where a specialized study would have to be changed in what its supernet has settled.
    """
    wanted = {k: v for k, v in {**asked, **changes}.items() if v is not None}
    named = [wanted.get(name) for name in ("data", "space", "strategy", "recipe")]
    if any(isinstance(value, str) and value.startswith("python:") for value in named):
        return None
    words = ["parti"]
    if owner := wanted.get("supernet_of"):
        if not changes.keys() <= SPECIALIZED.keys():
            return None
        words += ["specialize", str(owner)]
        options = {name: SPECIALIZED[name] for name in wanted if name in SPECIALIZED}
    else:
        words += ["search", str(wanted.get("data", ""))]
        options = {n: NAMES.get(n, n.replace("_", "-")) for n in wanted if n != "data"}
    for name, option in options.items():
        words += _words(option, wanted[name])
    words += _kept(first)
    return shlex.join(words)


def _words(option: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield f"--{option}" if value else f"--no-{option}"
    elif isinstance(value, Mapping):
        for key, limit in value.items():
            yield from (f"--{option}", f"{key}={_number(limit)}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from (f"--{option}", str(item))
    elif option == "budget":
        yield from (f"--{option}", _time(float(value)))
    else:
        yield from (f"--{option}", _number(value))


def _number(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds:g}s"


def _kept(first: str | None) -> Iterator[str]:
    try:
        words = shlex.split(first or "")
    except ValueError:
        return
    for place, word in enumerate(words):
        option, sign, value = word.partition("=")
        if option in KEPT:
            if sign:
                yield from (option, value)
            elif place + 1 < len(words):
                yield from (option, words[place + 1])
