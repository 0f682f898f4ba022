"""The sections of the report below its head, in order."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parti.reports.blocks import blocks
from parti.reports.charts import Charts
from parti.reports.compression import compression_section
from parti.reports.conditions import conditions_section
from parti.reports.diagram import graph
from parti.reports.explanation import (
    changes_section,
    decisions_section,
    folded,
    in_short,
    next_section,
    trades_section,
)
from parti.reports.facts import Facts, records
from parti.reports.figures_model import balance_figure, confusion_figure, curve_figures
from parti.reports.figures_search import pareto_figures, progress_figures
from parti.reports.formats import (
    amount,
    count,
    duration,
    finite,
    goal,
    label,
    metric,
    percent,
    plural,
    shape,
)
from parti.reports.markup import Html, join, tag
from parti.reports.practice import practice_section
from parti.reports.rejected import rejected_section
from parti.reports.start import start_section
from parti.reports.supernet import supernet_section
from parti.reports.tables import (
    baselines_table,
    classes_table,
    decisions_table,
    modules_table,
    pairs,
    trials_table,
)
from parti.reports.theory import theory_section

__all__ = ["Section", "sections"]

Section = tuple[str, str, Html]
"""Anchor, heading, and what is below it."""


def sections(facts: Facts, charts: Charts) -> Iterator[Section]:
    """Yield the sections that the facts allow: what is new first, then depth.

    A section that has nothing to show is None, and left out.
    """
    written = (
        ("short", "In short", in_short(facts)),
        ("next", "What to do next", next_section(facts)),
        ("asked", "What was asked", _asked(facts)),
        ("data", "Data", _data(facts, charts)),
        ("start", "Where it started", start_section(facts)),
        ("supernet", "The supernet", supernet_section(facts, charts)),
        ("search", "Search", _search(facts, charts)),
        ("trades", "What the front trades", trades_section(facts)),
        ("rejected", "Why others were not chosen", rejected_section(facts)),
        ("winner", "The winner", _winner(facts)),
        ("decisions", "Which decisions matter", decisions_section(facts, charts)),
        ("changes", "What a change would do", changes_section(facts, charts)),
        ("training", "Training", _training(facts, charts)),
        ("test", "Test", _test(facts, charts)),
        ("practice", "How far to trust it", practice_section(facts, charts)),
        ("theory", "What theory says", theory_section(facts)),
        ("baselines", "Baselines", _baselines(facts)),
        ("compression", "Compression", compression_section(facts)),
        ("conditions", "Conditions of every number", conditions_section(facts)),
        ("reproduce", "Reproduce it", _reproduce(facts)),
    )
    for anchor, heading, body in written:
        if body is not None:
            yield anchor, heading, body


def _asked(facts: Facts) -> Html:
    study = facts.study
    space, strategy = facts.get("space") or {}, facts.get("strategy") or {}
    asked = facts.get("budget") or {}
    trials, seconds = (asked.get(k) or getattr(study.budget, k) for k in ("trials", "seconds"))
    budget = [
        plural(trials, "trained trial") if trials else "",
        duration(seconds) if seconds else "",
    ]
    size = space.get("size")
    width = f", {size} architectures" if size else ""
    choices = f", {space['choices']} choices" if space.get("choices") else ""
    command = facts.get("command")
    return pairs(
        [
            ("Command", tag("code", command) if command else None),
            (
                "Objectives" if len(study.objectives) > 1 else "Objective",
                ", ".join(goal(o.metric, o.goal) for o in study.objectives),
            ),
            ("Limits", ", ".join(map(str, study.constraints)) or "none"),
            ("Budget", " and ".join(filter(None, budget)) or "none"),
            ("Space", join(_call(space), width, choices) if space else None),
            ("Strategy", _call(strategy) if strategy else None),
            ("Recipe", _settings(facts.get("recipe"))),
            ("Seed", count(study.seed)),
            ("Study", tag("code", study.name)),
        ]
    )


def _call(part: Mapping[str, Any]) -> Html:
    return join(
        tag("strong", str(part.get("name", ""))), " ", _settings(part.get("arguments")) or ""
    )


def _settings(arguments: object) -> Html | None:
    if not isinstance(arguments, Mapping) or not arguments:
        return None
    shown = ", ".join(f"{name} = {value}" for name, value in arguments.items())
    return tag("span", shown, class_="settings")


def _data(facts: Facts, charts: Charts) -> Html | None:
    data = facts.get("data")
    if not isinstance(data, Mapping):
        return None
    splits = data.get("splits") or {}
    sizes = [f"{count(splits[s])} {s}" for s in ("train", "val", "test") if finite(splits.get(s))]
    image = [data[key] for key in ("channels", "height", "width") if key in data]
    counts = data.get("class_counts") or {}
    chart = balance_figure(facts.classes, counts)
    notes = [tag("li", str(note)) for note in data.get("notes") or ()]
    return join(
        pairs(
            [
                ("Name", str(data["name"]) if data.get("name") else None),
                ("Origin", str(data["origin"]) if data.get("origin") else None),
                ("Samples", count(data["images"]) if "images" in data else None),
                ("Each", f"{shape(image)} (channels, height, width)" if image else None),
                ("Classes", _class_names(facts.classes)),
                ("Splits", f"{', '.join(sizes)}; {splits.get('how', '')}" if sizes else None),
            ]
        ),
        tag("ul", notes, class_="notes") if notes else None,
        charts.place({"": chart}, _balance_in_words(facts.classes, counts)) if chart else None,
    )


def _class_names(classes: Sequence[str]) -> str | None:
    if not classes:
        return None
    shown = ", ".join(classes[:12])
    return f"{len(classes)}: {shown}{' …' if len(classes) > 12 else ''}"


def _balance_in_words(classes: Sequence[str], counts: Mapping[str, Sequence[Any]]) -> str:
    splits = [row for row in counts.values() if row and len(row) == len(classes)]
    totals = [sum(finite(row[i]) or 0 for row in splits) for i in range(len(classes))]
    if not totals or not max(totals):
        return "Samples of each class."
    small, large = min(totals), max(totals)
    if small == large:
        return f"Samples of each class: {count(small)} in all of them."
    return (
        f"Samples of each class: from {count(small)} ({classes[totals.index(small)]}) to "
        f"{count(large)} ({classes[totals.index(large)]})."
    )


def _search(facts: Facts, charts: Charts) -> Html:
    s, study, trials = facts.summary, facts.study, facts.trials
    if not trials:
        return tag("p", "No trial has been started yet.")
    name = label(study.objectives[0].metric)
    winner = _winning_trial(facts)
    parts = [
        f"{plural(len(trials), 'trial')}: {count(s.done)} trained",
        f"{count(s.done - s.feasible)} of them beyond a limit" if s.done > s.feasible else "",
        f"{count(s.rejected)} rejected before training" if s.rejected else "",
        f"{count(s.failed)} failed" if s.failed else "",
        f"{count(s.running)} running" if s.running else "",
    ]
    reasons = [
        tag(
            "li", tag("span", f"{count(n)} × {'such as: ' if n > 1 else ''}", class_="soft"), reason
        )
        for reason, n in ([] if facts.get("explanation", "rejections") else s.reasons[:5])
    ]
    return join(
        tag("p", ", ".join(filter(None, parts)), "."),
        tag("h3", "Progress"),
        charts.place(
            progress_figures(study, trials),
            f"The {name} of every trial, and the best so far that keeps to the limits.",
            "count by",
        )
        or tag("p", "No trial has been measured to the end yet.", class_="soft"),
        _against_cost(facts, charts, winner),
        tag("h3", "Why trials were lost") if reasons else None,
        tag("ul", reasons, class_="notes") if reasons else None,
        folded(f"All {plural(len(trials), 'trial')}", trials_table(study, trials, winner)),
    )


def _against_cost(facts: Facts, charts: Charts, winner: int | None) -> Html | None:
    name = label(facts.study.objectives[0].metric)
    # Baselines were trained in full, trials briefly: the winner's full training stands beside them.
    full = [{**facts.best, "name": "winner"}, *records(facts.result, "baselines")]
    full = [{**record, "name": f"{record.get('name')}, trained in full"} for record in full]
    shown = pareto_figures(facts.study, facts.trials, winner, full)
    about = (
        f"The {name} of the search against what a network costs. On the front, nothing is better "
        "without costing more."
    )
    return (
        join(tag("h3", "What accuracy costs"), charts.place(shown, about, "cost"))
        if shown
        else None
    )


def _winning_trial(facts: Facts) -> int | None:
    number = finite(facts.best.get("trial"))
    if number is not None:
        return int(number)
    return None


def _winner(facts: Facts) -> Html | None:
    best = facts.best
    architecture = best.get("architecture")
    modules = records(best, "modules")
    if not modules and not architecture:
        return None
    drawn = blocks(modules)
    by = best.get("macs_by_operation") or {}
    ranked = sorted(by.items(), key=lambda item: -(finite(item[1]) or 0.0))
    total = sum(finite(macs) or 0.0 for macs in by.values())
    spent = ", ".join(f"{name} {percent((finite(m) or 0) / total)}" for name, m in ranked if total)
    return join(
        pairs(
            [
                ("Fingerprint", tag("code", str(best.get("fingerprint", "")))),
                ("Genotype", tag("code", str(best["genotype"])) if best.get("genotype") else None),
                ("Parameters", count(best["params"]) if "params" in best else None),
                ("MACs", f"{count(best['macs'])} per sample" if "macs" in best else None),
                ("Computation", spent or None),
            ]
        ),
        tag(
            "figure",
            graph(drawn, 5, "wide"),
            graph(drawn, 2, "narrow"),
            tag(
                "figcaption",
                "The blocks in order of execution: output shape, and share of all MACs (the bar is "
                "full for the costliest block). The deeper the tint, the lower the resolution.",
            ),
            class_="network",
        )
        if drawn
        else None,
        folded(f"All {plural(len(architecture), 'decision')}", decisions_table(architecture))
        if isinstance(architecture, Mapping)
        else None,
        folded(f"All {plural(len(modules), 'module')}", modules_table(modules))
        if modules
        else None,
    )


def _training(facts: Facts, charts: Charts) -> Html | None:
    baselines = records(facts.result, "baselines")
    finalists = sorted(
        records(facts.result, "finalists"), key=lambda f: -(finite(f.get("val_accuracy")) or 0.0)
    )
    place = charts.place(
        curve_figures(facts.best, finalists, baselines),
        "Training from scratch, epoch by epoch: every seed of the winner, the other finalists, and "
        "the baselines. The first epochs may lie below the frame: double-click to see them.",
        "metric",
    )
    names = ("epochs", "seeds")
    said = [(label(n).capitalize(), count(facts.best[n])) for n in names if n in facts.best]
    items = [
        tag(
            "li",
            f"Trial {final.get('trial', '–')}: {percent(final.get('search_val_accuracy'))} in the "
            f"search, {percent(final.get('val_accuracy'))} trained in full, "
            f"{amount(final.get('params'))} parameters",
        )
        for final in finalists
    ]
    if place is None and not items:
        return None
    listed = join(tag("h3", "Finalists, by validation accuracy"), tag("ul", items, class_="notes"))
    return join(pairs(said) if said else None, place, listed if items else None)


def _test(facts: Facts, charts: Charts) -> Html | None:
    metrics = facts.best.get("metrics")
    if not isinstance(metrics, Mapping):
        return None
    names = ("accuracy", "top5_accuracy", "precision", "recall", "f1", "auc", "loss")
    averaged = ("precision", "recall", "f1", "auc")
    shown = [
        (f"{label(n)}, macro" if n in averaged else label(n), metric(n, metrics[n]))
        for n in names
        if finite(metrics.get(n)) is not None
    ]
    n = facts.tested
    counts = metrics.get("confusion")
    figure = confusion_figure(facts.classes, counts) if isinstance(counts, Sequence) else None
    about = "Confusion matrix: rows are true classes, columns predicted ones. "
    mistakes = _mistakes(facts.classes, counts) if figure else ""
    return join(
        tag("p", f"Measured on {count(n)} test samples that the search never saw.") if n else None,
        pairs(shown, "figures"),
        tag("h3", "What is taken for what") if figure else None,
        charts.place({"": figure}, about + mistakes) if figure else None,
        classes_table(metrics),
    )


def _mistakes(classes: Sequence[str], counts: Any) -> str:
    """Name the most frequent confusions in words."""
    size = range(len(classes))
    wrong = sorted(((counts[i][j] or 0, i, j) for i in size for j in size if i != j), reverse=True)
    worst = [f"{classes[i]} for {classes[j]} ({n}×)" for n, i, j in wrong[:3] if n]
    return f"Most often mistaken: {', '.join(worst)}." if worst else "No mistakes at all."


def _baselines(facts: Facts) -> Html | None:
    if len(facts.rivals) < 2:
        return None
    return join(
        tag("p", "What the search must beat: other networks under the same conditions."),
        baselines_table(facts),
    )


def _reproduce(facts: Facts) -> Html:
    name = shlex.quote(facts.study.name)
    commands = [
        *(
            [(str(facts.get("command")), "in another folder: search again, from the start")]
            if facts.get("command")
            else []
        ),
        (f"parti resume {name}", "go on where it stopped"),
        (f"parti report {name}", "write this page again"),
    ]
    if facts.best:
        commands += [
            (f"parti export {name} --to onnx", "write the model file"),
            (f"parti predict {name} IMAGE", "classify images with the model"),
            (f"parti compress {name}", "make the model smaller"),
            (f"parti serve {name}", "answer over HTTP with the model"),
        ]
    lines = [tag("div", tag("code", command), tag("span", what)) for command, what in commands]
    files = facts.get("files") or {}
    return join(
        tag("div", lines, class_="commands"),
        tag("h3", "Files") if files else None,
        pairs([(kind, tag("code", str(path))) for kind, path in files.items()]) if files else None,
    )
