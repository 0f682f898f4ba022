"""How much a network suffers when some of the labels it learns from are wrong.

Symmetric noise, as in C. Zhang, S. Bengio, M. Hardt, B. Recht and O. Vinyals, "Understanding deep
learning requires rethinking generalization", ICLR 2017, and most work on noisy labels since: a
share of the training images get another class, each other class equally likely. Departure: exactly
that share is wrong, where the paper draws a new label that may by chance be the right one.
Validation labels stay right. Nothing tells this without training, so it costs a training for each
share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Builder, Evaluator
from parti.core.trial import Job, Measurement
from parti.evaluators.recipe import Recipe
from parti.evaluators.training import Training

if TYPE_CHECKING:
    from parti.tasks.values import SearchData

__all__ = ["METRIC", "SHARE", "LabelNoise", "NoisyLabels", "flipped", "label_noise"]

METRIC = "val_accuracy_label_noise"
"""Validation accuracy of the same network, trained on noisy labels."""

SHARE = 0.2
"""The share of wrong labels in a search."""

FOLDER = "label_noise"


def flipped(data: SearchData, share: float, *, seed: int = 0) -> SearchData:
    """Give a share of the training images another label than theirs.

    Args:
        data: left as it is; the copy shares its images.
        share: how many, from 0 to less than 1; rounded to whole images.
        seed: of which images, and of their labels.

    Returns:
        The same data with other training labels.

    Raises:
        InvalidSettings: the share is not from 0 to less than 1, or there is one class only.
    """
    if not 0 <= share < 1 or data.class_count < 2:
        raise InvalidSettings(
            f"a share of {share} wrong labels among {data.class_count} classes: it must be at "
            "least 0 and less than 1, of at least 2 classes"
        )
    random = np.random.default_rng(seed)
    labels = data.train_labels.copy()
    picks = random.permutation(len(labels))[: round(share * len(labels))]
    others = random.integers(1, data.class_count, len(picks))
    labels[picks] = (labels[picks] + others) % data.class_count
    return replace(data, train_labels=labels)


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """What label noise did to an architecture.

    Args:
        shares: of wrong training labels, 0 first.
        accuracies: on the validation images, whose labels are right, in the same order.
        n: how many validation images there are.
        epochs: of each training.
        seed: of each training, and of the noise.
        seconds: of all trainings together.
    """

    shares: tuple[float, ...]
    accuracies: tuple[float, ...]
    n: int
    epochs: int
    seed: int
    seconds: float

    @property
    def drops(self) -> tuple[float, ...]:
        """How much accuracy each share costs against right labels."""
        return tuple(self.accuracies[0] - value for value in self.accuracies)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "shares": list(self.shares),
            "accuracies": list(self.accuracies),
            "drops": list(self.drops),
            "n": self.n,
            "epochs": self.epochs,
            "seed": self.seed,
            "seconds": self.seconds,
            "conditions": (
                f"trained {len(self.shares)} times for {self.epochs} epochs with seed {self.seed}; "
                f"wrong training labels, any other class equally likely; {self.n} validation images"
            ),
        }


def label_noise(
    space: Builder,
    architecture: Architecture,
    data: SearchData,
    recipe: Recipe | None = None,
    *,
    shares: Sequence[float] = (0.2, 0.4),
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> LabelNoise:
    """Train an architecture on right labels and on noisy ones, and compare.

    The cost is one training for each share, and one more on right labels.

    Args:
        space: builds the network.
        architecture: what is built.
        data: training and validation images.
        recipe: None for `default_recipe(data)`.
        shares: of wrong labels, each more than 0 and less than 1.
        epochs: None for the recipe's.
        seed: of all trainings alike, and of the noise.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Raises:
        InvalidSettings: a share is not allowed.
        TrialError: the network cannot be trained.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise InvalidSettings(f"shares={tuple(shares)}: give at least one, each between 0 and 1")
    every = (0.0, *shares)
    last = []
    for share in every:
        noisy = flipped(data, share, seed=seed)
        training = Training(space, noisy, recipe, epochs=epochs, device=device, threads=threads)
        *_, end = training(Job(architecture, seed=seed))
        last.append(end)
    return LabelNoise(
        shares=every,
        accuracies=tuple(end.metrics["val_accuracy"] for end in last),
        n=len(data.val_labels),
        epochs=last[0].step,
        seed=seed,
        seconds=sum(end.seconds for end in last),
    )


class NoisyLabels:
    """An evaluator that trains each architecture a second time, on noisy labels.

    A trial takes twice as long.

    Args:
        evaluator: measures the architecture with right labels.
        noisy: trains it on labels of which some are wrong: a `Training` on `flipped(data, SHARE)`
            that is otherwise the same.
    """

    def __init__(self, evaluator: Evaluator, noisy: Evaluator) -> None:
        self.evaluator, self.noisy = evaluator, noisy

    @property
    def provides(self) -> frozenset[str]:
        """The metrics of the evaluator, and `val_accuracy_label_noise`."""
        return self.evaluator.provides | {METRIC}

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what the evaluator measures, then the accuracy after noisy labels.

        Checkpoints of the second training lie in a folder of the trial's own.
        """
        last = Measurement({})
        for last in self.evaluator(job):
            yield last
        inner = replace(job, workdir=_inside(job.workdir), continues=_inside(job.continues))
        *_, end = self.noisy(inner)
        accuracy = end.metrics["val_accuracy"]
        yield Measurement({METRIC: accuracy}, last.step, last.seconds + end.seconds)


def _inside(folder: Path | None) -> Path | None:
    return None if folder is None else folder / FOLDER
