"""A comparison in writing: numbers for people, Markdown for documents, JSON, and charts."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from parti import __version__
from parti.comparing.comparison import Comparison
from parti.comparing.run import Spent
from parti.comparing.standings import Curve, Estimate, ProblemStandings, Standing, Standings
from parti.comparing.svg import COLOURS, Line, Panel, draw

__all__ = [
    "BRIEF",
    "cells",
    "explanation",
    "to_json",
    "to_markdown",
    "to_svg",
    "write_comparison",
]

COLUMNS = (
    "strategy",
    "rank",
    "to the best",
    "to 0.1 %",
    "found",
    "final regret",
    "p",
    "ms per ask",
)
"""Heads of the table of a problem in documents."""

BRIEF = ("strategy", "rank", "to the best", "to 0.1 %", "regret", "p", "ms")
"""Heads of the table of a problem on a terminal."""

COLOURED = 5
"""So many contenders, the best ones, are drawn in colour with their bands; random search too."""

RANDOM = "random"


def cells(row: Standing, comparison: Comparison, problem: ProblemStandings) -> dict[str, str]:
    """Return what a table may say of one contender, by head of column."""
    limit = comparison.settings.evaluations
    leads = row.rank == problem.rows[0].rank
    return {
        "strategy": row.contender
        + (" ⚡" if row.with_scores else "")
        + (" †" if row.errors else ""),
        "rank": f"{row.rank:.2f}",
        "to the best": _count(row.to_best, limit),
        "to 0.1 %": _count(row.to_near, limit),
        "found": f"{row.found:.0%}",
        "final regret": _regret(row.regret),
        "regret": _number(row.regret.median),
        "p": "" if leads else _p(row.p),
        "ms per ask": "{:.3g} / {:.3g} / {:.3g}".format(*row.ask_ms),
        "ms": f"{row.ask_ms[0]:.3g}",
    }


def explanation(comparison: Comparison) -> str:
    """Say what the numbers of the tables mean, and under which conditions they hold."""
    settings = comparison.settings
    limits = [
        f"{settings.evaluations:,} evaluations" if settings.evaluations else "",
        f"{settings.seconds:,.0f} virtual seconds" if settings.seconds else "",
    ]
    seen = (
        "Oracle mode: searches see the truth itself."
        if settings.oracle
        else "Searches see one noisy run; the incumbent is what looks best to them (at the highest "
        "fidelity seen), and what counts is its truth."
    )
    ranked = (
        "by when the best is found, then by final regret" if settings.oracle else "by final regret"
    )
    return (
        f"{comparison.seeds} seeds, up to {' or '.join(filter(None, limits))} each. {seen} "
        "An evaluation is a distinct canonical architecture; what is proposed again is free. "
        "'To the best' and 'to 0.1 %': median evaluations until the incumbent is the best there "
        "is, or within 0.1 % of it, with the 95 % interval of the median from order statistics; "
        "'>' means not within the limit. Final regret: median and interval, likewise. "
        f"Rank: mean over seeds, {ranked}; equals by when they got there. p: Wilcoxon "
        "signed-rank test against the first, paired by seed, Holm-corrected. ms per ask: median / "
        "95th percentile / last ten proposals. ⚡ was given training-free scores. † had runs that "
        "ended in an error; they count as finding nothing."
    )


def to_markdown(
    comparison: Comparison,
    found: Standings,
    command: str,
    image: str | None,
    *,
    title: str = "Leaderboard",
    level: int = 1,
) -> str:
    """Return the leaderboard as a Markdown page, or as a part of one.

    Args:
        comparison: what was run.
        found: what it says.
        command: what made it, as typed.
        image: address of the chart relative to the page; None for none.
        title: its heading.
        level: of the heading, from 1.
    """
    above, below = "#" * level, "#" * (level + 1)
    parts = [
        f"{above} {title}",
        "",
        "Written by this command, which gives the same numbers again, time per ask aside.",
        "",
        "```sh",
        command,
        "```",
        "",
        explanation(comparison),
        "",
    ]
    if image is not None:
        parts += [f"![Regret of every strategy over evaluations, for each problem]({image})", ""]
    if len(comparison.problems) > 1 and found.ranks:
        ranks = [(r.contender, f"{r.mean:.2f}", f"{r.low:.2f} – {r.high:.2f}") for r in found.ranks]
        parts += [
            f"{below} Mean rank over {len(comparison.problems)} problems",
            "",
            "With a 95 % bootstrap interval over seeds; of the strategies that fit every problem.",
            "",
            *_markdown_table(("strategy", "mean rank", "95 %"), ranks),
            "",
        ]
    for problem in found.problems:
        rows = [cells(row, comparison, problem) for row in problem.rows]
        parts += [f"{below} {problem.problem}", "", " ".join(facts(problem)), ""]
        parts += _markdown_table(COLUMNS, [[row[head] for head in COLUMNS] for row in rows])
        if problem.unfit:
            out = "; ".join(f"{label} ({reason})" for label, reason in problem.unfit)
            parts += ["", f"Left out: {out}."]
        parts.append("")
    return "\n".join(parts)


def facts(problem: ProblemStandings) -> list[str]:
    """Say what a problem is, in a few short lines."""
    told = [
        f"Searches see: {problem.measured}." if problem.measured else "",
        f"The truth: {problem.reported}." if problem.reported else "",
        "" if problem.best is None else f"The best: {problem.best:.6g}.",
        f"Regret is in {problem.unit}; 0.1 % is {problem.near_means}.",
    ]
    return [line for line in told if line]


def to_json(comparison: Comparison, found: Standings) -> dict[str, Any]:
    """Return everything, curves included, as JSON values; null stands for infinity."""
    return {
        "parti": __version__,
        "python": platform.python_version(),
        "seeds": comparison.seeds,
        "settings": asdict(comparison.settings),
        "ranks": [asdict(rank) for rank in found.ranks],
        "problems": [_plain(asdict(problem)) for problem in found.problems],
    }


def to_svg(found: Standings, by: Spent) -> str | None:
    """Draw the regret over what was spent, a panel for each problem; None without any curve.

    The contenders that rank best, and random search, have colours; the others are grey.
    """
    shown = _in_order(found)
    panels = []
    for problem in found.problems:
        rows = {row.contender: row for row in problem.rows}
        lines = []
        for name in shown:
            curve = _curve(rows[name], by) if name in rows else None
            if curve is not None:
                lines.append(Line(name, curve.spent, curve.median, curve.low, curve.high))
        if lines:
            spent = "evaluations" if by == "evaluations" else "virtual seconds"
            unit = problem.unit.replace("_", " ")
            floor = problem.near / 10 or 1e-6
            panels.append(Panel(problem.problem, spent, f"regret ({unit})", floor, tuple(lines)))
    if not panels:
        return None
    colours = dict(zip(shown[:COLOURED], COLOURS, strict=False))
    if RANDOM in shown:
        colours[RANDOM] = COLOURS[-1]
    about = f"Median true regret of the incumbent over {by}, with 95 % bands: {', '.join(colours)}"
    return draw(panels, colours, about)


def write_comparison(
    folder: Path, comparison: Comparison, found: Standings, command: str
) -> list[Path]:
    """Write comparison.json, leaderboard.md and the charts into a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"comparison.json": json.dumps(to_json(comparison, found), allow_nan=False) + "\n"}
    charts: tuple[Spent, ...] = ("evaluations", "seconds")
    for by in charts:
        if (image := to_svg(found, by)) is not None:
            texts[f"{by}.svg"] = image
    image_name = "evaluations.svg" if "evaluations.svg" in texts else None
    texts["leaderboard.md"] = to_markdown(comparison, found, command, image_name)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


# --- parts -----------------------------------------------------------------------------------


def _in_order(found: Standings) -> list[str]:
    """The contenders, best first: by overall rank, then by how they did where they took part."""
    order = [rank.contender for rank in found.ranks]
    order += [row.contender for problem in found.problems for row in problem.rows]
    return list(dict.fromkeys(order))


def _curve(row: Standing, by: Spent) -> Curve | None:
    return row.by_evaluations if by == "evaluations" else row.by_seconds


def _count(estimate: Estimate, limit: int | None) -> str:
    """Median and interval of a count; what is not within the limit is more than it."""
    beyond = f">{limit}" if limit is not None else "–"
    middle, low, high = (
        beyond if math.isinf(value) else f"{value:.0f}"
        for value in (estimate.median, estimate.low, estimate.high)
    )
    return middle if low == high == middle else f"{middle} ({low} – {high})"


def _regret(estimate: Estimate) -> str:
    middle, low, high = map(_number, (estimate.median, estimate.low, estimate.high))
    return middle if low == high == middle else f"{middle} ({low} – {high})"


def _number(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.3g}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return [
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, marks, *rows)
    ]


def _plain(value: Any) -> Any:
    """As JSON values: arrays as lists of six digits, infinity as None."""
    if isinstance(value, np.ndarray):
        return [_plain(float(item)) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
