"""How classifiers are judged: metrics for a search, and a report on the final model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from parti.core.errors import InvalidData
from parti.tasks.calibration import (
    brier_by_class,
    brier_score,
    calibration_error,
    calibration_error_by_class,
    fit_temperature,
    reliability,
)
from parti.tasks.confidence import HOW, RESAMPLES, auc_by_class, confidence, divergence
from parti.tasks.logits import checked_logits

__all__ = ["accuracy", "metrics", "report"]

TOP = 5


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is that of their class.

    Args:
        logits: (n, classes), n at least 1.
        labels: (n,) whole numbers.
    """
    return (logits.argmax(1) == labels).double().mean().item()


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure predictions.

    Precision, recall and F1 are means over the classes that occur, in the labels or in the
    predictions.

    Args:
        logits: (n, classes) of any float type, n and classes at least 1 and 2.
        labels: (n,) whole numbers from 0 to classes - 1.

    Returns:
        accuracy, precision, recall, f1, loss (cross entropy, in nats); top5_accuracy with more
        than 5 classes; auc (area under the ROC curve, the mean of each class against the rest)
        where every class occurs in the labels.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_auroc

    logits, labels = checked_logits(logits, labels)
    classes = logits.shape[1]
    macro = _per_class(logits, labels)
    seen = macro["support"] + macro["predicted"] > 0
    measured = {
        "accuracy": accuracy(logits, labels),
        **{name: macro[name][seen].mean().item() for name in ("precision", "recall", "f1")},
        "loss": F.cross_entropy(logits, labels).item(),
    }
    if classes > TOP:
        measured["top5_accuracy"] = multiclass_accuracy(
            logits, labels, classes, average="micro", top_k=TOP, validate_args=False
        ).item()
    if bool((macro["support"] > 0).all()) and classes > 1:
        measured["auc"] = multiclass_auroc(
            logits.softmax(1), labels, classes, average="macro", validate_args=False
        ).item()
    return measured


def report(
    logits: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure predictions in full, as JSON values.

    Args:
        logits: (n, classes).
        labels: (n,).
        classes: name of each class.
        validation: logits and labels of validation images, to fit a temperature on; None to fit
            none.
        resamples: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.

    Returns:
        The metrics; `prediction_kl`, the Kullback-Leibler divergence in nats of how often classes
        are predicted from how often they occur, left out where it is infinite; `brier`, `ece` and
        `ece_adaptive`; `reliability`, the bins of both; `confusion`, rows of counts: one row for
        each true class, one column for each predicted class; `per_class`, a list of class,
        precision, recall, f1, support (how many images are of it), predicted (how many are taken
        for it), auc, loss (of the images of this class; both None where they cannot be), brier
        and ece of its probability, and intervals; `intervals`, the 95 % bounds of each metric,
        and `intervals_how`, how they were made; with validation images `temperature`, how it was
        fitted and what the metrics would be with it.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    logits, labels = (part.cpu() for part in checked_logits(logits, labels))
    if logits.shape[1] != len(classes):
        raise InvalidData(f"logits for {logits.shape[1]} classes, and {len(classes)} class names")
    measured = metrics(logits, labels)
    by_class = _per_class(logits, labels)
    areas, terms = auc_by_class(logits.softmax(1), labels)
    losses = _loss_by_class(logits, labels)
    bounds = None
    if resamples:
        top5 = measured.get("top5_accuracy")
        bounds = confidence(
            logits,
            labels,
            areas,
            terms,
            top5=None if top5 is None else round(top5 * len(labels)),
            resamples=resamples,
            seed=seed,
        )
    columns = {
        **{name: by_class[name].tolist() for name in ("precision", "recall", "f1", "support")},
        "predicted": by_class["predicted"].tolist(),
        "auc": [None if math.isnan(area) else area for area in areas.tolist()],
        "loss": [None if math.isnan(loss) else loss for loss in losses.tolist()],
        "brier": brier_by_class(logits, labels),
        "ece": calibration_error_by_class(logits, labels),
    }
    if bounds is not None:
        columns["intervals"] = list(bounds.by_class)
    confusion = multiclass_confusion_matrix(logits, labels, len(classes), validate_args=False)
    kl = divergence(by_class["predicted"], by_class["support"]).item()
    found: dict[str, Any] = {
        **measured,
        **({"prediction_kl": kl} if math.isfinite(kl) else {}),
        "brier": brier_score(logits, labels),
        **_calibration(logits, labels),
        "reliability": {
            name: [asdict(one) for one in reliability(logits, labels, adaptive=adaptive)]
            for name, adaptive in (("equal", False), ("adaptive", True))
        },
        "per_class": [
            {"class": name, **{key: column[place] for key, column in columns.items()}}
            for place, name in enumerate(classes)
        ],
        "confusion": confusion.tolist(),
    }
    if bounds is not None:
        found["intervals"] = bounds.overall
        found["intervals_how"] = HOW.format(resamples=resamples, seed=seed)
    if validation is not None:
        found["temperature"] = _tempered(logits, labels, *validation)
    return found


def _calibration(logits: Tensor, labels: Tensor) -> dict[str, float]:
    return {
        "ece": calibration_error(logits, labels),
        "ece_adaptive": calibration_error(logits, labels, adaptive=True),
    }


def _tempered(logits: Tensor, labels: Tensor, *validation: Tensor) -> dict[str, float]:
    """What a temperature fitted on validation images would make of these."""
    value = fit_temperature(*validation)
    cooled = logits / value
    return {
        "value": value,
        "fitted_on": len(validation[1]),
        "loss": F.cross_entropy(cooled, labels).item(),
        "brier": brier_score(cooled, labels),
        **_calibration(cooled, labels),
    }


def _loss_by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """(classes,) mean log-loss of the images of each class; NaN without any."""
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    classes = logits.shape[1]
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, losses)
    return sums / labels.bincount(minlength=classes)


def _per_class(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Each of (classes,): precision, recall, f1, support and how often it is predicted."""
    from torchmetrics.functional.classification import multiclass_stat_scores

    scores = multiclass_stat_scores(
        logits, labels, logits.shape[1], average=None, validate_args=False
    )
    hit, false, _, missed, support = scores.unbind(1)
    return {
        "precision": hit / (hit + false).clamp(min=1),
        "recall": hit / support.clamp(min=1),
        "f1": 2 * hit / (2 * hit + false + missed).clamp(min=1),
        "support": support,
        "predicted": hit + false,
    }
