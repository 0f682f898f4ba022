"""Numbers, times and metric names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean, stdev
from typing import Any

from parti.proxies.catalogue import TITLES

__all__ = [
    "amount",
    "count",
    "duration",
    "finite",
    "goal",
    "label",
    "limit",
    "mean_spread",
    "metric",
    "moment",
    "percent",
    "plural",
    "shape",
]

NONE = "–"
"""Stands where a number is not known."""

_THIN = "\u202f"  # a narrow space that does not break: groups digits, parts numbers and units

_LABELS = {
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "val_accuracy_corrupted": "validation accuracy, corrupted images",
    "val_accuracy_fgsm": "validation accuracy under FGSM",
    "val_accuracy_pgd": "validation accuracy under PGD",
    "val_accuracy_label_noise": "validation accuracy after label noise",
    "val_loss": "validation loss",
    "val_precision": "validation precision",
    "val_recall": "validation recall",
    "val_f1": "validation F1",
    "val_auc": "validation AUC",
    "train_loss": "training loss",
    "params": "parameters",
    "macs": "MACs",
    "activation_bytes": "activation memory",
    "latency_ms": "latency",
    "latency_p95_ms": "latency, 95th percentile",
    "energy_mj": "energy",
    "top5_accuracy": "top-5 accuracy",
    "val_top5_accuracy": "validation top-5 accuracy",
    "auc": "AUC",
    "f1": "F1",
}

_COUNTED = ("params", "macs")
_SHARES = ("accuracy", "precision", "recall", "f1", "iou", "dice")


def finite(value: Any) -> float | None:
    """Return a value as a float, or None when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def label(name: str) -> str:
    """Return a metric's name in words."""
    proxy = TITLES.get(name.removeprefix("proxy_")) if name.startswith("proxy_") else None
    return proxy or _LABELS.get(name, name.replace("_", " "))


def is_share(name: str) -> bool:
    """Whether a metric is a share from 0 to 1, shown in per cent."""
    return name.endswith(_SHARES) or name.startswith("val_accuracy_")


def percent(value: Any, digits: int = 1) -> str:
    """Return a share from 0 to 1 in per cent."""
    number = finite(value)
    return NONE if number is None else f"{100 * number:.{digits}f}{_THIN}%"


def count(value: Any) -> str:
    """Return a whole number in full, its digits in groups of three."""
    number = finite(value)
    return NONE if number is None else f"{number:,.0f}".replace(",", _THIN)


def amount(value: Any) -> str:
    """Return a large number in three digits and a letter: k thousand, M million, G billion."""
    number = finite(value)
    if number is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            return f"{_three(number / size)}{_THIN}{letter}"
    return _three(number)


def _three(number: float) -> str:
    if number == round(number) and abs(number) < 1000:
        return f"{number:.0f}"
    if not 1e-4 <= abs(number) < 1e15:
        return f"{number:.2e}"
    digits = 2 - math.floor(math.log10(abs(float(f"{number:.3g}"))))
    return f"{number:.{max(0, digits)}f}"


def duration(seconds: Any) -> str:
    """Return seconds as a time of two units at most."""
    number = finite(seconds)
    if number is None:
        return NONE
    if number < 1:
        return f"{1000 * number:.0f}{_THIN}ms"
    if number < 59.95:
        return f"{_three(number) if number < 10 else f'{number:.0f}'}{_THIN}s"
    whole = round(number)
    for size, unit, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size}{_THIN}{unit} {whole % size // part}{_THIN}{small}"
    return f"{whole // 60}{_THIN}min {whole % 60}{_THIN}s"


def metric(name: str, value: Any) -> str:
    """Return a metric's value with its unit."""
    number = finite(value)
    if number is None:
        return NONE
    if is_share(name):
        return percent(number)
    if name == "auc":
        return f"{number:.4f}"
    if name.endswith("_ms"):
        return f"{_three(number)}{_THIN}ms"
    if name.endswith("_bytes"):
        return f"{amount(number)}B" if number >= 1000 else f"{number:.0f}{_THIN}B"
    if name.endswith("_mj"):
        return f"{_three(number)}{_THIN}mJ"
    if name == "seconds" or name.endswith("_seconds"):
        return duration(number)
    return amount(number) if number == round(number) or abs(number) >= 1000 else _three(number)


def mean_spread(values: Sequence[Any]) -> str:
    """Return mean ± sample standard deviation of shares; the mean alone for a single value."""
    numbers = [number for number in map(finite, values) if number is not None]
    if not numbers:
        return NONE
    if len(numbers) == 1:
        return percent(numbers[0])
    return f"{100 * fmean(numbers):.1f} ± {100 * stdev(numbers):.1f}{_THIN}%"


def moment(value: str | datetime | None) -> str:
    """Return an ISO date and time, or a datetime, as day, month, year and time."""
    if isinstance(value, str):
        try:
            return moment(datetime.fromisoformat(value))
        except ValueError:
            return value
    if value is None:
        return NONE
    zone = f" {value.tzname()}" if value.tzinfo else ""
    return f"{value.day} {value:%b %Y, %H:%M}{zone}"


def shape(sizes: Any) -> str:
    """Return the sizes of a tensor, without the batch, with multiplication signs."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        return NONE
    return f"{_THIN}×{_THIN}".join(str(size) for size in sizes)


def plural(n: int, noun: str) -> str:
    """Return a count and its noun: `1 trial`, `2 trials`."""
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def goal(name: str, wanted: str) -> str:
    """Return an objective in words: `highest validation accuracy`, `fewest parameters`."""
    counted = name in _COUNTED
    most, least = ("most", "fewest") if counted else ("highest", "lowest")
    return f"{most if wanted == 'max' else least} {label(name)}"


def limit(name: str, words: str, value: float) -> str:
    """Return a limit in words: `at most 100 k parameters`, `latency at most 5 ms`."""
    if name in _COUNTED:
        return f"{words} {metric(name, value)} {label(name)}"
    return f"{label(name)} {words} {metric(name, value)}"


def opened(times: Any) -> str:
    """Return how often the test split has been opened: "opened once", "opened for the 2nd time".

    The first time ends a search; later ones are for further networks of its supernet.
    """
    number = int(finite(times) or 1)
    if number <= 1:
        return "opened once"
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"opened for the {number}{ending or 'th'} time"
