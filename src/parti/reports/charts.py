"""Places for figures in the page; the page's script draws them there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from parti.reports.figures import Figure
from parti.reports.markup import Html, tag

__all__ = ["Charts"]


class Charts:
    """The figures of one page, collected while its sections are written."""

    def __init__(self) -> None:
        self.variants: list[Mapping[str, Figure]] = []

    def place(self, variants: Mapping[str, Figure], about: str, by: str = "") -> Html | None:
        """Take a figure in, and return its place in the page.

        Args:
            variants: figures by the text of the button that shows them.
            about: what is to be seen: the caption, and the text for those who cannot see it.
            by: what the buttons choose.

        Returns:
            A `figure` element, with buttons when there are several variants; None without any.
        """
        if not variants:
            return None
        number = len(self.variants)
        self.variants.append(variants)
        height = next(iter(variants.values()))["layout"]["height"]
        buttons = [
            tag("button", name, type="button", aria_pressed="false" if n else "true")
            for n, name in enumerate(variants)
        ]
        return tag(
            "figure",
            tag("div", buttons, class_="chooser", role="group", aria_label=by)
            if len(variants) > 1
            else None,
            tag(
                "div",
                class_="chart",
                role="img",
                aria_label=about,
                style=f"min-height:{height}px",
            ),
            tag("figcaption", about),
            data_chart=number,
        )

    def to_json(self) -> str:
        """Return all figures as JSON that may stand inside a script element."""
        text = json.dumps(_clean(self.variants), allow_nan=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _clean(value: Any) -> Any:
    """Put None for numbers that JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
