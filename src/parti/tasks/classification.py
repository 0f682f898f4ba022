"""How classifiers are judged: metrics for a search, and a report on the final model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from parti.core.errors import Diverged, InvalidData

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

    logits, labels = _checked(logits, labels)
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


def report(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Measure predictions in full, as JSON values.

    Args:
        logits: (n, classes).
        labels: (n,).
        classes: name of each class.

    Returns:
        The metrics; `per_class`, a list of class, precision, recall, f1 and support (how many
        images are of it); `confusion`, rows of counts: one row for each true class, one column
        for each predicted class.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    logits, labels = _checked(logits, labels)
    if logits.shape[1] != len(classes):
        raise InvalidData(f"logits for {logits.shape[1]} classes, and {len(classes)} class names")
    found = {name: values.tolist() for name, values in _per_class(logits, labels).items()}
    confusion = multiclass_confusion_matrix(logits, labels, len(classes), validate_args=False)
    return {
        **metrics(logits, labels),
        "per_class": [
            {
                "class": name,
                "precision": found["precision"][i],
                "recall": found["recall"][i],
                "f1": found["f1"][i],
                "support": found["support"][i],
            }
            for i, name in enumerate(classes)
        ],
        "confusion": confusion.tolist(),
    }


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


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise InvalidData(
            f"logits {tuple(logits.shape)} with labels {tuple(labels.shape)}; needed are (n, "
            "classes) and (n,), of at least one image"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise InvalidData(
            f"labels from {int(labels.min())} to {int(labels.max())} with {logits.shape[1]} "
            f"classes; they must lie in 0..{logits.shape[1] - 1}"
        )
    logits = logits.detach().float()
    if not bool(torch.isfinite(logits).all()):
        raise Diverged("the network's outputs hold NaN or infinity; train it with a lower lr")
    return logits, labels.detach().to(logits.device, torch.int64)
