"""The page on which one drops an image and sees the answer: one file, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Page", "page"]

HERE = Path(__file__).parent
SHOWN = 20
"""Classes are named, at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page and what it may do.

    Args:
        html: all of it.
        policy: the Content-Security-Policy: its own script and style by their hashes, requests to
            its own server, pictures that it was given; nothing else.
    """

    html: str
    policy: str


def page(model: str = "", classes: Sequence[str] = ()) -> Page:
    """Put the page together.

    Args:
        model: its name; "" for a page that names nothing.
        classes: of the model; the first 20 are shown.
    """
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    frame = (HERE / "page.html").read_text(encoding="utf-8")
    html = frame.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    html = html.replace("<!--TITLE-->", escape(_title(model)))
    html = html.replace("<!--CLASSES-->", escape(_classes(classes)))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(html, policy)


def _title(model: str) -> str:
    return f"Classify an image with {model}" if model else "Classify an image"


def _classes(classes: Sequence[str]) -> str:
    if not classes:
        return ""
    more = ", …" if len(classes) > SHOWN else ""
    return f"It knows {len(classes)} classes: {', '.join(classes[:SHOWN])}{more}."


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256-{digest.decode()}"
