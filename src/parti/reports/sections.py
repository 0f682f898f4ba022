"""The sections of the report below its head, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parti.reports import figures
from parti.reports.blocks import blocks
from parti.reports.diagram import graph
from parti.reports.facts import Facts, records
from parti.reports.formats import (
    amount,
    count,
    duration,
    finite,
    label,
    metric,
    moment,
    percent,
    plural,
)
from parti.reports.markup import Child, Html, join, tag
from parti.reports.tables import (
    baselines_table,
    classes_table,
    decisions_table,
    modules_table,
    pairs,
    trials_table,
)

__all__ = ["Charts", "Section", "sections"]

Section = tuple[str, str, Html]
"""Anchor, heading, and what is below it."""


class Charts:
    """The page's figures: each gets a place in the page, and its data go to the script."""

    def __init__(self) -> None:
        self.variants: list[Mapping[str, figures.Figure]] = []

    def place(self, variants: Mapping[str, figures.Figure], about: str, by: str = "") -> Html | None:
        """Return the place of a figure, with a button for each variant if there are several.

        Args:
            variants: figures by the text of their button; None is returned when empty.
            about: what the figure shows, for a caption and for those who cannot see it.
            by: what the buttons choose.
        """
        if not variants:
            return None
        number = len(self.variants)
        self.variants.append(variants)
        first = next(iter(variants.values()))
        buttons = [
            tag("button", name, type="button", aria_pressed="false" if n else "true")
            for n, name in enumerate(variants)
        ]
        chooser = tag("div", buttons, class_="chooser", role="group", aria_label=by or about)
        return tag(
            "figure",
            chooser if len(variants) > 1 else None,
            tag(
                "div",
                class_="chart",
                role="img",
                aria_label=about,
                style=f"min-height:{first['layout']['height']}px",
            ),
            tag("figcaption", about),
            data_chart=number,
        )

    def to_json(self) -> str:
        """Return all figures as JSON that may stand in a script element."""
        text = json.dumps(self.variants, allow_nan=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
