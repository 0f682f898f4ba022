"""The section of the report on how far the model can be trusted beyond its accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.charts import Charts
from parti.reports.facts import Facts
from parti.reports.figures_practice import (
    attack_figure,
    corruption_figure,
    label_noise_figure,
    reliability_figures,
)
from parti.reports.formats import count, finite, label, metric, percent
from parti.reports.markup import Html, join, tag
from parti.reports.tables import not_measured, pairs, table

__all__ = ["practice_section"]

NAMES = {
    "loss": "log-loss",
    "ece": "calibration error",
    "ece_adaptive": "calibration error, bins of equal number",
    "brier": "Brier score",
    "prediction_kl": "divergence of predictions from labels, nats",
}
AVERAGED = ("precision", "recall", "f1", "auc")


def practice_section(facts: Facts, charts: Charts) -> Html | None:
    """Return intervals, calibration and robustness, as far as they were measured; else None."""
    parts = [
        _intervals(facts.best.get("metrics")),
        _calibration(facts.best.get("metrics"), charts),
        _robustness(facts.best.get("robustness"), charts),
        not_measured(facts.best.get("robustness"), "How it does on worse images"),
        _label_noise(facts.best.get("label_noise"), charts),
        not_measured(facts.best.get("label_noise"), "What wrong labels do"),
    ]
    return join(*parts) if any(part is not None for part in parts) else None


def _intervals(metrics: Any) -> Html | None:
    bounds = metrics.get("intervals") if isinstance(metrics, Mapping) else None
    if not isinstance(bounds, Mapping) or not bounds:
        return None
    rows = []
    for name, pair in bounds.items():
        if not isinstance(pair, Sequence) or len(pair) != 2 or name not in metrics:
            continue
        title = NAMES.get(name, label(name)) + (", macro" if name in AVERAGED else "")
        value, low, high = (metric(name, x) for x in (metrics[name], *pair))
        cells = (tag("td", text, class_="number") for text in (value, f"{low} – {high}"))
        rows.append(tag("tr", tag("th", title, scope="row"), *cells))
    how = metrics.get("intervals_how")
    return join(
        tag("h3", "How sure each number is"),
        table(
            ["metric", "test", "95 % interval"],
            rows,
            "Metrics on the test samples, with intervals that take them for a random draw.",
            numbers=["test", "95 % interval"],
        ),
        tag("p", str(how), class_="note") if how else None,
    )


def _calibration(metrics: Any, charts: Charts) -> Html | None:
    found = metrics.get("reliability") if isinstance(metrics, Mapping) else None
    place = charts.place(
        reliability_figures(found if isinstance(found, Mapping) else {}),
        "Reliability: how often the model is right, by how sure it says it is. Below the line it "
        "is too sure, above it not sure enough.",
        "bins",
    )
    if place is None:
        return None
    error, tempered = finite(metrics.get("ece")), metrics.get("temperature")
    said = (
        f"On average its confidence is {percent(error)} away from how often it is right."
        if error is not None
        else None
    )
    cooled = None
    if isinstance(tempered, Mapping) and finite(tempered.get("value")) is not None:
        cooled = (
            f"Logits divided by a temperature of {tempered['value']:.2f}, fitted on "
            f"{count(tempered.get('fitted_on'))} validation samples, bring that to "
            f"{percent(tempered.get('ece'))} without changing a prediction. Where model.json holds "
            "a temperature, predict.py and the server show probabilities with it."
        )
    return join(
        tag("h3", "Whether its confidence can be believed"),
        tag("p", " ".join(filter(None, (said, cooled)))) if said or cooled else None,
        place,
    )


def _robustness(found: Any, charts: Charts) -> Html | None:
    if not isinstance(found, Mapping):
        return None
    worse, attacks = corruption_figure(found), attack_figure(found)
    if worse is None and attacks is None:
        return None
    return join(
        tag("h3", "Worse images"),
        pairs(
            [
                ("Unchanged", percent(found.get("accuracy"))),
                ("Corrupted, on average", percent(found.get("corrupted_accuracy"))),
                *_weakest(found),
            ],
            "figures",
        ),
        charts.place(
            {"": worse} if worse else {},
            "Accuracy in per cent by corruption and severity, the hardest corruption on top.",
        ),
        charts.place(
            {"": attacks} if attacks else {},
            "Accuracy when each pixel may be changed by so much, by somebody who knows the model.",
        ),
        tag("p", f"Measured on {found['conditions']}.", class_="note")
        if found.get("conditions")
        else None,
    )


def _weakest(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The weakest attack that was tried, in words: what nobody would see."""
    eps, pgd = found.get("eps"), found.get("pgd")
    if not isinstance(eps, Sequence) or not isinstance(pgd, Sequence) or not eps or not pgd:
        return []
    return [(f"Attacked (PGD), eps {eps[0]:g}/255", percent(pgd[0]))]


def _label_noise(found: Any, charts: Charts) -> Html | None:
    made = label_noise_figure(found) if isinstance(found, Mapping) else None
    if made is None:
        return None
    conditions = found.get("conditions")
    return join(
        tag("h3", "Wrong labels"),
        charts.place(
            {"": made},
            "Validation accuracy when the same network learns from labels of which some are wrong.",
        ),
        tag("p", f"The network was {conditions}.", class_="note") if conditions else None,
    )
