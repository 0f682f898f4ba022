"""95 % intervals of all metrics of a classifier, from one stratified bootstrap.

The area under the ROC curve is resampled by its first-order terms: each image's placement, the
share of images of the other side that it is rightly ordered with (E. R. DeLong, D. M. DeLong and
D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves", Biometrics 44, 1988). Ranks are computed once, not for every resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from parti.tasks.calibration import BINS, bin_numbers
from parti.tasks.intervals import bootstrap, wilson

__all__ = ["HOW", "LEVEL", "RESAMPLES", "Confidence", "auc_by_class", "confidence", "divergence"]

LEVEL = 0.95
RESAMPLES = 1_000

HOW = (
    "95 % intervals. Accuracies, and precision and recall of a class: Wilson's score interval. "
    "All others: bootstrap, {resamples} resamples within each class, seed {seed}, percentiles; AUC "
    "by its first-order terms (DeLong); calibration errors and the divergence of predictions, "
    "which chance alone makes larger than they are, by reflected percentiles: such an interval "
    "may lie below the measured value."
)

BIASED = ("prediction_kl", "ece", "ece_adaptive")
"""Sums of absolute or convex errors: noise never cancels in them, so resampling adds to them."""

Interval = list[float]


@dataclass(frozen=True, slots=True)
class Confidence:
    """Intervals of metrics.

    Args:
        overall: metric to [lower, upper].
        by_class: for each class the same; a metric that it does not have is left out.
    """

    overall: dict[str, Interval]
    by_class: tuple[dict[str, Interval], ...]


def divergence(predicted: Tensor, support: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of what is predicted from what there is, in nats.

    Args:
        predicted: (classes, ...), how often each class is predicted.
        support: (classes,), how often each class occurs.

    Returns:
        (...) float64, 0 when each class is predicted as often as it occurs; infinite when a class
        is predicted that does not occur.
    """
    predicted = predicted.double()
    p = predicted / predicted.sum(0)
    q = (support.double() / support.sum()).reshape(-1, *[1] * (predicted.ndim - 1))
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(0)


def auc_by_class(shares: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve of each class against the rest, and its terms.

    Args:
        shares: (n, classes) probabilities.
        labels: (n,).

    Returns:
        (classes,) areas, NaN where a class holds no image or all of them; (n, classes) float32
        terms, in which a resample with counts `c` (per class as many as there are) has the areas
        `terms.T @ c - areas`.
    """
    n, classes = shares.shape
    areas = torch.full((classes,), torch.nan, dtype=torch.float64)
    terms = torch.zeros(n, classes)
    for label in range(classes):
        own = labels == label
        count = int(own.sum())
        if not 0 < count < n:
            continue
        inside = shares[own, label]
        outside = shares[~own, label]
        above = _share_below(outside, inside)
        terms[own, label] = (above / count).float()
        terms[~own, label] = ((1 - _share_below(inside, outside)) / (n - count)).float()
        areas[label] = above.mean()
    return areas, terms


def _share_below(others: Tensor, values: Tensor) -> Tensor:
    """(values,) the share of others below each value; equal ones count half."""
    ordered, values = others.contiguous().sort().values, values.contiguous()
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto).double() / (2 * len(ordered))


def confidence(
    logits: Tensor,
    labels: Tensor,
    areas: Tensor,
    terms: Tensor,
    *,
    top5: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Confidence:
    """Compute the intervals of all metrics of a report.

    Args:
        logits: (n, classes) float32, on the CPU.
        labels: (n,) int64, on the CPU.
        areas: as `auc_by_class` gives them.
        terms: likewise.
        top5: how many images have their class among the five likeliest; None without.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The intervals, of the names that the report uses.
    """
    n, classes = logits.shape
    resampled = _Resampled(logits, labels, areas, terms)
    bounds = bootstrap(resampled, labels, resamples=resamples, level=LEVEL, seed=seed)
    values = {
        name: bounds[start : start + length].tolist()
        for name, (start, length) in resampled.places.items()
    }
    measured = resampled(torch.ones(n, 1)).squeeze(1)
    for name in BIASED:
        estimate = measured[resampled.places[name][0]].item()
        low, high = values[name][0]
        if _finite(low) and _finite(high):
            values[name] = [[max(0.0, 2 * estimate - high), max(0.0, 2 * estimate - low)]]
    right = (resampled.guess == labels).double()
    overall = {"accuracy": _interval(right.sum().item(), n)}
    if top5 is not None:
        overall["top5_accuracy"] = _interval(top5, n)
    for name in resampled.overall:
        if all(map(_finite, values[name][0])):
            overall[name] = values[name][0]
    support, predicted = (x.bincount(minlength=classes) for x in (labels, resampled.guess))
    hits = labels[right.bool()].bincount(minlength=classes)
    rows = []
    for label in range(classes):
        row = {}
        for name, whole in (("precision", predicted), ("recall", support)):
            if whole[label]:
                row[name] = _interval(hits[label].item(), int(whole[label]))
        if support[label]:
            row |= {
                name: values[f"{name}_by_class"][label]
                for name in ("f1", "auc", "loss")
                if all(map(_finite, values[f"{name}_by_class"][label]))
            }
        rows.append(row)
    return Confidence(overall, tuple(rows))


def _interval(successes: float, n: int) -> Interval:
    return list(wilson(successes, n, LEVEL))


def _finite(value: float) -> bool:
    return value - value == 0


class _Resampled:
    """All metrics of many resamples at once, from how often each image was drawn."""

    overall = (
        "precision",
        "recall",
        "f1",
        "auc",
        "loss",
        "prediction_kl",
        "brier",
        "ece",
        "ece_adaptive",
    )
    by_class = ("f1_by_class", "auc_by_class", "loss_by_class")

    def __init__(self, logits: Tensor, labels: Tensor, areas: Tensor, terms: Tensor) -> None:
        self.n, self.classes = logits.shape
        self.labels, self.areas, self.terms = labels, areas.float(), terms
        shares = logits.double().softmax(1)
        own = shares.gather(1, labels[:, None]).squeeze(1)
        sure, self.guess = shares.max(1)
        self.right = self.guess == labels
        self.gap = (self.right.double() - sure).float()[:, None]
        self.bins = {
            "ece": bin_numbers(sure, BINS),
            "ece_adaptive": bin_numbers(sure, BINS, adaptive=True),
        }
        self.loss = F.cross_entropy(logits.double(), labels, reduction="none").float()
        self.brier = (shares.square().sum(1) - 2 * own + 1).float()
        self.support = labels.bincount(minlength=self.classes).float()[:, None]

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """Where each metric stands in the rows of the result, and how many rows it has."""
        found = {name: (place, 1) for place, name in enumerate(self.overall)}
        start = len(self.overall)
        for place, name in enumerate(self.by_class):
            found[name] = (start + place * self.classes, self.classes)
        return found

    def __call__(self, counts: Tensor) -> Tensor:
        """(n, b) counts to (rows, b) metrics."""
        n, support = self.n, self.support
        hits = self._sums(self.classes, self.labels[self.right], counts[self.right])
        predicted = self._sums(self.classes, self.guess, counts)
        seen = (predicted + support > 0).float()
        precision, recall = hits / predicted.clamp(min=1), hits / support.clamp(min=1)
        f1 = 2 * hits / (predicted + support).clamp(min=1)
        areas = (self.terms.T @ counts - self.areas[:, None]).clamp(0, 1)
        weighted = self.loss[:, None] * counts
        rows = [(x * seen).sum(0) / seen.sum(0) for x in (precision, recall, f1)]
        rows += [areas.mean(0), weighted.sum(0) / n]
        kl = divergence(predicted, support.squeeze(1))
        rows += [kl.where(kl.isfinite(), torch.nan), self.brier @ counts / n]
        for numbers in self.bins.values():
            rows.append(self._sums(BINS, numbers, self.gap * counts).abs().sum(0) / n)
        losses = self._sums(self.classes, self.labels, weighted) / support.clamp(min=1)
        return torch.cat([torch.stack([row.float() for row in rows]), f1, areas, losses])

    def _sums(self, groups: int, numbers: Tensor, counts: Tensor) -> Tensor:
        """(groups, b) sums of counts (n, b) by the numbers (n,) of their groups."""
        return torch.zeros(groups, counts.shape[1]).index_add_(0, numbers, counts)
