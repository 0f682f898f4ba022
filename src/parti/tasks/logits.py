"""What every measure of a classifier starts from: finite logits that fit their labels."""

from __future__ import annotations

import torch
from torch import Tensor

from parti.core.errors import Diverged, InvalidData

__all__ = ["checked_logits"]


def checked_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse logits and labels that cannot be measured.

    Args:
        logits: (n, classes) of any float type.
        labels: (n,) whole numbers from 0 to classes - 1, on any device.

    Returns:
        The logits as float32, cut off from their graph, and the labels as int64 beside them.

    Raises:
        InvalidData: the shapes do not fit, there is no image, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
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
