"""An architecture is data: the decisions taken, without weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from parti.core.errors import InvalidArchitecture

__all__ = ["Architecture", "Option"]

Option = str | int | float | bool | tuple[str, ...]
"""What a choice may offer: plain, hashable values that survive JSON."""


class Architecture(Mapping[str, Option]):
    """The decisions that make one member of a space, in the order they were asked.

    Immutable and hashable. Two architectures are equal when they hold the same decisions,
    whatever their order, and then they have the same fingerprint in every process.

    Args:
        decisions: an option for each choice name. It is copied.
    """

    __slots__ = ("_decisions", "_fingerprint")
    _decisions: dict[str, Option]
    _fingerprint: str | None

    def __init__(self, decisions: Mapping[str, Option] | None = None) -> None:
        self._decisions = dict(decisions or {})
        self._fingerprint = None

    @classmethod
    def owning(cls, decisions: dict[str, Option]) -> Architecture:
        """Wrap a dict without copying it; the caller gives it away."""
        made = cls.__new__(cls)
        made._decisions = decisions
        made._fingerprint = None
        return made

    @property
    def decisions(self) -> dict[str, Option]:
        """A copy of the decisions, as a plain dict."""
        return dict(self._decisions)

    def taking(self, **_: Option) -> Architecture:
        """Return a copy with some decisions replaced or added (names as keywords)."""
        return self.replacing(_)

    def replacing(self, decisions: Mapping[str, Option]) -> Architecture:
        """Return a copy with some decisions replaced or added (any names)."""
        return Architecture.owning({**self._decisions, **decisions})

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that are equal for equal architectures, in every process."""
        if self._fingerprint is None:
            text = json.dumps(self._decisions, sort_keys=True, separators=(",", ":"))
            self._fingerprint = blake2b(text.encode(), digest_size=8).hexdigest()
        return self._fingerprint

    def to_json(self) -> str:
        """Write as one JSON object, in order; tuples become lists."""
        return json.dumps(self._decisions, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            InvalidArchitecture: the text is not a JSON object of options.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArchitecture(f"not an architecture: {text[:80]!r} ({error})") from error
        if not isinstance(data, dict):
            raise InvalidArchitecture(
                f"an architecture is a JSON object of choice names and options, not {data!r:.80}"
            )
        return cls.owning({name: _option(name, value) for name, value in data.items()})

    def __getitem__(self, name: str) -> Option:
        return self._decisions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)

    def __contains__(self, name: object) -> bool:
        return name in self._decisions

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Architecture):
            return self.fingerprint == other.fingerprint
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={option!r}" for name, option in self._decisions.items())
        return f"Architecture({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Architecture, (self._decisions,))


def _option(name: str, value: object) -> Option:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(value, str | int | float | bool):
        return value
    raise InvalidArchitecture(
        f"choice {name!r} has {value!r}; an option is a str, int, float, bool or a list of str"
    )
