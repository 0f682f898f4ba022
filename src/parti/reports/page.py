"""One self-contained HTML page about a search, finished or still running."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from parti.core.study import Study
from parti.core.trial import Trial
from parti.reports.charts import Charts
from parti.reports.facts import Facts
from parti.reports.headline import claim, headline
from parti.reports.markup import Html, join, tag
from parti.reports.sections import Section, sections

__all__ = ["page", "write_report"]


def write_report(
    path: Path, result: Mapping[str, Any], study: Study, trials: Sequence[Trial]
) -> Path:
    """Write the report of a search as one HTML file that needs no network and no other file.

    The file is some 5 MB, nearly all of it plotly.js. It is replaced in one step, so a reader
    never sees half of it.

    Args:
        path: where to write it; folders are made.
        result: what is known so far, as JSON values; what is missing is left out of the page.
        study: what was asked.
        trials: all trials, in any order.

    Returns:
        The path.
    """
    text = page(Facts(result, study, tuple(trials), datetime.now(UTC)))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(text.encode("utf-8", "replace"))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def page(facts: Facts) -> Html:
    """Return the whole page."""
    charts = Charts()
    head = headline(facts)
    body = list(sections(facts, charts))
    return join(Html("<!doctype html>\n"), _document(facts, head, body, charts))


def _document(facts: Facts, head: Html, body: Sequence[Section], charts: Charts) -> Html:
    from plotly.offline import get_plotlyjs

    library, script = Html(get_plotlyjs() if charts.variants else ""), _resource("script.js")
    scripts = [text for text in (library, script) if text]
    main = [
        tag("section", tag("h2", heading), content, id=anchor) for anchor, heading, content in body
    ]
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading, _ in body]
    return tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{facts.study.name}: {claim(facts)}"),
            tag("style", _resource("style.css")),
        ),
        tag(
            "body",
            tag("a", "Skip to the report", href="#summary", class_="skip"),
            tag("nav", tag("ul", tag("li", tag("a", "Summary", href="#summary")), links),
                aria_label="Contents"),
            tag(
                "main",
                head,
                tag("noscript", tag("p", "Figures need JavaScript; the tables do not.",
                                    class_="notice")),
                main,
                tag("footer", "Written by parti. Everything is in this file; it loads nothing."),
            ),
            tag("script", Html(charts.to_json()), type="application/json", id="charts"),
            [tag("script", text) for text in scripts],
        ),
        lang="en",
    )  # fmt: skip


def _policy(scripts: Sequence[Html]) -> str:
    """Allow what is in the page and nothing else: no network, and no script but these."""
    sums = (b64encode(sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in sums)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )


def _resource(name: str) -> Html:
    return Html(files("parti.reports").joinpath(name).read_text(encoding="utf-8"))
