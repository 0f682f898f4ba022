"""What the exported winner answered on each test image, kept so that studies can be compared.

Kept when the test split is opened, so that it need not be opened again.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from parti.tasks.values import ImageData, Splits

__all__ = ["Predictions", "keep_predictions", "load_predictions"]

FILE = "test-predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Answers on test images.

    Args:
        labels: the true classes, shape (images,).
        answers: the predicted classes, shape (images,).
        images: a fingerprint of which images these are, in which order.
    """

    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    images: str

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is the true class."""
        found: NDArray[np.bool_] = self.answers == self.labels
        return found


def keep_predictions(
    folder: Path, data: ImageData, splits: Splits, labels: Any, logits: NDArray[np.float32]
) -> None:
    """Write down what was answered on the test images.

    Args:
        folder: of the study.
        data: all images.
        splits: says which of them are the test images.
        labels: the true classes of these, [n].
        logits: what the exported model computed, [n, classes].
    """
    places = np.asarray(splits.test, dtype=np.int64).tobytes()
    images = blake2b(data.fingerprint.encode() + places, digest_size=16).hexdigest()
    np.savez_compressed(
        folder / FILE,
        labels=np.asarray(labels, dtype=np.int64),
        answers=logits.argmax(axis=1).astype(np.int64),
        images=np.array(images),
    )


def load_predictions(folder: Path) -> Predictions | None:
    """Return what a study answered; None for a study that did not keep it.

    Args:
        folder: of the study.
    """
    if not (folder / FILE).exists():
        return None
    with np.load(folder / FILE, allow_pickle=False) as kept:
        return Predictions(kept["labels"], kept["answers"], str(kept["images"]))
