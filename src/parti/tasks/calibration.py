"""Whether a classifier's probabilities can be believed: calibration, and how to mend it.

- Expected calibration error, reliability diagram and temperature scaling: C. Guo, G. Pleiss,
  Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.
- Bins of equal numbers of images: K. Nguyen and B. O'Connor, "Posterior calibration and exploratory
  analysis for natural language processing models", EMNLP 2015. Departure: images of equal
  confidence share a bin, so that the order of the images does not matter.
- Calibration of each class by itself: M. Kull et al., "Beyond temperature scaling", NeurIPS 2019.
- Brier score: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly
  Weather Review 78, 1950.

Confidence is the largest probability (softmax of the logits) of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from parti.core.errors import InvalidSettings
from parti.tasks.logits import checked_logits

__all__ = [
    "BINS",
    "Bin",
    "bin_numbers",
    "brier_by_class",
    "brier_score",
    "calibration_error",
    "calibration_error_by_class",
    "fit_temperature",
    "reliability",
]

BINS = 15
"""The usual number of bins (Guo et al. 2017, section 5)."""

COLDEST, HOTTEST = 0.01, 100.0
"""The range in which a temperature is sought."""

HALVINGS = 48
"""After so many the temperature is known to 14 digits."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Images of similar confidence: a bar of a reliability diagram.

    Args:
        low: from which confidence.
        high: up to which confidence.
        n: how many images.
        confidence: their mean confidence.
        accuracy: the share of them that is classified right.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(
    logits: Tensor, labels: Tensor, *, bins: int = BINS, adaptive: bool = False
) -> tuple[Bin, ...]:
    """Group images by confidence, for a reliability diagram.

    Args:
        logits: (n, classes).
        labels: (n,).
        bins: how many at most.
        adaptive: bins of about equally many images instead of equal width.

    Returns:
        The bins that hold images, by confidence. With equal widths bin m covers confidences over
        (m - 1) / bins up to m / bins.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
        InvalidSettings: there are no bins.
    """
    confidence, right = _confidences(logits, labels)
    numbers = bin_numbers(confidence, bins, adaptive=adaptive)
    found = []
    for number in sorted(set(numbers.tolist())):
        inside = numbers == number
        own = confidence[inside]
        low, high = (
            (own.min().item(), own.max().item())
            if adaptive
            else (number / bins, (number + 1) / bins)
        )
        accuracy = right[inside].mean().item()
        found.append(Bin(low, high, int(inside.sum()), own.mean().item(), accuracy))
    return tuple(found)


def calibration_error(
    logits: Tensor, labels: Tensor, *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Return the expected calibration error (ECE).

    The mean over images of how far, in their bin, the mean confidence is from the accuracy
    (Guo et al. 2017, equation 3).

    Args:
        logits: (n, classes).
        labels: (n,).
        bins: how many at most.
        adaptive: bins of about equally many images instead of equal width.

    Returns:
        From 0, calibrated, to 1.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
        InvalidSettings: there are no bins.
    """
    confidence, right = _confidences(logits, labels)
    numbers = bin_numbers(confidence, bins, adaptive=adaptive)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, numbers, right - confidence)
    return gaps.abs().sum().item() / len(labels)


def calibration_error_by_class(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> list[float]:
    """Return the calibration error of each class against the rest.

    As `calibration_error` with bins of equal width, but of the probability of one class, for all
    images, against the share of that class among them (Kull et al. 2019, equation 3).

    Args:
        logits: (n, classes).
        labels: (n,).
        bins: how many.

    Returns:
        A value for each class.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
        InvalidSettings: there are no bins.
    """
    logits, labels = checked_logits(logits, labels)
    shares = logits.cpu().double().softmax(1)
    n, classes = shares.shape
    numbers = bin_numbers(shares.flatten(), bins) * classes + torch.arange(classes).repeat(n)
    gaps = _one_hot(labels, classes) - shares
    sums = torch.zeros(bins * classes, dtype=torch.float64).index_add_(0, numbers, gaps.flatten())
    found: list[float] = (sums.view(bins, classes).abs().sum(0) / n).tolist()
    return found


def brier_by_class(logits: Tensor, labels: Tensor) -> list[float]:
    """Return the mean squared error of each class' probability; they sum to the Brier score.

    Args:
        logits: (n, classes).
        labels: (n,).

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    logits, labels = checked_logits(logits, labels)
    shares = logits.cpu().double().softmax(1)
    found: list[float] = (shares - _one_hot(labels, shares.shape[1])).square().mean(0).tolist()
    return found


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """Return the Brier score: the squared error of the probabilities, summed over classes.

    Args:
        logits: (n, classes).
        labels: (n,).

    Returns:
        The mean over images, from 0, certain and right, to 2, certain and wrong.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    return math.fsum(brier_by_class(logits, labels))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature whose softmax(logits / temperature) fits labels best.

    Fit it on validation images, then divide logits by it: no prediction changes, only how
    confident it is (Guo et al. 2017, section 4.2). The log-loss is convex in the inverse
    temperature, so halving the interval in which its slope changes sign finds the one minimum.

    Args:
        logits: (n, classes), of images that the network was not trained on.
        labels: (n,).

    Returns:
        Over 1 for a network that is too confident, under 1 for one that is not enough; 0.01 or
        100 where the best lies beyond, as when every image is right.

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    logits, labels = checked_logits(logits, labels)
    wide = logits.cpu().double()
    right = wide.gather(1, labels.cpu()[:, None]).mean()
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # The slope of the log-loss in b = 1 / temperature: E[mean logit under the softmax] - right.
        slope = ((wide * math.exp(middle)).softmax(1) * wide).sum(1).mean() - right
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def bin_numbers(confidence: Tensor, bins: int = BINS, *, adaptive: bool = False) -> Tensor:
    """Return the number of the bin of each confidence.

    Args:
        confidence: (n,) from 0 to 1.
        bins: how many at most.
        adaptive: bins of about equally many images instead of equal width; equal confidences
            share one.

    Returns:
        (n,) int64 from 0 to bins - 1.

    Raises:
        InvalidSettings: there are no bins.
    """
    if bins < 1:
        raise InvalidSettings(f"{bins} bins: at least 1 is needed, usual are {BINS}")
    if not adaptive:
        return ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    ordered = confidence.sort().values
    cuts = (torch.arange(1, bins) * len(ordered) / bins).ceil().long().clamp(max=len(ordered) - 1)
    return torch.bucketize(confidence, ordered[cuts], right=True)


def _confidences(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each (n,) float64: the largest probability, and 1 where it is that of the label."""
    logits, labels = checked_logits(logits, labels)
    confidence, guess = logits.cpu().double().softmax(1).max(1)
    return confidence, (guess == labels.cpu()).double()


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels.cpu(), classes).double()
