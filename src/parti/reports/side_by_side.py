"""Studies side by side, as rows of texts and as one page of HTML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from parti.reports.formats import (
    NONE,
    amount,
    count,
    duration,
    finite,
    metric,
    percent,
    plural,
)
from parti.reports.markup import Html, join, tag
from parti.reports.tables import table

__all__ = ["compared_rows", "sentences", "write_side_by_side"]

UNSEEN = 0.05
"""Where a difference may be as large and yet not be seen, the images were too few."""


def compared_rows(compared: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what is compared, in words: a name, and a text for each study.

    Args:
        compared: as `parti.finding.side_by_side.side_by_side` gives it.
    """
    studies = compared["studies"]
    shown = (
        ("data", lambda s: f"{s['data']}, {count(s['images'])} images"),
        ("space", lambda s: str(s["space"])),
        ("strategy", lambda s: str(s["strategy"])),
        ("objectives", lambda s: ", ".join(s["objectives"])),
        ("limits", lambda s: ", ".join(s["limits"]) or "none"),
        ("budget", lambda s: _budget(s["budget"])),
        ("trials", lambda s: count(s["trials"])),
        ("time, in all", lambda s: duration(s["total_seconds"])),
        ("test accuracy", lambda s: percent(s["test_accuracy"])),
        ("95 % interval", lambda s: " to ".join(map(percent, s["test_interval"]))),
        ("test images", lambda s: count(s["test_images"])),
        ("over seeds", _seeds),
        ("validation accuracy", lambda s: percent(s["val_accuracy"])),
        ("parameters", lambda s: amount(s["params"])),
        ("MACs", lambda s: amount(s["macs"])),
        ("latency", lambda s: metric("latency_ms", s["latency_ms"])),
        ("measured", lambda s: str(s["latency_conditions"] or NONE)),
        ("file", lambda s: metric("onnx_bytes", s["onnx_bytes"])),
        ("front of the search", lambda s: _front(s["front"])),
    )
    return [(name, [text(study) for study in studies]) for name, text in shown]


def sentences(compared: Mapping[str, Any]) -> list[str]:
    """Return the differences in test accuracy, a sentence each."""
    return [
        f"{row['to']} is {100 * row['value']:+.2f} points from {row['from']} (95 % interval "
        f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}), "
        f"{'more than' if row['real'] else 'no more than'} chance makes it, {row['how']}."
        f"{_too_few(row)}"
        for row in compared["differences"]
    ]


def _too_few(row: Mapping[str, Any]) -> str:
    """What so few images cannot tell, where it is much."""
    n, most = int(row["n"]), max(abs(row["low"]), abs(row["high"]))
    if row["real"] or most < UNSEEN:
        return ""
    return (
        f" {plural(n, 'image')} cannot tell: the true difference may be as much as "
        f"{100 * most:.0f} points."
    )


def write_side_by_side(path: Path, compared: Mapping[str, Any]) -> Path:
    """Write a comparison as one page that needs no other file; it is replaced in one step.

    Args:
        path: where to write it; folders are made.
        compared: as `parti.finding.side_by_side.side_by_side` gives it.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(_page(compared), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _page(compared: Mapping[str, Any]) -> Html:
    names = [str(study["study"]) for study in compared["studies"]]
    title = " beside ".join(names)
    style = files("parti.reports").joinpath("style.css").read_text(encoding="utf-8")
    alike = compared["same_decisions"]
    body = [
        tag("p", "parti compare-studies", class_="eyebrow"),
        tag("h1", title),
        *(tag("p", text, class_="lead") for text in sentences(compared)),
        _section("In numbers", names, compared_rows(compared), "What was asked and found."),
        _section(
            "Settings that differ",
            names,
            [(name, [_text(v) for v in row]) for name, row in compared["settings"].items()],
            "A dash stands for the default of that time, or for nothing.",
        ),
        _section(
            "Decisions that differ",
            names,
            [(name, [_text(v) for v in row]) for name, row in compared["decisions"].items()],
            f"{plural(alike, 'decision')} more {'is' if alike == 1 else 'are'} the same. A dash: "
            "that network has no such decision.",
        ),
    ]
    head = (
        tag("meta", charset="utf-8"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    page = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return join(Html("<!doctype html>\n"), page)


def _section(
    heading: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], about: str
) -> Html | None:
    if not rows:
        return None
    lines = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", text) for text in texts))
        for name, texts in rows
    ]
    return tag("section", tag("h2", heading), table(["", *names], lines, about))


def _text(value: object) -> str:
    if value is None:
        return NONE
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _budget(budget: Mapping[str, Any]) -> str:
    trials, seconds = finite(budget.get("trials")), finite(budget.get("seconds"))
    parts = [plural(int(trials), "trial")] if trials else []
    parts += [duration(seconds)] if seconds else []
    return " and ".join(parts) or "none"


def _seeds(study: Mapping[str, Any]) -> str:
    mean, std, seeds = (study.get(name) for name in ("test_mean", "test_std", "seeds"))
    if finite(std) is None or finite(mean) is None:
        return "1 seed"
    return f"{100 * float(mean or 0):.1f} ± {100 * float(std or 0):.1f} % of {seeds}"


def _front(front: Sequence[Mapping[str, Any]]) -> str:
    """The ends of the front, and how many lie on it."""
    if not front:
        return NONE
    ends = [front[0], front[-1]] if len(front) > 1 else [front[0]]
    shown = [
        " at ".join(metric(name, value) for name, value in end.items() if name != "trial")
        for end in ends
    ]
    return f"{plural(len(front), 'network')}: {' to '.join(shown)}"
