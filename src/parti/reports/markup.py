"""HTML as nested calls: what is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["Child", "Html", "join", "tag"]


class Html(str):
    """Text that is markup already; every other text is escaped when it enters a tag."""

    __slots__ = ()


Child = str | int | float | Iterable["Child"] | None
"""What a tag may hold: markup, plain text, numbers, several of these, or nothing."""

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})


def join(*children: Child) -> Html:
    """Put markup and texts behind one another; plain texts are escaped, None is left out."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int | float):
            parts.append(escape(str(child)))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: what it holds.
        attributes: `class_` stands for `class` and `aria_label` for `aria-label`; True gives an
            attribute without a value, False and None none at all.

    Returns:
        The element with its end tag, unless HTML has none for it.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
