"""What compression cost and gained, as a section of the report page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parti.reports.facts import Facts, records
from parti.reports.formats import count, duration, finite, percent
from parti.reports.markup import Html, join, tag
from parti.reports.tables import table

__all__ = ["compression_section"]

NAMES = {
    "source": "as trained, float32",
    "prune": "pruned",
    "distill": "distilled",
    "fold": "folded",
    "int8": "int8",
}


def compression_section(facts: Facts) -> Html | None:
    """Write the section.

    Args:
        facts: of a result with `compression` in it: what compression.json holds.

    Returns:
        Nothing when the model was not compressed.
    """
    found = facts.get("compression")
    if not isinstance(found, Mapping) or not found.get("versions"):
        return None
    final, source = found.get("final") or {}, found.get("source") or {}
    return join(
        tag(
            "p",
            f"Test accuracy {percent(source.get('test_accuracy'))} before and "
            f"{percent(final.get('test_accuracy'))} after, on {count(found.get('test_images'))} "
            f"images; the test split has been opened {count(found.get('test_openings'))} times. "
            "Everything else was measured on validation images and decided by them.",
        ),
        _versions(records(found, "versions")),
        tag("h3", "What became of each step"),
        tag("ul", [_step(step) for step in records(found, "steps")], class_="notes"),
        tag("p", f"Latency: {final.get('latency_conditions', '')}.", class_="soft"),
    )


def _versions(versions: list[Mapping[str, Any]]) -> Html:
    numbers = ("Validation accuracy", "Parameters", "MACs", "File", "Latency")
    rows = []
    for version in versions:
        cells = (
            percent(version.get("val_accuracy"), 2),
            count(version.get("params")),
            count(version.get("macs")),
            _kib(version.get("bytes")),
            _milliseconds(version.get("latency_ms")),
        )
        name = NAMES.get(str(version.get("name")), str(version.get("name")))
        rows.append(
            tag("tr", tag("td", name), [tag("td", cell, class_="number") for cell in cells])
        )
    caption = "Every version of the model that was kept, timed in turns."
    return table(("Version", *numbers), rows, caption, numbers=numbers)


def _step(step: Mapping[str, Any]) -> Html:
    kept = "kept" if step.get("kept") else "undone"
    return tag(
        "li",
        tag("strong", str(step.get("name", ""))),
        f": {kept} after {duration(step.get('seconds'))}; {step.get('why', '')}",
    )


def _kib(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else f"{number / 1024:,.1f} KiB"


def _milliseconds(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else f"{number:.3f} ms"
